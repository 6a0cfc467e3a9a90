# SPDX-License-Identifier: Apache-2.0
"""Connections that outlive what served them: a clean end of nstackd, and of the program that accepted."""
import os
import signal
import socket

import pytest

from lib import apps, nstack
from lib.wait import until

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstack")
MB = 1 << 20
PORT = 7400


@pytest.fixture
def mode():
    return "daemon"


def restart(net):
    """nstackd ends as `systemctl restart` has it, and comes back."""
    d = net.daemon(net.server)
    os.kill(d.pid, signal.SIGTERM)
    until(lambda: not d.running(), "nstackd to end")
    assert d.popen.returncode == 0, d.stderr()
    net.daemon(net.server)
    until(lambda: ("tcp", PORT) in nstack.claims(net.server), "the port to be claimed again")


def connect(net, addr):
    with net.client.inside():
        return socket.create_connection((addr, PORT), 10)


class Driven:
    """driven.py under nstackd, and its children."""

    def __init__(self, net, addr):
        self.net, self.count, self.fifo = net, {"parent": 0, "child": 0}, None
        self.p = net.serve([*apps.prog("driven.py"), addr, PORT], "driven", stdin="pipe", owned=False, tcp=[PORT])

    def tell(self, who, text):
        """Returns what wait() waits for."""
        to = self.p.popen.stdin if who == "parent" else self.fifo
        to.write(text.encode() + b"\n")
        to.flush()
        self.count[who] += 1
        return rf"^{who} {self.count[who] - 1}: (.*)$"

    def wait(self, told):
        return eval(self.p.wait_output(told)[1])

    def __call__(self, text, who="parent"):
        return self.wait(self.tell(who, text))

    def fork(self):
        path = os.path.join(self.net.workdir, "child.fifo")
        os.mkfifo(path)
        pid = self(f"fork({path!r})")
        self.fifo = open(path, "wb")
        return pid


@pytest.mark.parametrize("what", ["put", "get"])
def test_restart_under_load(net, family, what):
    """nstackd is replaced in the middle of a transfer, which knows nothing of it."""
    addr = net.saddr(family)
    net.serve([*apps.prog("bulk.py"), "server", addr, PORT], "bulk", tcp=[PORT])
    proof = net.proof()
    client = net.client.spawn([*apps.prog("bulk.py"), "client", addr, PORT, what, 640 * MB], "client")
    until(lambda: sum(proof.delta()[x] for x in ("tcp_in", "tcp_out")) > 1000, "the transfer to be on its way")
    before = proof.delta()
    restart(net)
    assert client.ok(60).startswith("same ")
    after = proof.delta()
    assert sum(after[x] - before[x] for x in ("kernel_tcp_in", "kernel_tcp_out")) > 100, after


def test_restart_keeps_all(net, family):
    """One that is idle, one with something unread, one that nobody has accepted yet, and one that its
    program has closed while the peer does not read."""
    addr = net.saddr(family)
    server = Driven(net, addr)
    full, idle, unread = [connect(net, addr) for _ in range(3) if server.tell("parent", "accept()")]
    server.wait(r"^parent 2: (3)$")
    total = server("fill(0)")
    unread.sendall(b"unread")
    waiting = connect(net, addr)
    waiting.sendall(b"waiting")
    until(lambda: sum(s["state"] == "ESTAB" for s in nstack.sockets(net.server)) >= 3, "all of them")
    restart(net)
    server("accept()")
    for i, conn, text in (1, idle, b""), (2, unread, b"unread"), (3, waiting, b"waiting"):
        conn.sendall(b"more")
        server(f"echo({i}, {len(text) + 4})")
        assert conn.recv(100) == text + b"more"
    got = 0
    while part := full.recv(1 << 20):
        got += len(part)
    assert got == total
    for conn in (full, idle, unread, waiting):
        conn.close()
