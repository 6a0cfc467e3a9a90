LIB_SRCS += hal_wrap/hal_fault.c hal_wrap/hal_fault_parse.c hal_wrap/hal_pcap.c hal_wrap/hal_tap.c
UNIT_TESTS += tests/unit/hal_fault
