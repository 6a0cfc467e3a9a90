LIB_SRCS += rd/json.c rd/config.c rd/rules.c rd/rules_compile.c rd/log.c
