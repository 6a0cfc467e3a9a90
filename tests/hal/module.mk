PROGRAMS += $(O)/tests/hal/hal_peer

$(O)/tests/hal/redirect.o: $(O)/tests/hal/redirect.skel.h
$(O)/tests/hal/hal_peer: $(O)/tests/hal/hal_peer.o $(O)/tests/hal/redirect.o $(O)/libnstack.a
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)
