# Every C file of the folder is part of the preload library.
NSOCKET_SRCS += $(sort $(wildcard nsocket/*.c))

UNIT_TESTS += tests/unit/nsocket_file
LINK_nsocket_file = $(O)/nsocket/file.o $(O)/nsocket/lock.o
$(O)/tests/unit/nsocket_file: $(O)/nsocket/file.o $(O)/nsocket/lock.o

UNIT_TESTS += tests/unit/worker_wakeup
LINK_worker_wakeup = $(O)/nsocket/file.o $(O)/nsocket/lock.o $(O)/nsocket/worker.o $(O)/nsocket/libc.o
$(O)/tests/unit/worker_wakeup: $(O)/nsocket/file.o $(O)/nsocket/lock.o $(O)/nsocket/worker.o $(O)/nsocket/libc.o
