#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A client of redis that goes on and on: asks.py SERVER PORT SOURCE CONNECTIONS

Every connection, from the address SOURCE, says PING and must be answered before the next round. After a line on
stdin it prints the number of rounds so far; at the end of stdin it ends. A connection that breaks, or 20 seconds
without an answer, end it at once with an error.
"""
import select
import socket
import sys
import time

server, port, source, n = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
socks = [socket.create_connection((server, port), 20, (source, 0)) for _ in range(n)]
rounds = 0
while True:
    for s in socks:
        s.sendall(b"PING\r\n")
    for s in socks:
        answer = b""
        while not answer.endswith(b"\r\n"):
            part = s.recv(100)
            assert part, "the connection has ended"
            answer += part
        assert answer == b"+PONG\r\n", answer
    rounds += 1
    if select.select([sys.stdin], [], [], 0)[0]:
        if not sys.stdin.readline():
            break
        print(rounds, flush=True)
    time.sleep(0.001)
