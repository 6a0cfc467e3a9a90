LIB_SRCS += shm/addr.c shm/fd_host.c shm/fifo.c shm/region.c
