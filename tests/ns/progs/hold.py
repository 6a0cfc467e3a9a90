#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Many connections held open at once, each exchanging data.

    hold.py server ADDR PORT [BACKLOG]    epoll echo server, until killed
    hold.py client ADDR PORT N [ROUNDS]   opens N connections, then every one of them sends a
                                          line of its own and must get it back, ROUNDS times;
                                          then prints "held N", waits for a line on stdin, does
                                          one round more, and prints "done N".
"""
import select
import socket
import sys

IN_FLIGHT = 256  # connections being opened at once
PER_ROUND = 512  # exchanges in flight


def server(addr, port, backlog):
    fam = socket.AF_INET6 if ":" in addr else socket.AF_INET
    srv = socket.socket(fam, socket.SOCK_STREAM)
    srv.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    srv.bind((addr, port))
    srv.listen(backlog)
    srv.setblocking(False)
    ep = select.epoll()
    ep.register(srv, select.EPOLLIN)
    conns = {}
    while True:
        for fd, ev in ep.poll():
            if fd == srv.fileno():
                while True:
                    try:
                        c, _ = srv.accept()
                    except BlockingIOError:
                        break
                    c.setblocking(False)
                    conns[c.fileno()] = c
                    ep.register(c, select.EPOLLIN)
                continue
            c = conns[fd]
            try:
                data = c.recv(4096)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if data:
                c.sendall(data)
            else:
                ep.unregister(fd)
                conns.pop(fd).close()


def open_all(addr, port, n):
    fam = socket.AF_INET6 if ":" in addr else socket.AF_INET
    ep, pending, done, left = select.epoll(), {}, [], n
    while left or pending:
        while left and len(pending) < IN_FLIGHT:
            s = socket.socket(fam, socket.SOCK_STREAM)
            s.setblocking(False)
            s.connect_ex((addr, port))
            pending[s.fileno()] = s
            ep.register(s, select.EPOLLOUT)
            left -= 1
        got = ep.poll(30)
        if not got:
            sys.exit(f"no progress: {len(done)} open, {len(pending)} pending")
        for fd, _ in got:
            s = pending.pop(fd)
            ep.unregister(fd)
            err = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if err:
                sys.exit(f"connection {len(done)}: error {err}")
            done.append(s)
    return done


def one_round(conns, number):
    ep, want, i = select.epoll(), {}, 0
    while i < len(conns) or want:
        while i < len(conns) and len(want) < PER_ROUND:
            s = conns[i]
            msg = f"round {number} connection {i} {'x' * (i % 200)}\n".encode()
            s.sendall(msg)
            want[s.fileno()] = [s, msg, b""]
            ep.register(s, select.EPOLLIN)
            i += 1
        got = ep.poll(30)
        if not got:
            sys.exit(f"no progress in round {number}: {len(want)} answers are missing")
        for fd, _ in got:
            w = want[fd]
            part = w[0].recv(4096)
            if not part:
                sys.exit(f"connection closed early in round {number}: {w[1]!r}")
            w[2] += part
            if len(w[2]) >= len(w[1]):
                if w[2] != w[1]:
                    sys.exit(f"wrong answer: sent {w[1]!r}, got {w[2]!r}")
                ep.unregister(fd)
                del want[fd]


def client(addr, port, n, rounds):
    conns = open_all(addr, port, n)
    for r in range(rounds):
        one_round(conns, r)
    print("held", len(conns), flush=True)
    sys.stdin.readline()
    one_round(conns, rounds)
    print("done", len(conns), flush=True)


if sys.argv[1] == "server":
    server(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 4096)
else:
    client(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]),
           int(sys.argv[5]) if len(sys.argv) > 5 else 1)
