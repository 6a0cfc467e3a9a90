LIB_SRCS += $(wildcard stacks/tcpip/*.c)
UNIT_TESTS += tests/unit/tcp_bulk
