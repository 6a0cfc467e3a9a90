LIB_SRCS += bpf/steer_rules.c bpf/steer_native.c bpf/steer_attach.c bpf/steer_tables.c \
	bpf/steer_instance.c bpf/steer_claim.c bpf/steer_pins.c bpf/steer_diag.c bpf/steer_rules_ctl.c \
	bpf/steer_watch.c bpf/steer_mirror.c bpf/backlog.c
$(O)/bpf/steer_attach.o: $(O)/bpf/steer.skel.h
$(O)/bpf/backlog.o: $(O)/bpf/backlog.skel.h
UNIT_TESTS += tests/unit/steer_rules tests/unit/steer_lock
