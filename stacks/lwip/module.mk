# lwIP as a plug-in, where its library is; part of nothing else.
LWIP_INCLUDE ?= /usr/include/lwip
ifneq ($(wildcard $(LWIP_INCLUDE)/lwipopts.h),)
PLUGINS += $(O)/libnstack_lwip.so
$(O)/libnstack_lwip.so: $(O)/stacks/lwip/lwip_stack.o
	@echo "  LINK    $@"
	$(Q)$(CC) -shared $(LDFLAGS) -o $@ $^ -llwip
$(O)/stacks/lwip/lwip_stack.o: CFLAGS += -fvisibility=default -I$(LWIP_INCLUDE)
endif
