#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Small servers.

    echo.py tcp ADDR PORT       echoes each connection (threads)
    echo.py udp ADDR PORT       echoes datagrams
    echo.py fork ADDR PORT N [SECONDS]
                                listens, forks N workers that accept and answer "PID <pid>\\n" and
                                then echo; the parent never accepts. A client that is silent for
                                SECONDS is left
"""
import contextlib
import os
import signal
import socket
import struct
import sys
import threading


def family(addr):
    return socket.AF_INET6 if ":" in addr else socket.AF_INET


def listener(addr, port):
    s = socket.socket(family(addr), socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((addr, port))
    s.listen(128)
    return s


def echo(conn):
    with conn:
        while data := conn.recv(65536):
            conn.sendall(data)


def tcp(addr, port):
    s = listener(addr, port)
    while True:
        conn, _ = s.accept()
        threading.Thread(target=echo, args=(conn,), daemon=True).start()


def udp(addr, port):
    s = socket.socket(family(addr), socket.SOCK_DGRAM)
    s.bind((addr, port))
    while True:
        data, peer = s.recvfrom(65536)
        s.sendto(data, peer)


def fork(addr, port, n, patience):
    s = listener(addr, port)
    for _ in range(n):
        if os.fork() == 0:
            while True:
                conn, _ = s.accept()
                if patience:
                    conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", patience, 0))
                with contextlib.suppress(OSError): # a client that is gone is no reason to end
                    conn.sendall(b"PID %d\n" % os.getpid())
                    echo(conn)
    s.close()
    signal.pause()


what, addr, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
if what == "fork":
    fork(addr, port, int(sys.argv[4]), int(sys.argv[5]) if len(sys.argv) > 5 else 0)
else:
    {"tcp": tcp, "udp": udp}[what](addr, port)
