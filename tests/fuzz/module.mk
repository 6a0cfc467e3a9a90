# libFuzzer programs: tests/fuzz/fuzz_X.c with seeds in tests/fuzz/corpus/X. They have objects of
# their own: clang, with coverage and with sanitizers that abort.
FUZZERS := $(basename $(notdir $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_CC ?= $(CLANG)
FUZZ_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
FUZZ_CFLAGS = -std=gnu11 -O1 -g -fno-strict-aliasing -pthread -Iinclude -I$(O)/include -I. -I$(O) $(FUZZ_FLAGS) \
	-DNSTACK_FUZZ=1
FUZZ_LIB = $(patsubst %.c,$(O)/fuzz/obj/%.o,$(LIB_SRCS))

fuzz-build: $(FUZZERS:%=$(O)/fuzz/%)

# the ordinary objects first: generated headers are there then
$(O)/fuzz/obj/%.o: %.c | $(O)/libnstack.a
	@mkdir -p $(@D)
	@echo "  FUZZCC  $<"
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) $(PKG_CFLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<

$(O)/fuzz/fuzz_%: $(O)/fuzz/obj/tests/fuzz/fuzz_%.o $(O)/fuzz/libnstack.a
	@echo "  LINK    $@"
	$(Q)$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer -pthread $(FUZZ_LINK) -o $@ \
		$(filter %.o,$^) $(O)/fuzz/libnstack.a $(PKG_LIBS)

# what its answers are made of
$(O)/fuzz/fuzz_ctl: $(addprefix $(O)/fuzz/obj/nsocket/ctl_,json.o programs.o config.o ping.o)

# the in-memory port is not part of the library (nor is nstackd: tools/module.mk)
$(addprefix $(O)/fuzz/fuzz_,packets attach scribble): $(O)/fuzz/obj/hal_wrap/hal_mem.o

# (the sources of the library are all known by now: tests/ comes after the folders that add some)
$(O)/fuzz/libnstack.a: $(FUZZ_LIB)
	@echo "  AR      $@"
	$(Q)rm -f $@ && ar rcs $@ $^
