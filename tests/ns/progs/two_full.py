#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One connection, two processes that write it, with no room left.

    two_full.py ADDR PORT N

A child writes N bytes. When there is no room for more, it is stopped. This process waits until there is room, waits for
a line, writes until there is less room than what wakes a writer, but still some, and lets the child go on.
"""
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import termios
import time

addr, port, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
UNACKED = 24  # offset in struct tcp_info


def unsent():
    return struct.unpack("i", fcntl.ioctl(conn, termios.TIOCOUTQ, bytes(4)))[0]


def on_its_way():
    return struct.unpack_from("I", conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), UNACKED)[0]


def switches(pid):
    """How often its first thread has slept."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(next(line.split()[1] for line in f if line.startswith("voluntary_ctxt_switches")))


def sleeps(pid):
    """All of its threads."""
    states = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/stat", encoding="ascii") as f:
            states.append(f.read().rpartition(")")[2].split()[0])
    return set(states) == {"S"}


def writable(ms):
    p = select.poll()
    p.register(conn, select.POLLOUT)
    return bool(p.poll(ms))


with socket.create_server((addr, port), family=socket.AF_INET6 if ":" in addr else socket.AF_INET) as srv:
    conn = srv.accept()[0]
    conn.recv(1)
    pid = os.fork()
    if not pid:
        conn.sendall(b"c" * n)
        os._exit(0)
    full = 0
    while writable(100) or full != unsent():
        full = unsent()
    os.kill(pid, signal.SIGSTOP)  # it is told that there is room again, and comes too late
    print("full", flush=True)
    writable(None)
    print("room", flush=True)
    sys.stdin.readline()
    wrote = 0
    while unsent() < full * 5 // 6 or on_its_way():
        if unsent() < full * 5 // 6:
            wrote += conn.send(b"p" * 1000, socket.MSG_DONTWAIT)
        else:
            time.sleep(0.001)
    slept = switches(pid)
    os.kill(pid, signal.SIGCONT)
    while switches(pid) == slept or not sleeps(pid):
        time.sleep(0.001)
    print("wrote", wrote, flush=True)
    os.waitpid(pid, 0)
    conn.shutdown(socket.SHUT_WR)
    conn.recv(1)
