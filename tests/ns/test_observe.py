# SPDX-License-Identifier: Apache-2.0
"""nstackd, asked by the tool: which programs there are, what they have, whose a socket is."""
import json
import os
import socket
import struct

import pytest

from lib import nstack
from lib.wait import until

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstackd")
NOBODY = 65534

SERVER = """
import socket, sys
s = socket.create_server(("{addr}", {port}))
u = socket.socket(type=socket.SOCK_DGRAM)
u.bind(("{addr}", {port}))
u.setblocking(False)
try:
    u.recv(1)
except BlockingIOError:
    pass
print("up", flush=True)
while True:
    c, _ = s.accept()
    while d := c.recv(65536):
        c.sendall(d)
    c.close()
"""


@pytest.fixture
def mode():
    return "daemon"


def start(net, port, prefix=()):
    """An echo server under nstackd; its process id."""
    p = net.server.spawn([*prefix, *net.argv([nstack.PYTHON, "-c", SERVER.format(addr=net.s4, port=port)])],
                         f"server-{port}", env=net.env())
    p.wait_output("up")
    until(lambda: {("tcp", port), ("udp", port)} <= nstack.claims(net.server), "its ports")
    return p


def daemon(net):
    (d,) = [x for x in nstack.processes(net.server) if x.get("programs_max")]
    return d


def program(net, pid):
    return next((x for x in daemon(net)["attached"] if x["pid"] == pid), None)


def test_programs(net):
    one = start(net, 7000)
    two = start(net, 7001, ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "--no-new-privs"])
    d = daemon(net)
    assert d["programs"] == 2 and d["programs_max"] == 256
    assert {(x["pid"], x["uid"], x["state"]) for x in d["attached"]} == {
        (one.pid, 0, "running"), (two.pid, NOBODY, "running")}
    before = program(net, one.pid)
    assert before["program"].startswith("python") and before["memory_bytes"] > 0
    assert (before["listeners"], before["connections"], before["datagram"]) == (1, 0, 1)
    assert {(x["proto"], x["port"]) for x in before["listens"]} == {("tcp", 7000), ("udp", 7000)}
    until(lambda: program(net, one.pid)["asleep"], "it to wait in accept()")
    with net.client.inside():
        c = socket.create_connection((net.s4, 7000), 5)
    c.sendall(b"x" * 1000)
    assert c.recv(1000, socket.MSG_WAITALL)
    now = program(net, one.pid)
    assert (now["listeners"], now["connections"], now["sessions_used"]) == (1, 1, 3)
    assert now["bytes_in"] - before["bytes_in"] == now["bytes_out"] - before["bytes_out"] == 1000
    assert now["packets_in"] > before["packets_in"] and now["notifications"] > before["notifications"]
    c.close()
    until(lambda: program(net, one.pid)["connections"] == 0, "its end")
    assert program(net, one.pid)["bytes_in"] == now["bytes_in"], "what closed connections brought stays known"
    assert program(net, two.pid)["bytes_in"] == 0
    text = net.tool("status").stdout
    assert f"pid {one.pid} python3" in text and f"user {NOBODY}: running" in text and "tcp/7000" in text
    two.stop()
    until(lambda: program(net, two.pid) is None, "it to be gone")


def test_whose_a_socket_is(net):
    one, two = start(net, 7000), start(net, 7001)
    with net.client.inside():
        c = socket.create_connection((net.s4, 7001), 5)
    until(lambda: len([s for s in nstack.sockets(net.server) if s["state"] == "ESTAB"]) == 1, "the connection")
    of = {(s["proto"], s["local"].rsplit(":")[-1], s["state"]): s for s in nstack.sockets(net.server)
          if s["stack"] == "tcpip"}
    assert {k: s["pid"] for k, s in of.items()} == {
        ("tcp", "7000", "LISTEN"): one.pid, ("udp", "7000", "UNCONN"): one.pid,
        ("tcp", "7001", "LISTEN"): two.pid, ("udp", "7001", "UNCONN"): two.pid, ("tcp", "7001", "ESTAB"): two.pid}
    assert {s["served_by"] for s in of.values()} == {daemon(net)["pid"]}
    mine = nstack.tool_json(net.server, "sockets", "--pid", str(two.pid))["sockets"]
    assert {s["pid"] for s in mine} == {two.pid} and len([s for s in mine if s["stack"] == "tcpip"]) == 3
    c.close()


def dial(net):
    with net.server.inside():
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect("\0nstackd")
    return s


def test_who_only_connects(net):
    """Who has not said hello is counted as waiting, and for nothing else."""
    net.daemon(net.server)
    s = dial(net)
    until(lambda: daemon(net)["waiting"] == 1, "the connection")
    assert daemon(net)["programs"] == 0 and daemon(net)["attached"] == []
    s.close()
    until(lambda: daemon(net)["waiting"] == 0, "its end")


def test_a_long_list(net):
    """More programs than one message has room for."""
    net.daemons[net.server] = net.server.spawn([nstack.DAEMON, "--programs", "80"], "nstackd", env=net.env())
    until(lambda: nstack.daemon_ready(net.server), "nstackd")
    socks = []
    for _ in range(70):
        socks.append(dial(net))
        # hello, as in shm/attach.h
        socks[-1].send(struct.pack("=HHIiiI24s24s64s", 1, 0, 0x6e737464, 1, 0, 0, b"", b"", b"program"))
    until(lambda: len(daemon(net)["attached"]) == 70, "all of them")
    json.loads(net.tool("status", "--json").stdout)
    for s in socks:
        s.close()
    until(lambda: daemon(net)["attached"] == [], "their end")


def test_a_user_sees_his_own(net):
    """The daemon answers root; a user's program says itself what it sees of its sockets."""
    nobody = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "--no-new-privs"]
    mine = start(net, 7000, nobody)
    start(net, 7001)
    with net.client.inside():
        c = socket.create_connection((net.s4, 7000), 5)
    c.sendall(b"x")
    assert c.recv(1) == b"x"
    r = net.server.run([*nobody, nstack.TOOL, "sockets", "--json", "--pid", str(mine.pid)])
    got = [s for s in json.loads(r.stdout)["sockets"] if s["stack"] == "tcpip"]
    assert {(s["proto"], s["state"], s["local"]) for s in got} == {
        ("tcp", "LISTEN", f"{net.s4}:7000"), ("udp", "UNCONN", f"{net.s4}:7000"), ("tcp", "ESTAB", f"{net.s4}:7000")}
    assert all(s["pid"] == mine.pid and s["served_by"] == daemon(net)["pid"] for s in got), got
    assert got[-1]["remote"] == "%s:%d" % c.getsockname()
    roots = [s for s in nstack.sockets(net.server) if s["stack"] == "tcpip" and s["pid"] == mine.pid]
    assert len(roots) == 3, "each once, though both tell of it"
    c.close()
