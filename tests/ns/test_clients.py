# SPDX-License-Identifier: Apache-2.0
"""curl, redis-cli and nc as clients under nsocket; their servers are the kernel's."""
import re

import pytest

from lib import apps, nstack


LATE = 8  # at most one and its answer for each connection of a client here


class Client:
    """Runs client commands in this mode, and shows that the kernel carried none of it."""

    def __init__(self, net):
        self.net = net

    def run(self, cmd, tcp=True, **kw):
        ns = self.net.client
        before, udp = ns.kernel_tcp_segments(), ns.kernel_udp_datagrams()
        opens = ns.kernel_tcp_opens()
        r = ns.run(self.net.argv(cmd, side=ns), env=self.net.env() if self.net.is_nstack else None, **kw)
        if self.net.is_nstack:
            assert ns.kernel_tcp_opens() == opens, "the kernel's TCP made connections"
            # when the program is gone its peer's last FIN, if it is late, finds the kernel
            late = max(a - b for a, b in zip(ns.kernel_tcp_segments(), before))
            assert late <= LATE, f"the kernel's TCP handled {late} segments"
            assert ns.kernel_udp_datagrams() == udp, "the kernel's UDP handled datagrams"
        elif tcp:
            assert ns.kernel_tcp_segments() != before
        return r


@pytest.fixture
def client(net):
    return Client(net)


def test_curl(net, client, family):
    n = apps.Nginx(net, plain=True)
    for name in ("1k", "10m"):
        out = f"{net.workdir}/out"
        client.run(["curl", "-sS", "--fail", "-m", "30", "-o", out,
                    apps.url(net.saddr(family), 80, f"/sf/{name}")])
        assert apps.sha256(out) == n.sums[name]


def test_curl_parallel(net, client, family):
    n = apps.Nginx(net, plain=True)
    target = apps.url(net.saddr(family), 80, "/sf/10m")
    args = [a for i in range(4) for a in ("-o", f"{net.workdir}/o{i}", target)]
    client.run(["curl", "-sS", "--fail", "-m", "60", "-Z", *args], timeout=70)
    for i in range(4):
        assert apps.sha256(f"{net.workdir}/o{i}") == n.sums["10m"]


def test_curl_refused(net, client, family):
    """Nobody listens: the error of the kernel, at once, not a time-out."""
    r = client.run(["curl", "-sS", "-m", "10", apps.url(net.saddr(family), 81)], check=False)
    assert r.returncode == 7 and re.search(r"after \d{1,3} ms", r.stderr), r


@pytest.mark.smoke  # not curl: it hangs at its start with only ASan's runtime preloaded
def test_redis_cli(net, client, family):
    apps.redis(net, plain=True)
    addr = net.saddr(family)
    assert client.run(["redis-cli", "-h", addr, "set", "k", "v1"]).stdout == "OK\n"
    assert client.run(["redis-cli", "-h", addr, "get", "k"]).stdout == "v1\n"
    big = "x" * 1_000_000
    assert client.run(["redis-cli", "-h", addr, "-x", "set", "big"], input=big).stdout == "OK\n"
    assert client.run(["redis-cli", "-h", addr, "get", "big"]).stdout == big + "\n"
    many = "".join(f"incr n{i % 7}\n" for i in range(2000))
    assert len(client.run(["redis-cli", "-h", addr], input=many).stdout.split()) == 2000


def test_redis_benchmark_as_client(net, client, family):
    apps.redis(net, plain=True)
    addr = net.saddr(family)
    out = client.run(["redis-benchmark", "-h", addr, "-c", 50, "-n", 10000, "-t", "get", "--csv"]).stdout
    assert '"GET","' in out and "rror" not in out
    calls = apps.redis_calls(apps.redis_cli(net.client, addr, "info", "commandstats"))
    assert calls["get"] >= 10000


def test_short_connections(net, client, family):
    """A connection per request: more than fit into TIME_WAIT for a second, no failure, and no port
    is taken from other programs of the host."""
    apps.redis(net, plain=True)
    addr = net.saddr(family)
    out = client.run(["redis-benchmark", "-h", addr, "-c", 20, "-k", 0, "-n", 20000, "-t", "get",
                      "--csv"], timeout=60).stdout
    assert '"GET","' in out and "rror" not in out
    if net.is_nstack:
        assert not nstack.claims(net.client)
        assert nstack.verdicts(net.client)["stack_pinned"] >= 40000
        assert nstack.verdicts(net.client)["stack_claim"] == 0


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_nc(net, client, family, proto):
    addr = net.saddr(family)
    net.serve([*apps.prog("echo.py"), proto, addr, 9000], "echo", plain=True, **{proto: [9000]})
    text = "".join(f"line {i}\n" for i in range(20))
    flags = ["-6" if family == 6 else "-4", "-w1"] + (["-u"] if proto == "udp" else ["-N"])
    out = client.run(["nc", *flags, addr, "9000"], input=text, tcp=proto == "tcp").stdout
    assert out == text


def test_nc_scan(net, client):
    """nc -z: open and refused ports."""
    apps.redis(net, plain=True)
    assert client.run(["nc", "-z", "-w2", net.s4, "6379"]).returncode == 0
    assert client.run(["nc", "-z", "-w2", net.s4, "6380"], check=False).returncode == 1


@pytest.mark.parametrize("direction", ["in", "out"])
def test_nc_as_server(net, family, direction):
    """nc -l under nsocket, one way each."""
    import hashlib
    import os
    addr = net.saddr(family)
    src = net.workdir + "/src"
    digest = apps.blob(src, 5_000_000)
    listen = ["nc", "-l", "-N", "-6" if family == 6 else "-4", addr, "9000"]
    client = ["nc", "-N", "-w5", addr, "9000"]
    with open(src, encoding="latin1", newline="") as f:
        data = f.read().encode("latin1")
    if direction == "in":
        srv = net.serve(listen, "nc", tcp=[9000])
        proof = net.proof()
        net.client.run(client, input=data, text=False)
        srv.ok(10)
        assert apps.sha256(srv.out) == digest
    else:
        srv = net.serve(["sh", "-c", f"exec nc -l -N {'-6' if family == 6 else '-4'} {addr} 9000 <{src}"],
                        "nc", tcp=[9000])
        proof = net.proof()
        out = net.client.run(["nc", "-d", "-w5", addr, "9000"], text=False).stdout
        assert hashlib.sha256(out).hexdigest() == digest
    assert os.path.getsize(src) == 5_000_000
    # nc's process is gone: what is left to ask is the kernel
    assert not net.is_nstack or max(a - b for a, b in zip(
        proof.ns.kernel_tcp_segments(), proof.tcp)) <= LATE
