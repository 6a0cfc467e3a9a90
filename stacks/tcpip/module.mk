LIB_SRCS += $(wildcard stacks/tcpip/*.c)
UNIT_TESTS += tests/unit/tcp_bulk tests/unit/ping tests/unit/session_move tests/unit/tcp_edges tests/unit/tcp_soak tests/unit/tcp_states
