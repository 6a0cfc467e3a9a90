# What `make test`, `make demo`, `make bench` and `make fuzz` do. Everything is built by sub-makes,
# so that `make deps` has been run before pkg-config is asked.
PYTHON ?= /usr/bin/python3
FUZZ_SECONDS ?= 60
export FUZZ_SECONDS

test: deps
	$(Q)$(PYTHON) tests/run.py --make "$(MAKE)" --out $(O) $(TEST_ARGS)

# all of tests/apps, also what is too slow for `make test`
check-apps: deps
	$(Q)$(MAKE) --no-print-directory O=$(O) all
	$(Q)NSTACK_BUILD=$(abspath $(O)) NSTACK_TEST_ALL_APPS=1 $(PYTHON) -m pytest -q -p no:cacheprovider \
		$(CURDIR)/tests/apps

# The drivers, then the oracle and the applications in both models, by net_af_packet and a TAP, and by net_af_xdp with our
# program: a line for each test, what was left out and why, a count. About an hour.
DPDK_MODES ?= dpdk.in_process,dpdk.daemon,dpdk.xdp.in_process,dpdk.xdp.daemon
test-dpdk: deps
	$(Q)$(MAKE) --no-print-directory O=$(O) all
	$(Q)NSTACK_BUILD=$(abspath $(O)) NSTACK_TEST_MODES=$(DPDK_MODES) $(PYTHON) -m pytest -v -rfs --tb=short \
		-p no:cacheprovider $(or $(TEST_ARGS),$(addprefix $(CURDIR)/tests/,hal/test_hal_dpdk.py ns/test_dpdk.py oracle apps))

demo: deps
	$(Q)$(MAKE) --no-print-directory O=$(O) all
	$(Q)NSTACK_BUILD=$(abspath $(O)) $(PYTHON) tools/demo.py $(DEMO_ARGS)

bench: deps
	$(Q)$(MAKE) --no-print-directory O=$(O) all bench-programs
	$(Q)NSTACK_BUILD=$(abspath $(O)) $(PYTHON) tests/bench/bench.py $(BENCH_ARGS)

fuzz: deps
	$(Q)$(MAKE) --no-print-directory O=$(O) fuzz-build
	$(Q)$(PYTHON) tests/run.py --make "$(MAKE)" --out $(O) --only fuzz

# Everything at once, with kills and restarts; SOAK_SECONDS=3600 for an hour, SOAK_SEED repeats an order
SOAK_SECONDS ?= 1800
soak: deps
	$(Q)$(MAKE) --no-print-directory O=$(O) all
	$(Q)NSTACK_BUILD=$(abspath $(O)) $(PYTHON) tests/soak/soak.py --seconds $(SOAK_SECONDS) \
		$(if $(SOAK_SEED),--seed $(SOAK_SEED))

# Every scenario of the oracle is played, then docs/compatibility.md written from what was found
compatibility: deps
	$(Q)$(MAKE) --no-print-directory O=$(O) all
	$(Q)NSTACK_BUILD=$(abspath $(O)) $(PYTHON) -m pytest -q -p no:cacheprovider tests/oracle \
		--deselect tests/oracle/test_oracle.py::test_document_is_current
	$(Q)NSTACK_BUILD=$(abspath $(O)) $(PYTHON) tests/oracle/compatibility.py

# What the test runner asks make for
print-unit-tests:
	@echo $(UNIT_TESTS)

# the fd table's readers under ThreadSanitizer: what liburcu guarantees has to be said
ifneq ($(findstring thread,$(SAN)),)
LINK_nsocket_file += $(TSAN_RCU_LDFLAGS)
$(O)/tests/unit/nsocket_file: $(O)/tests/unit/tsan_rcu.o
endif

.PHONY: test-dpdk compatibility soak fuzz fuzz-build print-unit-tests bench-programs
