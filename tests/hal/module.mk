PROGRAMS += $(O)/tests/hal/hal_peer

$(O)/tests/hal/redirect.o: $(O)/tests/hal/redirect.skel.h
$(O)/tests/hal/hal_peer: $(O)/tests/hal/hal_peer.o $(O)/tests/hal/redirect.o $(O)/libnstack.a
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -ldl

# Forwarding and echo benches around AF_XDP (tests/bench/fwd.py)
FWD_PROGRAMS := $(O)/tests/bench/fwd_raw $(O)/tests/bench/fwd_hal $(O)/tests/bench/echo_raw
PROGRAMS += $(FWD_PROGRAMS)
$(FWD_PROGRAMS): $(O)/tests/bench/%: $(O)/tests/bench/%.o $(O)/tests/hal/redirect.o $(O)/libnstack.a
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -ldl
