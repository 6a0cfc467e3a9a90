# Programs of the benches that use nothing of nstack: they are what runs under it.
BENCH_PLAIN := $(O)/tests/bench/echo_server $(O)/tests/bench/rtt_client $(O)/tests/bench/call_cost
BENCH_PROGRAMS := $(BENCH_PLAIN)
PROGRAMS += $(BENCH_PLAIN)

$(BENCH_PLAIN): $(O)/tests/bench/%: $(O)/tests/bench/%.o
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -ldl

bench-programs: $(BENCH_PROGRAMS)
