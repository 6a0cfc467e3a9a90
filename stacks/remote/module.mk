LIB_SRCS += stacks/remote/remote.c
