# The kernel's sockets as a plug-in, part of nothing else.
PLUGINS += $(O)/libnstack_kernel.so
$(O)/libnstack_kernel.so: $(O)/stacks/kernel/kernel_stack.o
	@echo "  LINK    $@"
	$(Q)$(CC) -shared $(LDFLAGS) -o $@ $^
$(O)/stacks/kernel/kernel_stack.o: CFLAGS += -fvisibility=default
