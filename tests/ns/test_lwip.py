# SPDX-License-Identifier: Apache-2.0
"""Several stacks in one program: nstack's own, the kernel's, and lwIP with an address of its own.

             client                           server
    c4, c6, c4+90, c4+91  ------ veth ------  s4, s6: the kernel and nstack's stack
                                              lwip4, lwip6: lwIP, a second station on the wire
"""
import os

import pytest

from lib import apps, nstack

PLUGIN = os.path.join(nstack.BUILD, "libnstack_lwip.so")

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"] or bool(nstack.SAN) or not os.path.exists(PLUGIN),
                                reason="needs nstack, and lwIP as Debian builds it")


def beside(addr, n):
    """Another address of the same subnet."""
    cut = "." if "." in addr else ":"
    return addr.rsplit(cut, 1)[0] + cut + str(n)


def config(net, *rules):
    lwip4, lwip6 = beside(net.s4, 77), beside(net.s6, 77)
    own = [{"local": a, "action": "lwip"} for a in (lwip4, lwip6)]
    return {"stacks": [{"name": "lwip", "library": "libnstack_lwip.so"}], "rules": [*own, *rules]}, lwip4, lwip6


def serve(net, *rules):
    conf, lwip4, lwip6 = config(net, *rules)
    apps.redis(net, config=conf, env={"NSTACK_LWIP": f"{net.sif},{lwip4}/24,{net.c4},{lwip6}/64"})
    return lwip4, lwip6


def ping(net, addr, source=None, check=True):
    """PING by a new connection, perhaps from that address."""
    r = net.client.run(["curl", "-sS", "-m", "3", *(["--interface", source] if source else []),
                        f"telnet://{'[' + addr + ']' if ':' in addr else addr}:6379"],
                       input="PING\r\nQUIT\r\n", check=False)
    assert not check or "+PONG" in r.stdout, r
    return "+PONG" in r.stdout


class Counts:
    """Which of the stacks took part in what the body did."""

    def __init__(self, net, want):
        self.net, self.want = net, want

    def look(self):
        return (self.net.server.kernel_tcp_opens(),
                nstack.stack_counters(self.net.server).get("tcp_passive_opens", 0))

    def __enter__(self):
        self.before = self.look()

    def __exit__(self, kind, *_):
        if not kind:
            kernel, ours = (a != b for a, b in zip(self.before, self.look()))
            assert (kernel, ours) == (self.want == "kernel", self.want == "own"), self.want


def test_one_server_on_three_stacks(net):
    a, b = beside(net.c4, 90), beside(net.c4, 91)
    for addr in (a, b):
        net.client.run(["ip", "addr", "add", addr + "/24", "dev", net.cif])
    lwip4, lwip6 = serve(net, {"remote": a, "action": "kernel"}, {"remote": b, "action": "drop"})
    with Counts(net, "own"):
        ping(net, net.s4, net.c4)
    with Counts(net, "kernel"):
        ping(net, net.s4, a)
    assert not ping(net, net.s4, b, check=False)
    with Counts(net, "lwip"):
        ping(net, lwip4)
        ping(net, lwip6)
        net.client.run(["ping", "-c1", "-W2", lwip4])
    (stack,) = [s for p in nstack.processes(net.server) for s in p.get("stacks", [])]
    assert stack["name"] == "lwip" and stack["usable"] and stack["sockets"] >= 2, stack
    assert "plug-in stack lwip: in use" in net.tool("status").stdout
    # data in bulk, and many at once
    apps.redis_benchmark(net.client, lwip4, 4000, clients=20)
    big = "x" * 300000
    assert apps.redis_cli(net.client, lwip4, "-x", "set", "big", input=big) == "OK"
    assert apps.redis_cli(net.client, lwip4, "strlen", "big") == str(len(big))
    assert apps.redis_cli(net.client, lwip4, "get", "big") == big


def test_rules_change_while_it_serves(net):
    """New connections go elsewhere; those that exist stay."""
    lwip4, _ = serve(net)
    old = net.client.spawn(["redis-cli", "-h", lwip4], "old", stdin="pipe")
    n = 0

    def ask():
        nonlocal n
        n += 1
        old.popen.stdin.write(b"incr old\n")
        old.popen.stdin.flush()
        old.wait_output(rf"^{n}$")
    ask()
    path = net.config(rules=[{"local": lwip4, "action": "drop"}])
    net.tool("rules", "set", path)
    assert not ping(net, lwip4, check=False)
    ask()
    with Counts(net, "own"):
        ping(net, net.s4)
    path = net.config(rules=[{"local": lwip4, "action": "lwip"}])
    net.tool("rules", "set", path)
    ping(net, lwip4)
    ask()


def test_client(net):
    """connect() to what a rule gives to lwIP, beside a client of nstack's own stack."""
    conf, lwip4, lwip6 = config(net)
    conf["rules"] = [{"remote": net.c4, "action": "lwip"}]
    apps.redis(net, side=net.client, plain=True)
    cmd = [nstack.PYTHON, "-c", f"""
import socket
for host in ("{net.c4}", "{net.c6}"):
    s = socket.create_connection((host, 6379), timeout=10)
    s.sendall(b"PING\\r\\n")
    assert s.recv(100) == b"+PONG\\r\\n"
    print(s.getsockname()[0])
"""]
    r = net.server.run(net.argv(cmd, conf), env={**net.env(), "NSTACK_LWIP": f"{net.sif},{lwip4}/24"}, timeout=40)
    assert r.stdout.split() == [lwip4, net.s6], r
