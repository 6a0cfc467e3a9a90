# SPDX-License-Identifier: Apache-2.0
"""A program of nstackd's that speaks shm/attach.h by hand, and need not keep to it."""
import socket
import struct

CALL = struct.Struct("=HHIiiI24s24s64s")
HELLO, ALLOC, OPEN, BIND, LISTEN, CONNECT, CLAIM, ACCEPT, PARK, TAKE = 1, 2, 3, 4, 5, 6, 12, 16, 18, 20
TO_KERNEL, V4TOO = 15, 1
QUIET, MAGIC, VERSION = 1, 0x6e737464, 1


def call(op, flags=0, session=0, arg=0, arg2=0, length=0, local=b"", remote=b"", data=b""):
    return CALL.pack(op, flags, session, arg, arg2, length, local, remote, data)


def address(ip, port):
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return struct.pack("=BBHI", family, 0, socket.htons(port), 0) + socket.inet_pton(family, ip)


def dial(net):
    with net.server.inside():
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.settimeout(5)
        s.connect("\0nstackd")
    return s


def attach(net):
    """By hand: the socket, the descriptors that came, the answer."""
    s = dial(net)
    s.send(call(HELLO, session=MAGIC, arg=VERSION, data=b"liar"))
    msg, fds, _, _ = socket.recv_fds(s, 400, 8)
    assert struct.unpack_from("=i", msg)[0] == 0
    return s, fds, struct.unpack_from("=III", msg, 16)


def result(s, message):
    s.send(message)
    return struct.unpack_from("=i", s.recv(400))[0]


def show(s, message, sock):
    """The result of a message that comes with a socket."""
    socket.send_fds(s, [message], [sock.fileno()])
    return struct.unpack_from("=i", s.recv(400))[0]


def listen(s, session, local, sock):
    message = call(OPEN, QUIET, session) + call(BIND, QUIET, session, local=local) + call(LISTEN, session=session)
    assert show(s, message, sock) == 0


def alloc(s, proto=socket.IPPROTO_TCP, family=socket.AF_INET):
    s.send(call(ALLOC, arg=family, arg2=proto))
    return struct.unpack_from("=I", s.recv(400), 4)[0]


def listener(s, ip, port, sock):
    """Claims the port that sock listens on, and listens there; the session."""
    assert show(s, call(CLAIM, arg=socket.IPPROTO_TCP, local=address(ip, port)), sock) == 0
    session = alloc(s)
    listen(s, session, address(ip, port), sock)
    return session
