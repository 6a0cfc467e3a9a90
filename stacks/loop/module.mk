# The example of docs/stack-author.md: a plug-in, part of nothing else.
PROGRAMS += $(O)/libnstack_loop.so
$(O)/libnstack_loop.so: $(O)/stacks/loop/loop_stack.o
	@echo "  LINK    $@"
	$(Q)$(CC) -shared $(LDFLAGS) -o $@ $^
# as its author would compile it: what registers it is not hidden
$(O)/stacks/loop/loop_stack.o: CFLAGS += -fvisibility=default
