#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""prefork.py ADDR PORT WORKERS accept|epoll|exclusive|reuseport [BACKLOG]: a server of several processes.

The parent makes the listener and never looks at it; each worker takes one connection at a time: it tells
its pid, and is busy until the client ends the connection. One that is told "exec" becomes a new image of
itself. For each line that the parent reads, it waits for
the end of a worker and starts another one. With reuseport each worker has a listener of its own.
"""
import os
import select
import socket
import sys

ADDR, PORT, WORKERS, HOW = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
BACKLOG = int(sys.argv[5]) if len(sys.argv) > 5 else 100


def listener():
    family = socket.AF_INET6 if ":" in ADDR else socket.AF_INET
    return socket.create_server((ADDR, PORT), family=family, backlog=BACKLOG, reuse_port=HOW == "reuseport")


def waiter(s):
    """A function that returns when there may be a connection."""
    if HOW in ("accept", "reuseport"):
        return lambda: None
    s.setblocking(False)
    ep = select.epoll()
    ep.register(s, select.EPOLLIN | (select.EPOLLEXCLUSIVE if HOW == "exclusive" else 0))
    return ep.poll


def work(s):
    wait = waiter(s)
    os.write(1, b"worker %d\n" % os.getpid())  # at once, beside those of others
    while True:
        wait()
        try:
            c, _ = s.accept()
        except BlockingIOError:
            continue
        c.setblocking(True)
        try:
            c.sendall(b"%d\n" % os.getpid())
            while data := c.recv(65536):
                if data == b"exec":
                    os.set_inheritable(s.fileno(), True)
                    os.execv(sys.executable, [sys.executable, *sys.argv[:5], str(BACKLOG), str(s.fileno())])
        except ConnectionError:
            pass
        c.close()


def fork(s):
    if not os.fork():
        work(s or listener())


if len(sys.argv) > 6:
    work(socket.socket(fileno=int(sys.argv[6])))
shared = None if HOW == "reuseport" else listener()
for _ in range(WORKERS):
    fork(shared)
for _ in sys.stdin:
    os.wait()
    fork(shared)
