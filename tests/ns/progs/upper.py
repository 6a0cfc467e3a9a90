#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Answers in upper case, one connection after the other.

    upper.py ADDR PORT [--reuse] [--child PORT]

--reuse: SO_REUSEPORT. --child: a forked process in a session of its own serves that port.
"""
import argparse
import os
import socket


def serve(addr, port, reuse):
    family = socket.AF_INET6 if ":" in addr else socket.AF_INET
    s = socket.create_server((addr, port), family=family, reuse_port=reuse)
    print("up", port, flush=True)
    while True:
        c, _ = s.accept()
        try:
            while d := c.recv(65536):
                c.sendall(d.upper())
        except OSError as e:
            print(e, flush=True)
        c.close()


ap = argparse.ArgumentParser()
ap.add_argument("addr")
ap.add_argument("port", type=int)
ap.add_argument("--reuse", action="store_true")
ap.add_argument("--child", type=int)
args = ap.parse_args()
if args.child and os.fork() == 0:
    os.setsid()
    serve(args.addr, args.child, args.reuse)
serve(args.addr, args.port, args.reuse)
