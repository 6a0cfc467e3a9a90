LIB_SRCS += rd/json.c rd/config.c rd/config_keys.c rd/config_read.c rd/config_daemon.c rd/rules.c rd/rules_dmm.c rd/who.c rd/prefixes.c rd/rules_compile.c rd/rules_current.c rd/routes.c rd/sources.c rd/modules.c rd/log.c rd/alarm.c rd/program.c
UNIT_TESTS += tests/unit/rd_json tests/unit/rd_config tests/unit/rd_rules tests/unit/rd_prefixes tests/unit/rd_log \
              tests/unit/rd_ctl tests/unit/rd_modules tests/unit/rd_sources tests/unit/rd_alarm
LINK_rd_ctl = $(patsubst %.c,$(O)/%.o,$(sort $(wildcard nsocket/ctl_*.c)))
$(O)/tests/unit/rd_ctl: $(LINK_rd_ctl)
