# SPDX-License-Identifier: Apache-2.0
"""nstack stats: its numbers are those of the wire; classes, rates, what came since."""
import json
import os
import socket

import pytest

from lib import apps, nstack
from lib.wait import until

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="nothing of ours to test")


@pytest.fixture
def server(net):
    return net.serve([*apps.prog("echo.py"), "tcp", net.s4, 7000], "server", tcp=[7000])


@pytest.fixture
def client(net, server):
    with net.client.inside():
        c = socket.create_connection((net.s4, 7000), 5)
    yield c
    c.close()


def rounds(c, n):
    for _ in range(n):
        c.sendall(b"x" * 100)
        assert c.recv(100, socket.MSG_WAITALL)


def stats(net, *args):
    """Of the process that has the stack."""
    (p,) = [x for x in nstack.tool_json(net.server, "stats", *args)["processes"] if x["pid"] == stack(net)]
    return p


def stack(net):
    (p,) = [x["pid"] for x in nstack.processes(net.server) if x["running"] and not x.get("daemon")]
    return p


def test_segments_are_those_that_the_peer_counts(net, client):
    rounds(client, 1)
    before, theirs = stats(net)["counters"], net.client.kernel_tcp_segments()
    rounds(client, 100)
    until(lambda: stats(net)["counters"]["tcp_in"] - before["tcp_in"]
          == net.client.kernel_tcp_segments()[1] - theirs[1], "as many received as the client has sent")
    got = stats(net)["counters"]
    assert got["tcp_out"] - before["tcp_out"] == net.client.kernel_tcp_segments()[0] - theirs[0] >= 100
    assert got["tcp_bytes_in"] - before["tcp_bytes_in"] == 10000


def test_classes(net, server, client):
    rounds(client, 3)
    p = stats(net, "all")
    assert set(p) == {"pid", "program", "counters", "queues", "accounts", "sessions", "states"}
    assert p["queues"][f"{net.sif}.0.rx_packets"] >= 4 and p["states"] == {"tcp LISTEN": 1, "tcp ESTAB": 1}
    a = p["accounts"]
    assert a["rx_frames"] == a["rx_frames_kernel"] + a["rx_frames_received"] + a["rx_frames_held"]
    assert 0 < a["tx_frames_free"] + a["tx_frames_sent"] <= a["tx_frames"], "some lie ready for what is sent next"
    assert p["sessions"]["sessions_used"] == 2
    assert set(stats(net, "socketcb", "pcblist")) == {"pid", "program", "sessions", "states"}
    text = net.tool("stats", "states", "mbufpool").stdout
    assert "  tcp ESTAB" in text and "rx_frames_kernel" in text and "tcp_in" not in text


def test_since(net, client):
    path = os.path.join(net.workdir, "before.json")
    rounds(client, 5)
    with open(path, "w", encoding="utf8") as f:
        f.write(net.tool("stats", "--json", "stack", "sessions").stdout)
    rounds(client, 10)
    now = stats(net, "--since", path, "stack", "sessions")
    assert now["counters"]["tcp_bytes_in"] == 1000 and now["sessions"]["sessions_used"] == 2
    assert stats(net, "--since", path, "queues")["queues"][f"{net.sif}.0.rx_packets"] >= 15, "it had no queues"
    with open(path, "w", encoding="utf8") as f:
        json.dump({"processes": 5}, f)
    for bad in (path, "/nonexistent"):
        r = net.tool("stats", "--since", bad, check=False)
        assert r.returncode == 1 and r.stderr.startswith("nstack: ") and not r.stdout


def test_rate(net, client):
    rounds(client, 50)
    assert stats(net, "--rate", "0.2")["counters"]["tcp_bytes_in"] == 0
    assert "tcp_bytes_in" not in net.tool("stats", "--rate", "0.1").stdout
