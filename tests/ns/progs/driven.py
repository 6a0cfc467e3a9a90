#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A TCP server that does what it is told, an expression a line; answers "WHO N: result".

    driven.py ADDR PORT     WHO is "parent"; expressions come on stdin. A child of fork(PATH) takes its
                            own from the FIFO at PATH, whose last part is WHO
    driven.py FD...         the next image, after execute(); WHO is "image"
"""
import os
import signal
import socket
import sys

conns, kept = [], []


def accept(n=1):
    conns.extend(srv.accept()[0] for _ in range(n))
    return len(conns)


def read(i, n):
    return conns[i].recv(n, socket.MSG_WAITALL)


def echo(i, n):
    conns[i].sendall(read(i, n))


def fill(i):
    """Until nothing more fits, then close()."""
    conns[i].setblocking(False)
    total = 0
    try:
        while True:
            total += conns[i].send(bytes(1 << 20))
    except BlockingIOError:
        conns[i].close()
        return total


def run(who, lines):
    for n, line in enumerate(lines):
        try:
            result = eval(line)
        except OSError as e:
            result = e
        os.write(1, f"{who} {n}: {result!r}\n".encode())


def execute():
    for conn in conns:
        conn.set_inheritable(True)
    os.execv(sys.executable, [sys.executable, __file__, *(str(conn.fileno()) for conn in conns)])


def fork(path):
    pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with open(path, encoding="ascii") as lines:
        run(os.path.basename(path), iter(lines.readline, ""))
    os._exit(0)


def many(n):
    """So many children at once; two of three send a byte, one at a time, the others die."""
    out, into = os.pipe()
    for i in range(n):
        if os.fork():
            continue
        if i % 3 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        os.read(out, 1)
        conns[0].send(b"x")
        os.write(into, b"t")
        os._exit(0)
    os.write(into, b"t")
    for _ in range(n):
        os.wait()


if __name__ == "__main__":
    if sys.argv[1].isdecimal():
        conns = [socket.socket(fileno=int(fd)) for fd in sys.argv[1:]]
        print("next image", flush=True)
        run("image", iter(sys.stdin.readline, ""))
        sys.exit()
    srv = socket.create_server((sys.argv[1], int(sys.argv[2])),
                               family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
    print("up", flush=True)
    run("parent", iter(sys.stdin.readline, ""))
