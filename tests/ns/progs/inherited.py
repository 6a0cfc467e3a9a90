#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Echo servers on sockets that another program made.

    inherited.py listener FD     accepts on FD for ever (systemd's socket activation: 3)
    inherited.py clients FD N    serves N of them, one by one, and ends (inetd in wait mode)
    inherited.py connection      serves the connection on stdin and stdout, by lines (inetd)
    inherited.py datagrams FD    answers datagrams
    inherited.py supervise ADDR PORT N   listens, runs N `listener` children, which have the listener
                                 as a descriptor, and starts another one when one ends
    inherited.py send ADDR PORT PATH     listens, and sends the listener through the unix socket PATH
    inherited.py receive PATH    accepts on a listener from there
"""
import os
import socket
import subprocess
import sys
import threading


def echo(conn):
    with conn:
        while data := conn.recv(65536):
            conn.sendall(data)


def listener(sock):
    while True:
        conn, _ = sock.accept()
        threading.Thread(target=echo, args=(conn,), daemon=True).start()


def clients(sock, n):
    for _ in range(int(n)):
        echo(sock.accept()[0])


def connection():
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(b"you said " + line)
        sys.stdout.buffer.flush()


def datagrams(sock):
    while True:
        data, peer = sock.recvfrom(65536)
        sock.sendto(data, peer)


def bound(addr, port):
    s = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((addr, int(port)))
    s.listen(64)
    return s


def supervise(addr, port, n):
    sock = bound(addr, port)
    fd = sock.fileno()

    def child():
        p = subprocess.Popen([sys.executable, __file__, "listener", str(fd)], pass_fds=[fd])
        print("child", p.pid, flush=True)
        return p
    children = [child() for _ in range(int(n))]
    while True:
        pid, _ = os.wait()
        children = [c for c in children if c.pid != pid] + [child()]


def send(addr, port, path):
    sock = bound(addr, port)
    with socket.socket(socket.AF_UNIX) as u:
        u.bind(path)
        u.listen(1)
        print("ready", flush=True)
        via, _ = u.accept()
        socket.send_fds(via, [b"x"], [sock.fileno()])


def receive(path):
    with socket.socket(socket.AF_UNIX) as u:
        u.connect(path)
        _, fds, _, _ = socket.recv_fds(u, 1, 1)
    listener(socket.socket(fileno=fds[0]))


what, *args = sys.argv[1:]
if what in ("listener", "clients", "datagrams"):
    args[0] = socket.socket(fileno=int(args[0]))
globals()[what](*args)
