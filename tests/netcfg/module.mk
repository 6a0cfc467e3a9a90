LIB_SRCS += hal_wrap/hal_mem.c
PROGRAMS += $(O)/tests/netcfg/netcfg_probe
UNIT_TESTS += tests/unit/addr tests/unit/checksum tests/unit/fifo tests/unit/netcfg_static \
              tests/unit/region tests/unit/tcp_pair_basic tests/unit/udp_pair

$(O)/tests/netcfg/netcfg_probe: $(O)/tests/netcfg/netcfg_probe.o $(O)/libnstack.a
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(O)/libnstack.a $(PKG_LIBS)
