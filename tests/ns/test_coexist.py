# SPDX-License-Identifier: Apache-2.0
"""Everything else on the same interface and the same address goes on as before.

While redis serves through nstack: ping, a kernel TCP server on another port, DNS over UDP by
dnsmasq, and a loopback client of the very same redis.
"""
import re

import pytest

from lib import apps, nstack, wait

KERNEL_PORT = 7777


@pytest.fixture
def neighbours(net):
    """The kernel's servers on the same addresses."""
    for addr, port in ((net.s4, KERNEL_PORT), (net.s6, KERNEL_PORT)):
        net.serve([*apps.prog("echo.py"), "tcp", addr, port], "echo", tcp=[port], plain=True)
    net.serve(["dnsmasq", "-d", "-C", "/dev/null", "-R", "-h", "-p", "53", "--bind-interfaces",
               "--listen-address", f"{net.s4},{net.s6}", "--user=root", "--pid-file=",
               "--address=/test.example/198.18.255.1"], "dnsmasq", udp=[53], tcp=[53], plain=True)


def ping(net, family, count=20):
    out = net.client.run(["ping", f"-c{count}", "-i0.05", "-W2", net.saddr(family)]).stdout
    assert f"{count} packets transmitted, {count} received" in out, out


def kernel_tcp(net, family, n=20):
    for i in range(n):
        text = f"message {i} to the kernel\n"
        out = net.client.run(["nc", "-N", "-w5", net.saddr(family), KERNEL_PORT], input=text).stdout
        assert out == text


def dns(net, family, n=20):
    for i in range(n):
        out = net.client.run(["dig", "+short", "+tries=1", "+time=3", f"@{net.saddr(family)}",
                              f"h{i}.test.example"]).stdout
        assert out == "198.18.255.1\n", out


def loopback_redis(net, family):
    for addr in ("127.0.0.1" if family == 4 else "::1", net.saddr(family)):
        assert apps.redis_cli(net.server, addr, "set", "from-loopback", addr) == "OK"
        assert apps.redis_cli(net.client, net.saddr(family), "get", "from-loopback") == addr


def ssh_banner_server(net):
    """Something that speaks first, on ssh's port."""
    net.serve(["sh", "-c", "while echo SSH-2.0-test | nc -l -N -q0 22 >/dev/null; do :; done"],
              "ssh", tcp=[22], plain=True)


def all_of_it(net, family):
    ping(net, family)
    kernel_tcp(net, family)
    dns(net, family)


def test_nothing_of_theirs_is_redirected(net, neighbours, family):
    """redis is idle: not one packet may go to AF_XDP while its neighbours work."""
    apps.redis(net)
    assert apps.redis_cli(net.client, net.saddr(family), "ping") == "PONG"
    if net.is_nstack:
        before = nstack.redirected(net.server)
        wait.until(lambda: nstack.redirected(net.server) == before, "redis to be quiet")
        before = nstack.redirected(net.server)
    proof = net.proof()
    all_of_it(net, family)
    d = proof.delta()
    assert d["kernel_tcp_in"] >= 20 * 4 and d["kernel_udp_in"] >= 20, d
    if net.is_nstack:
        assert nstack.redirected(net.server) == before
        assert (d["tcp_in"], d["udp_in"]) == (0, 0), d


def test_under_load(net, neighbours, family):
    apps.redis(net)
    addr = net.saddr(family)
    load = net.client.spawn(["redis-benchmark", "-h", addr, "-c", 50, "-P", 4, "-n", 100_000_000,
                             "-t", "get"], "load")
    wait.until(lambda: apps.redis_calls(apps.redis_cli(net.client, addr, "info", "commandstats"))
               .get("get", 0) > 1000, "the load to run")
    proof = net.proof()
    all_of_it(net, family)
    loopback_redis(net, family)
    d = proof.delta()
    assert load.running(), load.stderr()
    assert d["kernel_tcp_in"] >= 20 * 4, d
    if net.is_nstack:
        assert d["tcp_in"] > 1000, d
        # the kernel's TCP handled the neighbours and the loopback only: a load that went by the
        # kernel would count tens of thousands
        assert d["kernel_tcp_in"] < 1500, d


def test_loopback_client_uses_the_shadow(net, family):
    """One listener, two stacks: remote clients by ours, local ones by the kernel."""
    apps.redis(net)
    proof = net.proof()
    lo = "127.0.0.1" if family == 4 else "::1"
    apps.redis_benchmark(net.server, lo, 2000)
    d = proof.delta()
    assert d["kernel_tcp_in"] > 0 and d["tcp_in"] == 0, d
    clients = [net.client.spawn(["redis-cli", "-h", net.saddr(family), "blpop", "q", "20"], "far"),
               net.server.spawn(["redis-cli", "-h", lo, "blpop", "q", "20"], "near")]
    wait.until(lambda: len(re.findall("cmd=blpop", apps.redis_cli(net.server, lo, "client", "list"))) == 2,
               "both clients to wait")
    proof = net.proof()
    assert apps.redis_cli(net.client, net.saddr(family), "rpush", "q", "1", "2") == "2"
    assert sorted(c.ok(10).split()[1] for c in clients) == ["1", "2"]
    d = proof.delta()
    if net.is_nstack:
        assert d["tcp_in"] > 0 and d["kernel_tcp_in"] > 0, d


def test_other_protocols_of_the_same_port(net, family):
    """TCP 6379 is claimed; UDP 6379 of somebody else is not."""
    apps.redis(net)
    addr = net.saddr(family)
    net.serve([*apps.prog("echo.py"), "udp", addr, 6379], "echo", udp=[6379], plain=True)
    proof = net.proof()
    out = net.client.run(["nc", "-u", "-w1", addr, "6379"], input="to the kernel\n").stdout
    assert out == "to the kernel\n"
    assert proof.delta()["kernel_udp_in"] == 1


def test_fragments_reach_the_kernel(net):
    """A big ping is fragmented; it is answered while redis owns its port."""
    apps.redis(net)
    out = net.client.run(["ping", "-c5", "-i0.1", "-s", "8000", net.s4]).stdout
    assert " 0% packet loss" in out
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"


def test_same_port_twice_is_refused(net):
    """EADDRINUSE as usual, between nstack programs and against plain ones."""
    apps.redis(net)
    for argv in (net.argv(["redis-server", "--port", "6379", "--bind", "0.0.0.0"]),
                 ["redis-server", "--port", "6379", "--bind", "0.0.0.0"]):
        r = net.server.run(argv, check=False, timeout=20)
        assert r.returncode != 0 and "ddress already in use" in r.stdout + r.stderr
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"


def test_ss_shows_the_listener(net):
    apps.redis(net)
    out = net.server.run(["ss", "-Hltn", "sport = :6379"]).stdout
    assert out.count("LISTEN") == 2, out


def test_ipv4_only_server_leaves_ipv6(net):
    """redis on IPv4; a kernel server on the same port of IPv6."""
    net.serve(["redis-server", "--port", 6379, "--bind", net.s4, "--protected-mode", "no",
               "--save", "", "--dir", net.workdir], "redis", tcp=[6379])
    net.server.spawn([*apps.prog("echo.py"), "tcp", net.s6, "6379"], "echo")
    wait.until(lambda: len([s for s in net.server.sockets("tcp6") if s[1] == 6379]) == 1, "echo")
    out = net.client.run(["nc", "-N", "-w5", net.s6, "6379"], input="kernel\n").stdout
    assert out == "kernel\n"
    proof = net.proof()
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    proof.user_stack(tcp=2)
