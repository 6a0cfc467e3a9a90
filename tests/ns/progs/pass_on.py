#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""bulk.py's server, whose connections change the process in the middle.

    pass_on.py server ADDR PORT     the first third of a transfer, then the connection is sent to a
                                    process that knows nothing of nstack, which does the rest
    pass_on.py heir FD              that process
    pass_on.py hold ADDR PORT       accepts one connection, moves it to the kernel (to itself), says
                                    "moved", and keeps it and the listener open
"""
import array
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys

BLOCK = 65536
PATTERN = random.Random(7).randbytes(BLOCK)


def block(i):
    return i.to_bytes(8, "big") + PATTERN[8:]


def piece(at, n):
    """Bytes [at, at + n) of the stream."""
    out = b"".join(block(i) for i in range(at // BLOCK, (at + n - 1) // BLOCK + 1))
    return out[at % BLOCK:at % BLOCK + n]


def digest(n):
    h = hashlib.sha256()
    for i in range(n // BLOCK):
        h.update(block(i))
    if n % BLOCK:
        h.update(block(n // BLOCK)[:n % BLOCK])
    return h.hexdigest()


def work(conn, what, at, end):
    """Transfer from position `at` to `end`; what comes must be the stream."""
    while at < end:
        if what == "get":
            conn.sendall(part := piece(at, min(end - at, 1 << 20)))
        else:
            part = conn.recv(min(end - at, 1 << 20))
            if not part or part != piece(at, len(part)):
                raise ValueError(f"wrong data at {at}")
        at += len(part)


def give(via, conn, message):
    via.sendmsg([json.dumps(message).encode()],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [conn.fileno()]))])


def take(via):
    text, control, _, _ = via.recvmsg(4096, socket.CMSG_SPACE(4))
    if not text:
        sys.exit(0)
    fds = array.array("i")
    fds.frombytes(control[0][2][:4])
    return socket.socket(fileno=fds[0]), json.loads(text)


def listener(addr, port):
    srv = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET)
    srv.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    srv.bind((addr, port))
    srv.listen(16)
    return srv


def server(addr, port):
    via, other = socket.socketpair()
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    subprocess.Popen([sys.executable, __file__, "heir", str(other.fileno())], env=env,
                     pass_fds=[other.fileno()])
    other.close()
    srv = listener(addr, port)
    while True:
        with srv.accept()[0] as conn:
            what, n = conn.makefile("rb", buffering=0).readline().decode().split()
            n = int(n)
            third = n // 3 + 12345
            work(conn, what, 0, third)
            give(via, conn, [what, third, n])


def heir(fd):
    via = socket.socket(fileno=fd)
    while True:
        conn, (what, at, n) = take(via)
        with conn:
            work(conn, what, at, n)
            conn.sendall(digest(n).encode() + b"\n")
            conn.recv(1)


def hold(addr, port):
    srv = listener(addr, port)
    conn = srv.accept()[0]
    via, other = socket.socketpair()
    give(via, conn, [])
    got = take(other)
    print("moved", flush=True)
    signal.pause()
    del got


if sys.argv[1] == "heir":
    heir(int(sys.argv[2]))
else:
    {"server": server, "hold": hold}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
