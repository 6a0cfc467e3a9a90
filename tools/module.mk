TOOL_SRCS += tools/main.c tools/common.c tools/ctl_client.c tools/verb_load.c \
             tools/verb_status.c tools/verb_sockets.c tools/verb_stats.c tools/verb_rules.c tools/rules_set.c tools/rules_push.c \
             tools/verb_dump.c tools/dump_filter.c tools/verb_ping.c tools/verb_log.c tools/verb_run.c tools/verb_doctor.c tools/doctor_dpdk.c \
             tools/verb_set.c tools/verb_alarms.c tools/verb_top.c tools/top_sample.c tools/top_table.c tools/top_screen.c
TOOL_LIBS = $(shell pkg-config --libs ncurses 2>/dev/null)
$(O)/tools/main.o $(O)/tools/nstackd/main.o $(O)/tools/host.o: CFLAGS += -DNSTACK_VERSION='"$(VERSION)"'
UNIT_TESTS += tests/unit/rd_dump_filter
LINK_rd_dump_filter = $(O)/tools/dump_filter.o
$(O)/tests/unit/rd_dump_filter: $(LINK_rd_dump_filter)

# The daemon: its own files, and what a program's stack consists of without the libc face.
NSTACKD_SRCS := $(sort $(wildcard tools/nstackd/*.c)) nsocket/engine.c nsocket/engine_dpdk.c nsocket/worker.c nsocket/ports.c nsocket/ports_keep.c \
                nsocket/file.c nsocket/lock.c nsocket/libc.c $(sort $(wildcard nsocket/ctl_*.c)) \
                nsocket/observe_engine.c nsocket/observe_ping.c nsocket/to_kernel.c nsocket/to_backlog.c nsocket/repair.c nsocket/inject.c
NSTACKD_OBJS := $(NSTACKD_SRCS:%.c=$(O)/%.o)
PROGRAMS += $(O)/nstackd $(O)/nstack-host
# all of it for those who throw things at it, who have a main() and a clock of their own
$(O)/fuzz/fuzz_attach $(O)/fuzz/fuzz_scribble: FUZZ_LINK = -Wl,--wrap=clock_gettime
$(O)/fuzz/fuzz_attach $(O)/fuzz/fuzz_scribble: \
	$(NSTACKD_SRCS:%.c=$(O)/fuzz/obj/%.o)
$(O)/fuzz/obj/tools/nstackd/main.o: FUZZ_CFLAGS += -Dmain=nstackd_main -DNSTACK_VERSION='"$(VERSION)"'
$(O)/nstackd: $(NSTACKD_OBJS) $(O)/libnstack.a
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(NSTACKD_OBJS) $(O)/libnstack.a $(PKG_LIBS) -ldl

# A plug-in stack in a process of its own: a program that is linked with the library
$(O)/nstack-host: $(O)/tools/host.o $(O)/libnsocket.so
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -L$(O) -lnsocket -Wl,-rpath,'$$ORIGIN:$$ORIGIN/../lib:$(libdir)'
