#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One listener: the parent looks at it once, so its stack has the port, then waits for lines on its
standard input; at each a child accepts N connections and echoes what they say.

    look_then_fork.py ADDR PORT N
"""
import os
import select
import socket
import sys

addr, port, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
srv = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET)
srv.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
srv.bind((addr, port))
srv.listen(64)
select.select([srv], [], [], 0)
print("pid", os.getpid(), flush=True)
for line in sys.stdin:
    if (pid := os.fork()) == 0:
        for _ in range(n):
            with srv.accept()[0] as conn:
                conn.sendall(conn.recv(100))
        os._exit(0)
    os.waitpid(pid, 0)
    select.select([srv], [], [], 0)
    print("served", flush=True)
