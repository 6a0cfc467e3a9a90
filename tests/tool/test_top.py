# SPDX-License-Identifier: Apache-2.0
"""nstack top: its numbers, and its screen as a person sees it."""
import contextlib
import json
import os
import signal
import socket
import threading

import pytest

from lib import apps, nstack
from lib.screen import Screen

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="nothing of ours to test")


@pytest.fixture
def server(net):
    return net.serve([*apps.prog("echo.py"), "tcp", net.s4, 7000], "server", tcp=[7000])


@contextlib.contextmanager
def traffic(net):
    """A client that sends and receives all the time."""
    end = threading.Event()
    with net.client.inside():
        c = socket.create_connection((net.s4, 7000), 5)

    def run():
        while not end.is_set():
            c.sendall(b"x" * 1000)
            c.recv(1000, socket.MSG_WAITALL)
    t = threading.Thread(target=run)
    t.start()
    try:
        yield c.getsockname()[1]
    finally:
        end.set()
        t.join()
        c.close()


def top(net, view):
    return json.loads(net.tool("top", "--view", view, "-d", "0.5", "-n", "1", "--json").stdout)[view]


def test_numbers(net, server):
    with traffic(net) as port:
        (p,) = [x for x in top(net, "programs") if x["pid"] == server.pid]
        (stack,) = top(net, "stacks")
        (conn,) = [x for x in top(net, "sockets") if x["remote"].endswith(f":{port}")]
    assert p["state"] == "running" and p["user"] == "root" and p["sockets"] == 2 and p["memory_bytes"] > 0
    for x in (p, stack):
        assert x["rx_packets_per_s"] > 10 and x["tx_packets_per_s"] > 10, x
        assert x["rx_bytes_per_s"] > 10000 and x["cpu_percent"] > 0, x
    assert conn["rx_bytes_per_s"] > 10000 and conn["pid"] == server.pid and conn["state"] == "ESTAB"
    daemon = nstack.processes(net.server)[0]["pid"] if net.mode == "daemon" else None
    if net.mode == "daemon":
        (daemon,) = [x["pid"] for x in nstack.processes(net.server) if x.get("programs_max")]
        assert stack["pid"] == p["served_by"] == daemon and stack["programs"] == 1
    else:
        assert stack["pid"] == server.pid and stack["interfaces"] == net.sif
    (p,) = [x for x in top(net, "programs") if x["pid"] == server.pid]
    assert p["rx_packets_per_s"] == p["rx_bytes_per_s"] == 0, "no traffic any more"


def test_batch(net, server):
    out = net.tool("top", "-b", "-d", "0.1", "-n", "2").stdout.split("\n\n")
    assert len(out) == 2
    for table in out:
        head, row = table.splitlines()
        assert head.split()[:3] == ["PID", "PROGRAM", "STATE"]
        assert row.split()[0] == str(server.pid) and "running" in row


@pytest.fixture
def screen(net, server):
    s = Screen(net.server.argv([nstack.TOOL, "top", "-d", "0.2"]))
    try:
        yield s
    finally:
        s.close()


def row(lines, pid):
    return next((x for x in lines if x.split()[:1] == [str(pid)]), None)


def test_screen(net, server, screen):
    with traffic(net) as port:
        # what fits into 80 columns; a rate as soon as there are two samples
        lines = screen.wait(lambda l: row(l, server.pid) and "-" not in row(l, server.pid).split(), "rates")
        assert lines[2].split()[:4] == ["PID", "PROGRAM", "STATE", "SOCKETS"] and "%CPU" in lines[2]
        assert row(lines, server.pid)[lines[2].index("STATE"):].startswith("running"), lines
        assert all(len(x) <= 80 for x in lines) and lines[-1].endswith("q quit")
        screen.keys("s")
        screen.wait(lambda l: any(f":{port}" in x and "ESTAB" in x for x in l), "the connection")
        screen.keys("w")
        screen.wait(lambda l: "LOST/s" in l[2] and len([x for x in l[3:-1] if x]) == 1, "the stack")
        screen.keys("\t\t")
        screen.wait(lambda l: "PROGRAM" in l[2] and row(l, server.pid), "programs again")
        screen.keys("h")
        screen.wait(lambda l: any("sort by the column" in x for x in l), "help")
        screen.keys("x")
        screen.wait(lambda l: row(l, server.pid), "the table again")
        screen.resize(12, 132)
        lines = screen.wait(lambda l: "USER" in l[2] and l[11].startswith("h help"), "more columns, fewer lines")
        assert "root" in row(lines, server.pid)
        screen.resize(5, 30)
        screen.wait(lambda l: l[4].startswith("h help") and l[2].startswith("PID") and row(l, server.pid), "room for a row")
        screen.resize(2, 10)
        screen.keys("<>rhx+- ")
        screen.resize(24, 80)
        screen.wait(lambda l: "(held)" in l[0] and l[-1].startswith("h help"), "it to be back, and held")
    screen.keys("q")
    assert screen.ended() == 0


def test_many_rows_scroll(net, server, screen):
    with net.client.inside():
        conns = [socket.create_connection((net.s4, 7000), 5) for _ in range(40)]
    screen.keys("s<<<<r")
    screen.wait(lambda l: len([x for x in l if "ESTAB" in x or "SYN" in x]) >= 19, "a full screen")
    first = screen.wait(lambda l: l[1].split()[-1] == "41", "all of them")[3]
    screen.keys("\x1b[B")
    screen.wait(lambda l: l[3] != first, "another first row")
    screen.keys("\x1b[6~" * 5)
    screen.wait(lambda l: len([x for x in l[3:-1] if x]) == 20, "the last rows, and no empty ones")
    for c in conns:
        c.close()


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_screen_is_left_as_it_was(net, server, screen, sig):
    screen.wait(lambda l: row(l, server.pid), "the table")
    assert not screen.echoes() and screen.screen.cursor.hidden
    os.kill(screen.popen.pid, sig)
    screen.ended()
    screen.wait(lambda l: screen.echoes() and not screen.screen.cursor.hidden, "an ordinary terminal")


def test_terminal_that_is_unknown(net):
    s = Screen(net.server.argv([nstack.TOOL, "top"]), term="no-such-terminal")
    try:
        assert s.ended() == 1
        assert "TERM=no-such-terminal" in "\n".join(s.lines()) and "--batch" in "\n".join(s.lines())
    finally:
        s.close()
