#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A hostile process without privileges: sends all kinds of things to the doors of programs under nstack
(nsocket/yield.c), which it finds in /proc/net/unix.

    stranger.py ROUNDS ADDR    then prints "done N", N messages taken
"""
import array
import errno
import os
import re
import socket
import struct
import sys
import threading

rounds, addr = int(sys.argv[1]), sys.argv[2]
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
with open("/proc/net/unix", encoding="utf8") as f:
    doors = ["\0" + m for m in re.findall(r"@(nstack-yield/\S+)", f.read())]


def lingers():
    """A connection with unsent data whose close() would take an hour, if nobody reads."""
    lst = socket.create_server(("127.0.0.1", 0))
    s = socket.create_connection(lst.getsockname())
    s.setblocking(False)
    try:
        while True:
            s.send(bytes(65536))
    except BlockingIOError:
        pass
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    kept.append(lst)
    return s


def listener():
    return socket.create_server((addr, 0), family=socket.AF_INET6 if ":" in addr else socket.AF_INET)


def things():
    """(text, descriptors) of a message; they are closed when it was sent."""
    pair = socket.socketpair()
    yield b"", []
    yield b"x" * 4096, []
    yield b"\0", [os.open("/proc/self/stat", os.O_RDONLY)]
    yield b"\0", [os.open("/dev/null", os.O_RDONLY) for _ in range(200)]
    yield b"\0", [os.open("/", os.O_RDONLY), pair[0].detach()]
    yield b"\0", [listener().detach()]
    yield b"\0", [listener().detach(), pair[1].detach()]
    yield b"\0", list(os.pipe())
    yield b"\0", [lingers().detach()]
    yield b"\0", [lingers().detach(), lingers().detach()]


kept, taken, lock = [], 0, threading.Lock()


def flood(name):
    global taken
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.settimeout(5)
    for _ in range(rounds):
        for text, fds in things():
            try:
                s.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [],
                          0, name)
                with lock:
                    taken += 1
            except OSError as e:
                if e.errno != errno.ETOOMANYREFS:  # the kernel's limit for such as us
                    raise
            for fd in fds:
                try:
                    os.close(fd)
                except OSError:
                    pass


threads = [threading.Thread(target=flood, args=(d,)) for d in doors for _ in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("done", taken, flush=True)
