# Every C file of the folder is part of the preload library.
NSOCKET_SRCS += $(sort $(wildcard nsocket/*.c nsocket/plugin/*.c))

# The list of calls in the form that plug-in stacks include
DECLARE_SYSCALLS := $(O)/include/nstack/dmm/declare_syscalls.h
$(DECLARE_SYSCALLS): nsocket/declare_syscalls.in nsocket/calls.h
	@mkdir -p $(@D)
	@echo "  GEN     $@"
	$(Q){ echo '/* SPDX-License-Identifier: Apache-2.0 */'; \
	echo '/* nstack/dmm/declare_syscalls.h - the calls of nstack_socket_ops; define NSTACK_MK_DECL first.'; \
	echo ' * Made from nsocket/calls.h. */'; \
	$(CC) -E -P -x c -I. $< | tr ';' '\n' | sed -n 's/^ *\(NSTACK_MK_DECL.*\)/\1;/p'; } >$@.tmp && mv $@.tmp $@

UNIT_TESTS += tests/unit/nsocket_file
LINK_nsocket_file = $(O)/nsocket/file.o $(O)/nsocket/lock.o
$(O)/tests/unit/nsocket_file: $(O)/nsocket/file.o $(O)/nsocket/lock.o

UNIT_TESTS += tests/unit/worker_wakeup
LINK_worker_wakeup = $(O)/nsocket/file.o $(O)/nsocket/lock.o $(O)/nsocket/worker.o $(O)/nsocket/libc.o
$(O)/tests/unit/worker_wakeup: $(O)/nsocket/file.o $(O)/nsocket/lock.o $(O)/nsocket/worker.o $(O)/nsocket/libc.o
