#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every way to wait for a socket, each in a thread of its own, and what it came back with.

    waiters.py HERE THERE PORT     connects to THERE:PORT (which accepts and says nothing), listens on
                                   HERE:PORT, has a UDP socket there; prints "ready", then a line
                                   "<way>: <outcome>" for each that came back, then "<way>: served" for
                                   those that go on
"""
import errno
import select
import socket
import sys
import threading

here, there, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
lock = threading.Lock()
ready = threading.Semaphore(0)


def say(way, what):
    with lock:
        print(f"{way}: {what}", flush=True)


def names(events, of):
    return "|".join(sorted(n for n in of if events & getattr(select, n)))


def dial():
    s = socket.create_connection((there, port), 5)
    s.settimeout(None)
    return s


def error_of(fn, *args):
    try:
        fn(*args)
        return "nothing"
    except OSError as e:
        return errno.errorcode[e.errno]


def recv(s):
    return error_of(s.recv, 10)


def send(s):
    try:
        while True:
            s.send(bytes(65536))
    except OSError as e:
        return errno.errorcode[e.errno]


EPOLL = ("EPOLLIN", "EPOLLOUT", "EPOLLERR", "EPOLLHUP", "EPOLLRDHUP")


def epoll(s, flags=0):
    e = select.epoll()
    e.register(s, select.EPOLLIN | select.EPOLLRDHUP | flags)
    return names(e.poll()[0][1], EPOLL) + " " + error_of(s.recv, 10) + " then " + repr(s.recv(10))


def epoll_et(s):
    return epoll(s, select.EPOLLET)


def poll(s):
    p = select.poll()
    p.register(s, select.POLLIN)
    return names(p.poll()[0][1], ("POLLIN", "POLLERR", "POLLHUP")) + " " + error_of(s.send, b"x")


def sel(s):
    r, _, _ = select.select([s], [], [])
    return ("readable " if r else "") + error_of(s.recv, 10)


def so_error(s):
    p = select.poll()
    p.register(s, 0)
    p.poll()
    return errno.errorcode[s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]


def connection(fn):
    s = dial()
    ready.release()
    say(fn.__name__, fn(s))


def accept():
    s = socket.create_server((here, port))
    ready.release()
    while True:
        c, _ = s.accept()
        say("accept", "served")
        c.close()


def recvfrom():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((here, port))
    ready.release()
    while True:
        _, peer = s.recvfrom(100)
        s.sendto(b"served", peer)


ways = (recv, send, epoll, epoll_et, poll, sel, so_error)
for w in ways:
    threading.Thread(target=connection, args=(w,), daemon=True).start()
for w in (accept, recvfrom):
    threading.Thread(target=w, daemon=True).start()
for _ in range(len(ways) + 2):
    ready.acquire()
print("ready", flush=True)
threading.Event().wait()
