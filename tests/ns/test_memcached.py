# SPDX-License-Identifier: Apache-2.0
"""memcached under nsocket, TCP and UDP; the clients are in here, on the plain kernel's sockets."""
import struct

import pytest

from lib import apps

CLIENT = r"""
import socket, sys, struct
kind, addr, port, n = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
fam = socket.AF_INET6 if ":" in addr else socket.AF_INET
if kind == "tcp":
    s = socket.create_connection((addr, port), 10)
    f = s.makefile("rwb")
    for i in range(n):
        v = bytes([65 + i % 26]) * (1 + i * 37 % 5000)
        f.write(b"set k%d 0 0 %d\r\n%s\r\n" % (i, len(v), v)); f.flush()
        assert f.readline() == b"STORED\r\n"
        f.write(b"get k%d\r\n" % i); f.flush()
        assert f.readline() == b"VALUE k%d 0 %d\r\n" % (i, len(v))
        assert f.read(len(v) + 2) == v + b"\r\n" and f.readline() == b"END\r\n"
else:
    s = socket.socket(fam, socket.SOCK_DGRAM); s.settimeout(10); s.connect((addr, port))
    for i in range(n):
        v = bytes([97 + i % 26]) * (1 + i * 37 % 1000)
        for req, want in ((b"set u%d 0 0 %d\r\n%s\r\n" % (i, len(v), v), b"STORED\r\n"),
                          (b"get u%d\r\n" % i, b"VALUE u%d 0 %d\r\n%s\r\nEND\r\n" % (i, len(v), v))):
            s.send(struct.pack(">HHHH", i, 0, 1, 0) + req)
            got = s.recv(65536)
            rid, seq, total, _ = struct.unpack(">HHHH", got[:8])
            assert (rid, seq, total) == (i, 0, 1) and got[8:] == want, (got, want)
    # an answer of several datagrams
    big = b"B" * 4000
    t = socket.create_connection((addr, port), 10)
    t.sendall(b"set big 0 0 %d\r\n%s\r\n" % (len(big), big)); assert t.recv(100) == b"STORED\r\n"
    s.send(struct.pack(">HHHH", 999, 0, 1, 0) + b"get big\r\n")
    parts, total = {}, 1
    while len(parts) < total:
        got = s.recv(65536)
        rid, seq, total, _ = struct.unpack(">HHHH", got[:8])
        assert rid == 999
        parts[seq] = got[8:]
    assert b"".join(parts[i] for i in range(total)) == b"VALUE big 0 4000\r\n" + big + b"\r\nEND\r\n"
print("good")
"""


@pytest.mark.smoke
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_values(net, family, kind, threads):
    apps.memcached(net, threads=threads)
    proof = net.proof()
    n = 500
    out = net.client.run(["/usr/bin/python3", "-c", CLIENT, kind, net.saddr(family), 11211, n])
    assert out.stdout == "good\n"
    if kind == "tcp":
        proof.user_stack(tcp=n)
    else:
        proof.user_stack(tcp=3, udp=2 * n)


def test_many_clients(net, family):
    apps.memcached(net, threads=4)
    proof = net.proof()
    argv = ["/usr/bin/python3", "-c", CLIENT, "tcp", net.saddr(family), 11211, 300]
    clients = [net.client.spawn(argv, f"client{i}") for i in range(8)]
    for c in clients:
        assert c.ok() == "good\n"
    proof.user_stack(tcp=8 * 300)


def test_udp_needs_its_header(net):
    """A datagram too short for memcached gets no answer and breaks nothing."""
    apps.memcached(net)
    proof = net.proof()
    net.client.run(["nc", "-u", "-w1", net.s4, "11211"], input="xx")
    assert struct.calcsize(">HHHH") == 8
    out = net.client.run(["/usr/bin/python3", "-c", CLIENT, "udp", net.s4, 11211, 5])
    assert out.stdout == "good\n"
    proof.user_stack(tcp=1, udp=10)
