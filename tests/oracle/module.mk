# Scenarios compared with the kernel: every other .c file here is a group of them
ORACLE_OBJS := $(patsubst %.c,$(O)/%.o,$(wildcard tests/oracle/*.c))
PROGRAMS += $(O)/tests/oracle/oracle
$(O)/tests/oracle/oracle: $(ORACLE_OBJS)
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^
