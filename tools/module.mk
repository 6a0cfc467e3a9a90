TOOL_SRCS += tools/main.c tools/common.c tools/ctl_client.c tools/kernel_flows.c tools/verb_load.c \
             tools/verb_status.c tools/verb_sockets.c tools/verb_stats.c tools/verb_rules.c \
             tools/verb_dump.c tools/verb_log.c tools/verb_run.c tools/verb_doctor.c
