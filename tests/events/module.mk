# The event calls against fakes; tests/events/test_events.py runs the programs here.
EV_OBJS := $(addprefix $(O)/nsocket/,ev_set.o ev_kernel.o ev_epoll.o ev_poll.o file.o libc.o)
EV_UNIT := ev_set
UNIT_TESTS += $(EV_UNIT:%=tests/unit/%)
$(foreach t,$(EV_UNIT),$(eval LINK_$(t) = $(EV_OBJS)))
$(EV_UNIT:%=$(O)/tests/unit/%): $(EV_OBJS)
