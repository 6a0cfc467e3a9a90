# SPDX-License-Identifier: Apache-2.0
"""nstack dump writes what tshark reads: our stack's packets, which tcpdump would not see."""
import signal

import pytest

from lib import apps, nstack, wait

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="captures our stack")


def tshark(net, path, *args):
    return net.server.run(["tshark", "-r", path, *args], timeout=60).stdout


def test_dump(net, family):
    apps.redis(net)
    path = net.workdir + "/dump.pcapng"
    d = net.server.spawn([nstack.TOOL, "dump", "-w", path], "dump")
    d.wait_output("capturing")
    addr = net.saddr(family)
    value = "needle-" + "x" * 3000
    assert apps.redis_cli(net.client, addr, "set", "k", value) == "OK"
    assert apps.redis_cli(net.client, addr, "get", "k") == value
    d.signal(signal.SIGINT)
    assert d.wait(10) == 0, d.stderr()
    assert int(d.wait_output(r"(\d+) packets captured, 0 lost")[1]) >= 14
    ip = "ip" if family == 4 else "ipv6"
    rows = [r.split("\t") for r in tshark(
        net, path, "-Y", "tcp.port==6379", "-T", "fields", "-e", f"{ip}.src", "-e", "tcp.flags.str",
        "-e", "tcp.len").splitlines()]
    assert len(rows) >= 14
    assert {r[0] for r in rows} == {addr, net.caddr(family)}
    syn = [r for r in rows if "S" in r[1]]
    assert len(syn) == 4 and "A" in syn[1][1]
    assert sum(int(r[2]) for r in rows if r[0] == addr) >= len(value)
    assert b"needle-" in open(path, "rb").read()
    # the program goes on after the capture
    assert apps.redis_cli(net.client, addr, "ping") == "PONG"


def test_dump_from_the_start(net):
    path = net.workdir + "/start.pcapng"
    p = apps.redis(net, config={"dump": path})
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    net.daemons.get(net.server, p).stop()
    assert "PONG" in tshark(net, path, "-Y", "tcp.port==6379", "-x")


def test_dump_stops_with_its_tool(net):
    """kill -9 of the tool ends the capture, not the program."""
    apps.redis(net)
    path = net.workdir + "/dump.pcapng"
    d = net.server.spawn([nstack.TOOL, "dump", "-w", path], "dump")
    d.wait_output("capturing")
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    d.kill9()
    proof = net.proof()
    for _ in range(20):
        assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    proof.user_stack(tcp=40)
    wait.until(lambda: "PONG" in tshark(net, path, "-x"), "a readable file")


def test_dump_of_a_host_for_a_time(net):
    """Packets from and to one address only; it ends by itself."""
    apps.redis(net)
    paths = [f"{net.workdir}/{name}.pcapng" for name in ("theirs", "others")]
    for path, host in zip(paths, (net.c4, "198.18.99.9")):
        d = net.server.spawn([nstack.TOOL, "dump", "-w", path, "-t", "1", "host", host], "dump")
        d.wait_output("capturing")
        assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
        assert d.wait(10) == 0, d.stderr()
    assert [bool(tshark(net, path, "-Y", "tcp")) for path in paths] == [True, False]
