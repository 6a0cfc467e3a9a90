# DPDK is a plug-in: nothing else is compiled or linked with it. Built where libdpdk is found; HAL_DPDK=0
# leaves it out.
HAL_DPDK ?= $(shell pkg-config --exists libdpdk && echo 1 || echo 0)
LIB_SRCS += hal_dpdk/dpdk_load.c hal_dpdk/dpdk_check.c

ifeq ($(HAL_DPDK),1)
DPDK_SRCS := hal_dpdk/dpdk_eal.c hal_dpdk/dpdk_fds.c hal_dpdk/dpdk_libc.c hal_dpdk/dpdk_port.c hal_dpdk/dpdk_queue.c hal_dpdk/dpdk_super.c
DPDK_OBJS := $(DPDK_SRCS:%.c=$(O)/%.o)
DPDK_PLUGIN := $(O)/libnstack_dpdk.so
PLUGINS += $(DPDK_PLUGIN)

# DPDK's headers are no model of cleanliness; it is loaded late, so its thread-locals are dynamic
$(DPDK_OBJS): PKG_CFLAGS = $(patsubst -I%,-isystem %,$(shell pkg-config --cflags libdpdk)) -ftls-model=global-dynamic
$(O)/hal_dpdk/dpdk_libc.o: CFLAGS += -fno-builtin -Wno-missing-prototypes
$(DPDK_PLUGIN): $(DPDK_OBJS)
	@echo "  LINK    $@"
	$(Q)$(CC) -shared $(LDFLAGS) -Wl,-z,now -o $@ $^ $(shell pkg-config --libs libdpdk) -ldl
endif
