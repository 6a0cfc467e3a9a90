LIB_SRCS += shm/addr.c shm/fifo.c shm/region.c
