# Linked with the steering objects and what they stand on alone, so that they build without the rest.
STEER_TEST_OBJS := $(patsubst %.c,$(O)/%.o,$(filter bpf/% shm/addr.c shm/fd_host.c,$(LIB_SRCS)))
STEER_SCENE_OBJS := $(patsubst %,$(O)/tests/bpf/%.o,packet scene scene_native)
STEER_TEST_PROGRAMS := $(patsubst %,$(O)/tests/bpf/%,steer_tool steer_packets steer_rulesets)
PROGRAMS += $(STEER_TEST_PROGRAMS)

$(STEER_TEST_PROGRAMS): $(O)/tests/bpf/%: $(O)/tests/bpf/%.o $(STEER_TEST_OBJS)
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(PKG_LIBS)
$(O)/tests/bpf/steer_packets $(O)/tests/bpf/steer_rulesets: $(STEER_SCENE_OBJS)
$(O)/tests/bpf/scene.o: $(O)/bpf/steer.skel.h

PROGRAMS += $(O)/tests/bench/steer_cost
$(O)/tests/bench/steer_cost: $(O)/tests/bench/steer_cost.o $(STEER_SCENE_OBJS) $(STEER_TEST_OBJS)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(PKG_LIBS)

PROGRAMS += $(O)/tests/bpf/foreign.bpf.o
