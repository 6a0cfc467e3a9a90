LIB_SRCS += $(wildcard stacks/tcpip/*.c)
