# SPDX-License-Identifier: Apache-2.0
"""nstack ping: requests by our stack, whose answers the kernel never sees, while its own pings go on."""
import json
import re
import signal

import pytest

from lib import apps, nstack, wait

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="pings by our stack")
PORT = 7000


@pytest.fixture
def server(net):
    """Some program whose stack runs."""
    return net.serve([*apps.prog("echo.py"), "tcp", "::", PORT], "echo", tcp=[PORT])


def ping(net, *args, status=0):
    """What it says with --json."""
    r = nstack.tool(net.server, "ping", "-W", "10", *args, "--json", check=False)
    assert r.returncode == status, (r.returncode, r.stdout, r.stderr)
    return json.loads(r.stdout)


def kernel_answers(net):
    """Echo replies that the kernel was given: (IPv4, IPv6)"""
    s = net.server.snmp()
    return s["Icmp"]["InEchoReps"], s["snmp6"]["Icmp6InEchoReplies"]


def own(net):
    """Counters that only our pings move: (redirected by steering, sent by the stack, taken by it)"""
    c = nstack.stack_counters(net.server)
    return nstack.verdicts(net.server).get("stack_echo", 0), c.get("ping_out", 0), c.get("ping_in", 0)


def pins(net):
    return nstack.table(net.server, net.sif, "pins")


def test_ping_beside_the_kernels(net, server, family):
    """Both get their own answers, all of them, and no others."""
    nothing, kernel = own(net), kernel_answers(net)
    beside = net.server.spawn(["ping", "-c20", "-i0.02", "-W5", net.caddr(family)], "ping")
    got = ping(net, "-c", "10", "-i", "0.03", net.caddr(family))
    assert beside.wait(20) == 0 and "20 packets transmitted, 20 received" in beside.stdout(), beside.stdout()
    assert (got["sent"], got["received"], got["duplicates"], got["loss_percent"]) == (10, 10, 0, 0), got
    assert (got["to"], got["from"], got["interface"]) == (net.caddr(family), net.saddr(family), net.sif)
    assert [a["seq"] for a in got["answers"]] == list(range(1, 11))
    assert {(a["ttl"], a["bytes"]) for a in got["answers"]} == {(64, 64)}
    assert 0 < got["rtt_min_us"] <= got["rtt_avg_us"] <= got["rtt_max_us"] < 10e6
    assert [b - a for a, b in zip(nothing, own(net))] == [10, 10, 10]
    assert sum(kernel_answers(net)) - sum(kernel) == 20
    assert not pins(net)


def test_unanswered(net, server):
    """A host that does not answer, and an address that nobody has."""
    net.client.run(["sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1"])
    got = ping(net, "-c", "3", "-i", "0.05", "-W", "0.2", net.c4, status=1)
    assert (got["sent"], got["received"], got["loss_percent"]) == (3, 0, 100) and not got["answers"], got
    net.server.run(["sysctl", "-qw", f"net.ipv4.neigh.{net.sif}.mcast_solicit=1",
                    f"net.ipv4.neigh.{net.sif}.retrans_time_ms=200"])
    r = nstack.tool(net.server, "ping", "-c", "1", "-W", "5", net.c4.rsplit(".", 1)[0] + ".99", check=False)
    assert r.returncode == 1 and "icmp_seq=1: the next hop does not answer" in r.stdout, r.stdout + r.stderr
    assert "1 packets transmitted, 0 received, +1 errors, 100% packet loss" in r.stdout
    assert not pins(net)


def test_by_interface_address_and_process(net, server, family):
    peer = net.caddr(family)
    (link_local,) = [a["local"] for i in json.loads(net.client.run(["ip", "-j", "addr", "show", "dev", net.cif]).stdout)
                     for a in i["addr_info"] if a["scope"] == "link"]
    for args in (["-I", net.sif, peer], ["-I", net.saddr(family), peer], [f"{link_local}%{net.sif}"],
                 ["-I", net.sif, link_local], ["-s", "1000", peer]):
        got = ping(net, "-c", "1", *args)
        assert got["received"] == 1 and got["interface"] == net.sif, got
    for p in nstack.processes(net.server):  # of a daemon, and of its program, it is the daemon's stack
        assert ping(net, "-c", "1", "-p", str(p["pid"]), peer)["received"] == 1


def test_refused(net, server):
    for args, word in ((["-I", "nosuch", net.c4], "no interface nosuch"), ([net.s4], "not this host's"),
                       (["-I", net.c4, net.c4], "not this host's"), (["-s", "1473", net.c4], "8 to 1472 bytes"),
                       (["203.0.113.1"], "unreachable"), (["-p", "1", net.c4], "pid 1")):
        r = nstack.tool(net.server, "ping", "-c", "1", *args, check=False)
        assert r.returncode == 2 and word in r.stderr and not r.stdout, (args, r)
    assert not pins(net)


def test_ends_with_its_tool(net, server):
    """By ctrl-c it sums up; killed, it leaves nothing behind."""
    p = net.server.spawn([nstack.TOOL, "ping", "-i", "0.05", net.c4], "nstack-ping")
    p.wait_output("icmp_seq=3 ")
    assert len(pins(net)) == 1
    p.signal(signal.SIGINT)
    assert p.wait(10) == 0, p.stderr()
    assert int(re.search(r"transmitted, (\d+) received", p.stdout())[1]) >= 3, p.stdout()
    wait.until(lambda: not pins(net), "the pin to go")
    p = net.server.spawn([nstack.TOOL, "ping", "-i", "0.05", net.c6], "nstack-ping-6")
    p.wait_output("icmp_seq=3 ")
    p.kill9()
    wait.until(lambda: not pins(net), "the pin to go")
