LIB_SRCS += hal_xdp/xdp_port.c hal_xdp/xdp_probe.c hal_xdp/xdp_queue.c hal_xdp/xdp_share.c \
            hal_xdp/xdp_shared.c hal_xdp/xdp_sock.c hal_xdp/xdp_super.c hal_xdp/xdp_umem.c
UNIT_TESTS += tests/unit/hal_ring
