TOOL_SRCS += tools/main.c tools/common.c tools/ctl_client.c tools/verb_load.c \
             tools/verb_status.c tools/verb_sockets.c tools/verb_stats.c tools/verb_rules.c \
             tools/verb_dump.c tools/dump_filter.c tools/verb_log.c tools/verb_run.c tools/verb_doctor.c
UNIT_TESTS += tests/unit/rd_dump_filter
LINK_rd_dump_filter = $(O)/tools/dump_filter.o
$(O)/tests/unit/rd_dump_filter: $(LINK_rd_dump_filter)
