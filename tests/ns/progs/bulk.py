#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Bulk transfer with checksums: an ordinary program that knows nothing of nstack.

    bulk.py server ADDR PORT            serves connections one after the other, until killed
    bulk.py client ADDR PORT put|get BYTES

The client says "put N" or "get N"; N bytes go one way; both sides hash them and the client
compares. Every 64 KB block carries its number, so a swap or repetition changes the hash.
"""
import hashlib
import random
import socket
import sys

BLOCK = 65536
PATTERN = random.Random(7).randbytes(BLOCK)


def send_stream(sock, n):
    h, i = hashlib.sha256(), 0
    buf = bytearray(PATTERN)
    while n:
        buf[:8] = i.to_bytes(8, "big")
        part = memoryview(buf)[:min(n, BLOCK)]
        sock.sendall(part)
        h.update(part)
        n -= len(part)
        i += 1
    return h.hexdigest()


def recv_stream(sock, n):
    h = hashlib.sha256()
    buf = bytearray(1 << 20)
    while n:
        got = sock.recv_into(buf, min(n, len(buf)))
        if not got:
            raise EOFError(f"{n} bytes are missing")
        h.update(memoryview(buf)[:got])
        n -= got
    return h.hexdigest()


def line(sock):
    out = b""
    while not out.endswith(b"\n"):
        c = sock.recv(1)
        if not c:
            raise EOFError("no line")
        out += c
    return out.decode().split()


def server(addr, port):
    fam = socket.AF_INET6 if ":" in addr else socket.AF_INET
    srv = socket.socket(fam, socket.SOCK_STREAM)
    srv.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    srv.bind((addr, port))
    srv.listen(16)
    while True:
        conn, _ = srv.accept()
        with conn:
            try:
                what, n = line(conn)
                digest = (recv_stream if what == "put" else send_stream)(conn, int(n))
                conn.sendall(digest.encode() + b"\n")
                conn.recv(1)  # the client closes first
            except (EOFError, OSError) as e:
                print("error:", e, flush=True)


def client(addr, port, what, n):
    with socket.create_connection((addr, port), timeout=120) as sock:
        sock.sendall(f"{what} {n}\n".encode())
        mine = (send_stream if what == "put" else recv_stream)(sock, n)
        theirs, = line(sock)
    print("same" if mine == theirs else "DIFFERENT", mine, theirs)
    sys.exit(mine != theirs)


if sys.argv[1] == "server":
    server(sys.argv[2], int(sys.argv[3]))
else:
    client(sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
