# SPDX-License-Identifier: Apache-2.0
"""Servers of several processes under nstackd, without privilege: one listener, one queue."""
import contextlib
import os
import re
import signal
import socket

import pytest

from lib import apps, nstack
from lib.net import Net
from lib.wait import until

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstack")

PORT = 7000
PREFORK = os.path.join(os.path.dirname(__file__), "progs", "prefork.py")
#: another user, no capability, no way to get one
BARE = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs",
        "--bounding-set=-all", "--inh-caps=-all"]


@pytest.fixture
def net(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    n = Net(str(tmp_path), "daemon")
    try:
        n.daemon(n.server)
        yield n
    finally:
        n.close()


def listening(net):
    """Pids of the programs that the daemon has the port for."""
    pids = {p for d in nstack.walk(nstack.tool_json(net.server, "status")) for c in d.get("claims", [])
            if (c["proto"], int(c["port"])) == ("tcp", PORT) for p in c["programs"]}
    return pids - {net.daemon(net.server).pid}


class Server:
    """prefork.py, all workers of which listen."""

    def __init__(self, net, workers, how, addr=None, backlog=100):
        self.net, self.addr = net, addr or net.s4
        argv = [nstack.PYTHON, PREFORK, self.addr, str(PORT), str(workers), how, str(backlog)]
        self.proc = net.server.spawn(BARE + nstack.run_argv(argv), "prefork", env=net.env(), stdin="pipe")
        self.workers = self.started(workers)

    def started(self, n):
        """Wait until n workers have been started, and serve; all of their pids."""
        def pids():
            self.proc.must_run()
            return set(map(int, re.findall(r"worker (\d+)", self.proc.stdout())))
        until(lambda: len(pids()) >= n, f"{n} workers")
        until(lambda: pids() - {p for p in pids() if gone(p)} <= listening(self.net), "them to listen")
        return pids()

    def replace(self):
        """New workers for those that have ended."""
        n = len(self.workers)
        self.proc.popen.stdin.write(b"\n")
        self.proc.popen.stdin.flush()
        new = self.started(n + 1) - self.workers
        self.workers |= new
        return new

    def connect(self):
        with self.net.client.inside():
            return socket.create_connection((self.addr, PORT), 5)


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def who(c, timeout=5):
    """The worker that has the connection."""
    c.settimeout(timeout)
    return int(c.recv(100) or 0)


def kernel_opens(net):
    return net.server.kernel_tcp_opens()


@pytest.mark.parametrize("how", ["accept", "epoll", "exclusive"])
def test_whoever_is_free_gets_the_next(net, family, how):
    srv, opens = Server(net, 3, how, net.saddr(family)), kernel_opens(net)
    with contextlib.ExitStack() as stack:
        held = {}
        for _ in range(3):
            c = stack.enter_context(srv.connect())
            held[who(c)] = c
        assert held.keys() == srv.workers # each is busy with one
        waiting = [stack.enter_context(srv.connect()) for _ in range(3)]
        for pid, c in held.items():
            c.close()
            assert who(waiting.pop(0)) == pid # in the order in which they came
    assert kernel_opens(net) == opens


def test_the_queue_is_one(net):
    """As long as listen() allowed, however many wait on it."""
    srv = Server(net, 3, "accept", backlog=4)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            who(stack.enter_context(srv.connect()))
        waiting = [stack.enter_context(srv.connect()) for _ in range(5)] # one more, as in Linux
        with pytest.raises(TimeoutError), net.client.inside():
            stack.enter_context(socket.create_connection((net.s4, PORT), 0.5))
        assert waiting


@pytest.mark.parametrize("how", ["accept", "epoll"])
def test_members_are_killed(net, how):
    """Whoever is killed, nothing that waits is lost: nor while the parent alone has the listener."""
    srv, opens = Server(net, 3, how), kernel_opens(net)
    with contextlib.ExitStack() as stack:
        held = {}
        for _ in range(3):
            c = stack.enter_context(srv.connect())
            held[who(c)] = c
        waiting = [stack.enter_context(srv.connect()) for _ in range(4)]
        for i, c in enumerate(waiting):
            c.sendall(b"early %d" % i)
        for pid in list(held)[:2]:
            os.kill(pid, signal.SIGKILL)
        last = list(held)[2]
        until(lambda: listening(net) == {last}, "the others to be gone")
        held[last].close()
        c = waiting.pop(0)
        assert who(c) == last
        os.kill(last, signal.SIGKILL)
        until(lambda: not listening(net), "the last one to be gone")
        srv.replace()
        for c in waiting:
            assert who(c) not in held
            c.close()
    assert kernel_opens(net) == opens
