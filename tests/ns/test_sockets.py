# SPDX-License-Identifier: Apache-2.0
"""nstack sockets, status and stats tell the truth."""
import pytest

from lib import apps, nstack, wait

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="asks nstack")


def test_sockets(net, family):
    p = apps.redis(net)
    addr = net.saddr(family)
    cli = net.client.spawn(["redis-cli", "-h", addr, "blpop", "q", "20"], "blpop")
    wait.until(lambda: "cmd=blpop" in apps.redis_cli(net.client, addr, "client", "list"), "blpop")
    mine = [s for s in nstack.sockets(net.server) if s["state"].startswith("ESTAB")
            and net.caddr(family) in s["remote"]]
    assert len(mine) == 1, nstack.sockets(net.server)
    s = mine[0]
    assert s["local"].endswith(":6379") and addr in s["local"] and s["proto"] == "tcp"
    assert s["pid"] == p.pid and s["program"].startswith("redis") and s["stack"] == "tcpip"
    assert (s["recv_q"], s["send_q"]) == (0, 0)
    listeners = [s for s in nstack.sockets(net.server) if s["state"] == "LISTEN"]
    assert listeners
    text = net.tool("sockets").stdout
    assert "ESTAB" in text and "LISTEN" in text and net.caddr(family) in text
    assert apps.redis_cli(net.client, addr, "rpush", "q", "x") == "1"
    cli.ok(10)
    wait.until(lambda: not [s for s in nstack.sockets(net.server) if s["state"].startswith("ESTAB")],
               "closed connections to disappear")


def test_status(net):
    p = apps.redis(net)
    i = nstack.interface(net.server, net.sif)
    assert i["attached"] and i["mode"] == "generic"
    me = [x for x in nstack.processes(net.server) if x["pid"] == p.pid][0]
    assert me["running"] and not me["fallback"]
    daemon = [x for x in nstack.processes(net.server) if x["pid"] == me.get("daemon")]
    assert bool(daemon) == (net.mode == "daemon")
    stack = daemon[0] if daemon else me
    assert stack["stack"] == "tcpip"
    port = stack["ports"][0]
    assert port["ifname"] == net.sif and port["in_use"] and port["mode"] and port["mode_why"]
    assert nstack.owners(net.server, "tcp", 6379) == {p.pid}
    assert stack["accounts"]["rx_frames"] > 0 and stack["sessions_refused"] == 0
    text = net.tool("status").stdout
    assert "tcp/6379" in text and "redis" in text and "generic" in text and "  frames: of 4096 to receive" in text


@pytest.mark.in_process # nstackd refuses the ports before it comes to that
def test_more_sockets_than_there_is_room_for(net):
    """Those beyond the bound are the kernel's; how many were refused is told."""
    prog = (f"import socket; s = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(20)]\n"
            f"for i, u in enumerate(s): u.bind(('{net.s4}', 7000 + i)); u.settimeout(0.001)\n"
            "for u in s:\n  try: u.recv(1)\n  except TimeoutError: pass\n"
            "print('up', flush=True); s[19].settimeout(None); print(s[19].recv(9), flush=True)")
    p = net.server.spawn(net.argv([nstack.PYTHON, "-c", prog], {"max_sockets": 16}), "sockets", env=net.env())
    p.wait_output("up")
    (stack,) = [x for x in nstack.processes(net.server) if x["running"] and not x.get("daemon")]
    assert stack["sessions_used"] == 16 and stack["sessions_refused"] >= 4
    assert f"{stack['sessions_refused']} sockets were left to the kernel" in net.tool("status").stdout
    net.client.run(["nc", "-u", "-q0", net.s4, "7019"], input="served")
    p.wait_output("served")
