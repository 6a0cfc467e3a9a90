#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""xsk_hog.py IFACE QUEUE - binds an AF_XDP socket to a queue and holds it (no stack, no program).

Prints "bound" and waits for its input to end. Used to make a queue busy.
"""
import ctypes
import mmap
import os
import socket
import struct
import sys

AF_XDP, SOL_XDP = 44, 283
XDP_RX_RING, XDP_UMEM_REG, XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING = 2, 4, 5, 6
FRAMES, SIZE = 64, 4096

libc = ctypes.CDLL(None, use_errno=True)
s = socket.socket(AF_XDP, socket.SOCK_RAW, 0)
mem = mmap.mmap(-1, FRAMES * SIZE)
addr = ctypes.addressof(ctypes.c_char.from_buffer(mem))
s.setsockopt(SOL_XDP, XDP_UMEM_REG, struct.pack("=QQIII4x", addr, FRAMES * SIZE, SIZE, 0, 0))
for opt in (XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_RX_RING):
    s.setsockopt(SOL_XDP, opt, struct.pack("=I", FRAMES))
sxdp = struct.pack("=HHIII", AF_XDP, 0, socket.if_nametoindex(sys.argv[1]), int(sys.argv[2]), 0)
if libc.bind(s.fileno(), sxdp, len(sxdp)):
    sys.exit(os.strerror(ctypes.get_errno()))
print("bound", flush=True)
sys.stdin.read()
