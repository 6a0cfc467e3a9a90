"""Every kind of call on sockets of a stack that rules give 198.18.77.0/24 and 2001:db8:77::/48 to; says what
differs from what Linux does. Argument: can the sockets be used in forked children?"""
import array
import ctypes
import errno
import fcntl
import os
import select
import socket
import sys
import tempfile
import termios
import threading
import time

V4, V6 = "198.18.77.1", "2001:db8:77::1"


def pair(family, addr, listener=None):
    own = listener or socket.create_server((addr, 0), family=family, backlog=16)
    c = socket.create_connection(own.getsockname()[:2])
    s, peer = own.accept()
    assert peer == c.getsockname() and s.getsockname()[:2] == c.getpeername()[:2], (peer, c.getsockname())
    if not listener:
        own.close()
    return c, s


def streams(family, addr):
    c, s = pair(family, addr)
    data = os.urandom(1 << 20)
    t = threading.Thread(target=lambda: (c.sendall(data), c.shutdown(socket.SHUT_WR)))
    t.start()
    got = bytearray()
    while chunk := s.recv(50000):
        got += chunk
    t.join()
    assert bytes(got) == data
    assert s.send(b"answer") == 6 and c.recv(100, socket.MSG_PEEK) == b"answer"
    n = array.array("i", [0])
    fcntl.ioctl(c.fileno(), termios.FIONREAD, n)
    assert n[0] == 6
    assert c.recv(3, socket.MSG_WAITALL) == b"ans" and os.read(c.fileno(), 10) == b"wer"
    os.write(s.fileno(), b"by write")
    assert c.recv(8, socket.MSG_WAITALL) == b"by write"
    assert s.sendmsg([b"one", b"", b"two"]) == 6 and c.recv(6, socket.MSG_WAITALL) == b"onetwo"
    os.writev(s.fileno(), [b"three", b"four"])
    x, y = bytearray(5), bytearray(4)
    assert c.recvmsg_into([x, y])[0] == 9 and bytes(x + y) == b"threefour"
    with tempfile.TemporaryFile() as f:
        f.write(data[:100000])
        f.flush()
        sent = threading.Thread(target=s.sendfile, args=(f, 5))
        sent.start()
        got = b""
        while len(got) < 99995:
            got += c.recv(65536)
        sent.join()
    assert got == data[5:100000]
    r, w = os.pipe()
    os.write(w, b"by a pipe")
    assert os.splice(r, s.fileno(), 100) == 9 and os.splice(c.fileno(), w, 100) == 9
    assert os.read(r, 100) == b"by a pipe"
    os.close(r)
    os.close(w)
    s.close()
    assert c.recv(1) == b""
    c.close()


def waiting():
    c, s = pair(socket.AF_INET, V4)
    c.settimeout(0.15)
    t0 = time.monotonic()
    try:
        c.recv(1)
        raise AssertionError
    except TimeoutError:
        assert 0.14 < time.monotonic() - t0 < 1.5
    c.settimeout(None)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, array.array("l", [0, 100000]).tobytes())
    try:
        c.recv(1)
        raise AssertionError
    except BlockingIOError:
        pass
    assert c.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    c.setblocking(False)
    try:
        c.recv(1)
        raise AssertionError
    except BlockingIOError:
        pass
    try:  # until there is no room any more
        while c.send(b"x" * 65536):
            pass
    except BlockingIOError:
        pass
    assert not select.select([], [c], [], 0)[1]
    while select.select([s], [], [], 0.05)[0]:
        s.recv(1 << 20)
    assert select.select([], [c], [], 2)[1]
    s.close()
    c.close()
    try:
        socket.create_connection((V4, 9))
        raise AssertionError
    except ConnectionRefusedError:
        pass
    a = socket.create_server((V4, 0))
    b = socket.socket()
    try:
        b.bind(a.getsockname())
        raise AssertionError
    except OSError as e:
        assert e.errno == errno.EADDRINUSE
    d = b.dup()
    b.close()
    d.connect(a.getsockname())
    a.close()
    d.close()


def events(edges):
    ls = socket.create_server((V4, 0))
    ep = select.epoll()
    ep.register(ls, select.EPOLLIN)
    r, w = os.pipe()
    ep.register(r, select.EPOLLIN)
    assert ep.poll(0.02) == []
    c = socket.create_connection(ls.getsockname())
    assert ep.poll(2) == [(ls.fileno(), select.EPOLLIN)]
    s, _ = ls.accept()
    s.setblocking(False)
    ep.register(s, select.EPOLLIN | select.EPOLLET)
    assert ep.poll(0.02) == []
    c.send(b"x")
    os.write(w, b"y")
    seen = []
    while len(seen) < 2:  # in any order: a stack tells of an edge when it comes to it
        got = ep.poll(5)
        assert got
        seen += got
        if (r, 1) in got:
            os.read(r, 1)
    assert sorted(seen) == sorted([(s.fileno(), 1), (r, 1)]), seen
    assert ep.poll(0.02) == []  # an edge is told once
    assert s.recv(9) == b"x"
    if edges:  # data that comes is no edge of room
        ep.modify(s, select.EPOLLOUT | select.EPOLLET)
        assert ep.poll(2) == [(s.fileno(), select.EPOLLOUT)]
        c.send(b"more")
        assert ep.poll(0.05) == [] and s.recv(9) == b"more"
    ep.modify(s, select.EPOLLIN | select.EPOLLOUT | select.EPOLLONESHOT)
    assert ep.poll(2) == [(s.fileno(), select.EPOLLOUT)]
    assert ep.poll(0.02) == []
    ep.modify(s, select.EPOLLIN)
    try:
        ep.register(s, select.EPOLLIN)
        raise AssertionError
    except FileExistsError:
        pass
    got = []
    t = threading.Thread(target=lambda: got.extend(ep.poll(5)))
    t.start()
    c.send(b"z")
    t.join()
    assert got == [(s.fileno(), select.EPOLLIN)]
    s.recv(9)
    ep.unregister(s)
    c.send(b"unseen")
    assert ep.poll(0.05) == []
    p = select.poll()
    p.register(s, select.POLLIN)
    assert p.poll(2000) == [(s.fileno(), select.POLLIN)]
    s.recv(100)
    c.close()
    assert p.poll(2000)[0][1] & select.POLLIN and s.recv(1) == b""
    # a set that a socket joins before it is connected
    n = socket.socket()
    n.setblocking(False)
    ep.register(n, select.EPOLLOUT | select.EPOLLIN)
    ep.poll(0)
    assert n.connect_ex(ls.getsockname()) in (0, errno.EINPROGRESS)
    assert (n.fileno(), select.EPOLLOUT) in ep.poll(2)
    assert n.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    for x in (n, s, ls):
        x.close()
    os.close(r)
    os.close(w)


def datagrams(family, addr):
    a, b = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
    a.bind((addr, 0))
    assert b.sendto(b"one", a.getsockname()) == 3
    got, who = a.recvfrom(100)
    assert got == b"one" and a.sendto(b"two", who) == 3 and b.recv(100) == b"two"
    b.connect(a.getsockname())
    b.send(b"three")
    b.send(b"4")
    assert a.recv(2) == b"th" and a.recvmsg(10)[0] == b"4"
    b.send(b"into nothing")
    b.send(b"next")
    select.select([a], [], [], 5)
    assert os.read(a.fileno(), 0) == b"" and a.recv(0) == b"" and a.recv(10) == b"next"
    ends = threading.Timer(0.02, b.shutdown, [socket.SHUT_RD])
    ends.start()
    assert b.recv(10) == b"" and b.recv(10) == b""
    ends.join()
    a.setblocking(False)
    try:
        a.recv(1)
        raise AssertionError
    except BlockingIOError:
        pass
    a.close()
    b.close()


def lengths():
    """Room that can't be: the call says so, and touches nothing."""
    c, s = pair(socket.AF_INET, V4)
    libc, less, room = ctypes.CDLL(None, use_errno=True), ctypes.c_int(-1), ctypes.create_string_buffer(b"\xaa" * 16, 16)
    for call in (libc.getsockname, libc.getpeername, lambda fd, at, n: libc.getsockopt(fd, socket.SOL_SOCKET,
                                                                                      socket.SO_RCVBUF, at, n)):
        assert call(c.fileno(), room, ctypes.byref(less)) == -1 and ctypes.get_errno() == errno.EINVAL
        assert call(c.fileno(), room, None) == -1 and ctypes.get_errno() == errno.EFAULT
    assert room.raw == b"\xaa" * 16
    s.close()


def forked(follows):
    ls = socket.create_server((V4, 0))
    c, s = pair(socket.AF_INET, V4, ls)
    pid = os.fork()
    if pid == 0:
        try:
            c.send(b"child")
            os._exit(0 if follows and c.recv(10) == b"parent" else 1)
        except ConnectionResetError:
            os._exit(2)
    if follows:
        assert s.recv(10) == b"child"
        s.send(b"parent")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (0 if follows else 2)
    s.send(b"still")
    assert c.recv(10) == b"still"


def beside():
    """The kernel's sockets are where they were."""
    ls = socket.create_server(("127.0.0.1", 0))
    c = socket.create_connection(ls.getsockname())
    s, _ = ls.accept()
    c.send(b"k")
    assert s.recv(1) == b"k"


if __name__ == "__main__":
    for family, addr in ((socket.AF_INET, V4), (socket.AF_INET6, V6)):
        streams(family, addr)
        datagrams(family, addr)
    waiting()
    events(sys.argv[1] == "no")
    lengths()
    forked(sys.argv[1] == "follows")
    beside()
    print("all well")
