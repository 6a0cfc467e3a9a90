# SPDX-License-Identifier: Apache-2.0
"""Connections that outlive what served them: a clean end of nstackd, and of the program that accepted."""
import os
import re
import signal
import socket

import pytest

from lib import apps, netns, nstack
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
        self.net, self.count, self.fifos = net, {"parent": 0, "image": 0}, {}
        self.p = net.serve([*apps.prog("driven.py"), addr, PORT], "driven", stdin="pipe", owned=False, tcp=[PORT])

    def tell(self, who, text):
        """Returns what wait() waits for."""
        to = self.fifos.get(who, self.p.popen.stdin)
        to.write(text.encode() + b"\n")
        to.flush()
        self.count[who] += 1
        return rf"^{who} {self.count[who] - 1}: (.*)$"

    def wait(self, told):
        return eval(until(lambda: re.search(told, self.p.stdout(), re.M), f"the answer {told}")[1])

    def __call__(self, text, who="parent"):
        return self.wait(self.tell(who, text))

    def fork(self, name="child"):
        path = os.path.join(self.net.workdir, name)
        os.mkfifo(path)
        pid = self(f"fork({path!r})")
        self.fifos[name], self.count[name] = open(path, "wb"), 0
        return pid

    def kill(self):
        os.kill(self.p.pid, signal.SIGKILL)
        self.p.popen.wait()


@pytest.fixture
def server(net, family):
    server = Driven(net, net.saddr(family))
    yield server
    for f in server.fifos.values():
        f.close()


def client(server, net, family):
    """A connection that the server has accepted."""
    n = server.tell("parent", "accept()")
    until(lambda: ("tcp", PORT) in nstack.claims(net.server), "the port to be claimed")
    conn = connect(net, net.saddr(family))
    server.wait(n)
    return conn


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


def test_restart_keeps_all(server, net, family):
    """One that is idle, one with something unread, one that nobody has accepted yet, and one that its
    program has closed while the peer does not read."""
    full, idle, unread = [client(server, net, family) for _ in range(3)]
    total = server("fill(0)")
    unread.sendall(b"unread")
    waiting = connect(net, net.saddr(family))
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


@pytest.mark.parametrize("what", ["held", "closed"])
def test_port_is_free_for_the_next_server(server, net, family, what):
    """A connection that went to the kernel, and which its program had, or had closed, keeps nobody from its port
    who may share it (SO_REUSEADDR), no more than one of the kernel's own does."""
    conn = client(server, net, family)
    if what == "closed":
        server("fill(0)")
    restart(net)
    until(lambda: any(s[1] == PORT and s[4] != netns.TCP_LISTEN for s in
                      net.server.sockets("tcp" if family == 4 else "tcp6")), "the kernel to have it")
    server.kill()
    with net.server.inside():
        s = socket.socket(conn.family)
    with s, conn:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((net.saddr(family), PORT))


# --- a parent that dies ---------------------------------------------------------------------------


def all_given_back(net):
    until(lambda: not nstack.accounts(net.server)["parked"], "what is parked to be given back")


def test_child_outlives_parent(server, net, family):
    """The parent is killed; its child goes on with the connection, by the stack: what neither had read,
    what the peer has not taken, and what follows."""
    conn = client(server, net, family)
    server.fork()
    conn.sendall(b"first")
    assert server("echo(0, 5)", "child") is None and conn.recv(10) == b"first"
    conn.sendall(b"unread")
    sent = server.tell("child", "conns[0].sendall(bytes(8 << 20))")
    assert len(conn.recv(1, socket.MSG_PEEK)) == 1
    server.kill()
    proof = net.proof()
    got = 0
    while got < 8 << 20:
        got += len(conn.recv(1 << 20))
    server.wait(sent)
    assert server("read(0, 6)", "child") == b"unread"
    for text in (b"and", b"what", b"follows"):
        conn.sendall(text)
        server(f"echo(0, {len(text)})", "child")
        assert conn.recv(10) == text
    proof.user_stack(tcp=10)
    server("conns[0].close()", "child")
    assert conn.recv(10) == b""
    all_given_back(net)


def test_child_that_waits(server, net, family):
    """It is blocked in recv() when the parent dies."""
    conn = client(server, net, family)
    server.fork()
    answer = server.tell("child", "read(0, 7)")
    conn.sendall(b"wai")
    server.kill()
    until(lambda: nstack.accounts(net.server)["programs_ended"] == 0, "nstackd to have noticed")
    conn.sendall(b"ting")
    assert server.wait(answer) == b"wai" + b"ting"
    conn.close()
    assert server("read(0, 1)", "child") == b""


def test_child_that_is_late(server, net, family):
    """It is stopped when the parent dies, and for longer than nstackd waits: the kernel has the
    connection then."""
    conn = client(server, net, family)
    pid = server.fork()
    conn.sendall(b"unread")
    os.kill(pid, signal.SIGSTOP)
    server.kill()
    all_given_back(net)
    os.kill(pid, signal.SIGCONT)
    assert server("read(0, 6)", "child") == b"unread"
    conn.sendall(b"more")
    server("echo(0, 4)", "child")
    assert conn.recv(10) == b"more"


def test_children_that_share(server, net, family):
    """Two of them have it: the kernel serves both."""
    conn = client(server, net, family)
    for name in ("one", "two"):
        server.fork(name)
    for name in ("one", "two"):
        conn.sendall(b"before")
        server("echo(0, 6)", name)
        assert conn.recv(10) == b"before"
    server.kill()
    for name in ("one", "two", "one"):
        conn.sendall(b"after")
        server("echo(0, 5)", name)
        assert conn.recv(10) == b"after"


@pytest.mark.parametrize("unread", [False, True], ids=["read", "unread"])
def test_nobody_is_left(server, net, family, unread):
    """The child has ended before: the connection ends with the parent, as the kernel would have it."""
    conn = client(server, net, family)
    pid = server.fork()
    os.kill(pid, signal.SIGKILL)
    server("os.wait()")
    if unread:
        conn.sendall(b"unread")
        server("conns[0].recv(1, socket.MSG_PEEK)")
    server.kill()
    conn.settimeout(5)
    if unread:
        with pytest.raises(ConnectionResetError):
            conn.recv(10)
    else:
        assert conn.recv(10) == b""
    all_given_back(net)


def test_many_children(server, net, family):
    """200 at once have the connection, and some die before they use it."""
    conn = client(server, net, family)
    server("many(200)")
    assert server("conns[0].send(b'.')") == 1
    got = b""
    while not got.endswith(b"."):
        got += conn.recv(1000)
    assert got == 133 * b"x" + b"."
    all_given_back(net)


# --- a program that becomes another one -----------------------------------------------------------


def test_exec(server, net, family):
    """The next image has the connections by the stack, with what was unread and what was set on them;
    those that are close-on-exec end."""
    conn, closed = client(server, net, family), client(server, net, family)
    conn.sendall(b"unread")
    server("conns[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)")
    server("conns[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\\1\\0\\0\\0\\5\\0\\0\\0')")
    server("kept.append(conns.pop())")
    proof = net.proof()
    server.tell("parent", "execute()")
    server.p.wait_output("next image")
    assert server("read(0, 6)", "image") == b"unread"
    for text in (b"and", b"what", b"follows"):
        conn.sendall(text)
        server(f"echo(0, {len(text)})", "image")
        assert conn.recv(10) == text
    proof.user_stack(tcp=4)
    assert server("conns[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)", "image") == 77
    assert server("conns[0].getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)", "image")[4] == 5
    assert closed.recv(10) == b""
    server("conns[0].close()", "image")
    assert conn.recv(10) == b""
    all_given_back(net)
