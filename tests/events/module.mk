# The event calls against fakes, and programs that tests/events/test_events.py runs.
EV_OBJS := $(addprefix $(O)/nsocket/,ev_set.o ev_kernel.o ev_epoll.o ev_poll.o file.o lock.o libc.o)
EV_UNIT := ev_set ev_churn
UNIT_TESTS += $(EV_UNIT:%=tests/unit/%)
ifeq ($(SAN),thread)
TSAN_RCU_LDFLAGS := $(O)/tests/unit/tsan_rcu.o $(patsubst %,-Wl$(comma)--wrap=%,urcu_bp_read_unlock \
	rcu_set_pointer_sym rcu_dereference_sym urcu_bp_call_rcu fd_install)
$(EV_UNIT:%=$(O)/tests/unit/%): $(O)/tests/unit/tsan_rcu.o
endif
$(foreach t,$(EV_UNIT),$(eval LINK_$(t) = $(EV_OBJS) $(TSAN_RCU_LDFLAGS)))
$(EV_UNIT:%=$(O)/tests/unit/%): $(EV_OBJS)

PROGRAMS += $(O)/tests/events/ev_stub.so
$(O)/tests/events/ev_stub.so: $(O)/tests/events/ev_stub.o $(EV_OBJS) $(O)/nsocket/ev_calls.o
	@echo "  LINK    $@"
	$(Q)$(CC) -shared $(LDFLAGS) -o $@ $^ $(PKG_LIBS)
