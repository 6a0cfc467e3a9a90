#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A server that closes all descriptors it did not open itself, as daemons do, and then serves;
prints the number that its next descriptor got."""
import ctypes
import os
import socket
import sys

addr, port = sys.argv[1], int(sys.argv[2])
libc = ctypes.CDLL(None)
s = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((addr, port))
s.listen(5)
s.setblocking(False)
try:
    s.accept()  # the first use: everything is open now
except BlockingIOError:
    pass
first = s.fileno() + 1
for _ in range(1000):  # the helper thread may have something open for a moment
    probe = os.open("/dev/null", os.O_RDONLY)
    os.close(probe)
    if probe == first:
        break
libc.close_range(first, 0xffffffff, 0)
libc.closefrom(first)
for fd in range(first, 2048):
    try:
        os.close(fd)
    except OSError:
        pass
    try:
        os.dup2(0, fd)
        os.close(fd)
    except OSError:
        pass
s.settimeout(30)
print("next", probe - s.fileno(), flush=True)
while True:
    c, _ = s.accept()
    c.sendall(c.recv(100))
    c.close()
