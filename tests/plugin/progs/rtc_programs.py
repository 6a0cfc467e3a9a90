"""Programs on stacks that run to completion; the argument says which.

198.18.77.0/24 is one such stack's, 198.18.78.0/24 another one's, the rest is the kernel's.
"""
import collections
import ctypes
import os
import select
import socket
import sys
import threading
import time

A, B, KERNEL = "198.18.77.1", "198.18.78.1", "127.0.0.1"
DONE = 99  # what ends the run() of these stacks
nstack_run = ctypes.CDLL(None).nstack_run
LOOP = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


def connected(addr):
    ls = socket.create_server((addr, 0))
    c = socket.create_connection(ls.getsockname())
    return c, ls.accept()[0]


def waits(ep, peers):
    """Time-outs are exact on a set of all stacks' sockets and a pipe, and every member ends a wait."""
    r, w = os.pipe()
    ep.register(r, select.EPOLLIN)
    for timeout in (0.05, 0.2):
        t0 = time.monotonic()
        assert ep.poll(timeout) == []
        assert timeout <= time.monotonic() - t0 < timeout + 1, time.monotonic() - t0
    t0 = time.monotonic()
    assert select.select([c for c, _ in peers], [], [], 0.1) == ([], [], [])
    assert 0.1 <= time.monotonic() - t0 < 1.1
    for c, s in peers:
        late = threading.Timer(0.02, s.send, [b"x"])
        late.start()
        t0 = time.monotonic()
        assert ep.poll(20) == [(c.fileno(), select.EPOLLIN)]
        assert time.monotonic() - t0 < 10
        late.join()
        assert c.recv(9) == b"x"
        late = threading.Timer(0.02, s.send, [b"y"])
        late.start()
        assert select.select([c], [], [], 20)[0] == [c]
        late.join()
        assert c.recv(9) == b"y"
    os.write(w, b"z")
    assert ep.poll(20) == [(r, select.EPOLLIN)]
    ep.unregister(r)


def two_stacks():
    peers = [connected(addr) for addr in (A, B, KERNEL)]
    ep = select.epoll()
    for c, _ in peers:
        ep.register(c, select.EPOLLIN)
    waits(ep, peers)
    peers[1][0].settimeout(0.1)
    try:
        peers[1][0].recv(1)
        raise AssertionError
    except TimeoutError:
        pass

    def loop(arg):
        waits(ep, peers)
        return DONE
    assert nstack_run(LOOP(checked(loop))) == 5


def two_queues():
    """The manual's loop, by two threads of the stack: each serves the connections of its queue."""
    ls = socket.create_server((A, 0))
    served = collections.Counter()
    conns = {}  # of each thread; threading.local() of a thread that is not Python's ends with the callback

    def loop(arg):
        if served.total() == 8:
            return DONE
        me = threading.get_ident()
        try:
            if me not in conns:
                conns[me] = ls.accept()[0]
            data = conns[me].recv(100)
        except BlockingIOError:
            return -1
        served[me] += 1
        conns.pop(me).send(data.upper())
        return 0

    def client():
        for _ in range(8):
            with socket.create_connection(ls.getsockname()) as c:
                c.send(b"hello")
                assert c.recv(100) == b"HELLO"
    t = threading.Thread(target=checked(client))
    t.start()
    assert nstack_run(LOOP(checked(loop))) == 2
    t.join()
    assert sorted(served.values()) == [4, 4] and threading.get_ident() not in served, served


def no_runner():
    """Without a stack that has run() the loop is called all the same, and may wait."""
    c, s = connected(A)
    late = threading.Timer(0.05, s.send, [b"x"])
    late.start()

    def loop(arg):
        assert c.recv(1) == b"x"
        print("all well", flush=True)
        os._exit(0)
    nstack_run(LOOP(checked(loop)))


def checked(fn):
    """An exception in a thread or in a callback ends the program."""
    def call(*args):
        try:
            return fn(*args)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    return call


if __name__ == "__main__":
    {f.__name__: f for f in (two_stacks, two_queues, no_runner)}[sys.argv[1]]()
    print("all well", flush=True)
