# The DMM manual's test programs: each from one source, for the kernel (k) and, linked with libnStackAPI, under
# nstack (v).
DMM_APPS := c_common s_common s_epoll s_select c_fork s_fork c_file s_file
DMM_V := $(DMM_APPS:%=$(O)/tests/dmm/v%)
DMM_K := $(DMM_APPS:%=$(O)/tests/dmm/k%)
PROGRAMS += $(DMM_V) $(DMM_K)

# what of it a program is: c_ and s_ are client_*.c and server_*.c
dmm_objs = $(O)/tests/dmm/$(patsubst c_%,client_%,$(patsubst s_%,server_%,$(1))).o $(O)/tests/dmm/dmm.o
$(foreach a,$(DMM_APPS),$(eval $(O)/tests/dmm/k$(a) $(O)/tests/dmm/v$(a): $(call dmm_objs,$(a))))
$(DMM_K):
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^
$(DMM_V): | $(O)/libnStackAPI.so
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -L$(O) -lnStackAPI -Wl,-rpath,'$$ORIGIN/../..'
