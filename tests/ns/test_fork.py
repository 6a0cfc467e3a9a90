# SPDX-License-Identifier: Apache-2.0
"""fork with inherited listeners: the worker serves."""
import os
import re
import select
import signal
import socket

import pytest

from lib import apps, nstack
from lib.wait import until


@pytest.mark.smoke
def test_one_worker(net, family):
    addr = net.saddr(family)
    net.serve([*apps.prog("echo.py"), "fork", addr, 9200, 1], "fork", tcp=[9200])
    proof = net.proof()
    pids = set()
    for i in range(5):
        out = net.client.run(["nc", "-N", "-w5", addr, "9200"], input=f"hello {i}\n").stdout.split("\n")
        assert out[0].startswith("PID ") and out[1] == f"hello {i}"
        pids.add(out[0])
    assert len(pids) == 1
    proof.user_stack(tcp=20)


def test_two_workers_all_served(net, family):
    """One of them owns the port in our stack; the other may serve what the kernel gets. Every
    client is answered."""
    addr = net.saddr(family)
    net.serve([*apps.prog("echo.py"), "fork", addr, 9200, 2], "fork", tcp=[9200])
    clients = [net.client.spawn(["sh", "-c", f"echo hi | nc -N -w5 {addr} 9200"], f"c{i}")
               for i in range(10)]
    for c in clients:
        assert c.ok(20).endswith("hi\n")


def test_other_worker_takes_the_port(net, family):
    """The worker that has the port is killed: the other, which blocks in accept(), gets it."""
    addr = net.saddr(family)
    net.serve([*apps.prog("echo.py"), "fork", addr, 9200, 2], "fork", tcp=[9200])

    def ask():
        out = net.client.run(["nc", "-N", "-w5", addr, "9200"], input="hello\n").stdout.split("\n")
        assert out[1] == "hello"
        return int(out[0].split()[1])

    first = ask()
    if net.is_nstack:
        until(lambda: len(nstack.processes(net.server)) >= 2,
              "both workers to have tried")
    os.kill(first, signal.SIGKILL)
    if net.is_nstack:
        until(lambda: nstack.owners(net.server, "tcp", 9200) - {first},
              "the port to be claimed again", 5)
    proof = net.proof()
    for _ in range(3):
        assert ask() != first
    proof.user_stack(tcp=9)  # an answer may carry the acknowledgement and the end


def test_two_use_one_connection(net, family):
    """Parent and child write at the same time, then read: no byte is lost, or comes twice."""
    n = 4000
    srv = net.serve([*apps.prog("two_at_once.py"), net.saddr(family), 9200, n], "two", tcp=[9200])
    data = os.urandom(1 << 20)
    with net.client.inside():
        conn = socket.create_connection((net.saddr(family), 9200), 20)
    with conn:
        conn.sendall(b"!")
        got = b""
        while not got.endswith(b"\n"):
            got += conn.recv(1 << 16)
        want = sum(1 + i * 37 % 40 for i in range(n))
        assert (got.count(b"c"), got.count(b"p"), len(got)) == (want, want, 2 * want + 1)
        conn.sendall(data)
        conn.shutdown(socket.SHUT_WR)
        assert srv.ok(20).split() == [str(len(data)), str(sum(data))]


def test_late_writer_is_woken(net, family):
    """Parent and child write, and there is no room. When there is, the parent is faster, and leaves too little for
    the child to go on: it has to be told when there is more."""
    n = 2 << 20
    srv = net.serve([*apps.prog("two_full.py"), net.saddr(family), 9200, n], "full", tcp=[9200], stdin="pipe")
    said = lambda what: re.search(rf"^{what}(.*)", srv.stdout(), re.M)
    got = []
    with net.client.inside():
        conn = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET)
    with conn:
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        conn.settimeout(20)
        conn.connect((net.saddr(family), 9200))
        conn.sendall(b"!")
        until(lambda: said("full"), "no room")
        while not said("room"):
            if select.select([conn], [], [], 0.01)[0]:
                got.append(conn.recv(1 << 14))
        srv.popen.stdin.write(b"\n")
        srv.popen.stdin.flush()
        wrote = int(until(lambda: said("wrote"), "the child to be late")[1])
        while data := conn.recv(1 << 16):
            got.append(data)
    got = b"".join(got)
    assert (got.count(b"c"), got.count(b"p"), len(got)) == (n, wrote, n + wrote)
    srv.ok(20)
