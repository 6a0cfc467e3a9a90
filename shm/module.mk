LIB_SRCS += shm/addr.c shm/attach.c shm/fd_host.c shm/fifo.c shm/recycle.c shm/region.c
UNIT_TESTS += tests/unit/notify tests/unit/recycle
