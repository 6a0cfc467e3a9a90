#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One connection, two processes at once: both write N records, then both read to the end.

    two_at_once.py ADDR PORT N

Says how many bytes the two have read together, and the sum of these bytes.
"""
import os
import socket
import sys

addr, port, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def both(work):
    """work(True) in a child and work(False) here; what both return."""
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(w, " ".join(map(str, work(True))).encode())
        os._exit(0)
    mine = work(False)
    os.waitpid(pid, 0)
    return [a + b for a, b in zip(mine, map(int, os.read(r, 100).split()))]


def write(child):
    for i in range(n):
        conn.sendall((b"c" if child else b"p") * (1 + i * 37 % 40))
    return [n]


def read(child):
    count = total = 0
    while got := conn.recv(700):
        count += len(got)
        total += sum(got)
    return count, total


with socket.create_server((addr, port), family=socket.AF_INET6 if ":" in addr else socket.AF_INET) as srv:
    conn = srv.accept()[0]
    conn.recv(1)
    both(write)
    conn.sendall(b"\n")
    print(*both(read), flush=True)
