# An example for authors: a stack in a process of its own (model type 2), and the plug-in that talks to it.
PROGRAMS += $(O)/libnstack_hub.so $(O)/nstack_hub
$(O)/libnstack_hub.so: $(O)/stacks/hub/hub_stack.o
	@echo "  LINK    $@"
	$(Q)$(CC) -shared $(LDFLAGS) -o $@ $^
# as its author would compile it: what registers it is not hidden
$(O)/stacks/hub/hub_stack.o: CFLAGS += -fvisibility=default
$(O)/nstack_hub: $(O)/stacks/hub/hub_process.o
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^
