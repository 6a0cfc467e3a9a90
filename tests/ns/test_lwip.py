# SPDX-License-Identifier: Apache-2.0
"""Several stacks in one program: nstack's own, the kernel's, and lwIP with an address of its own.

             client                           server
    c4, c6, c4+90, c4+91  ------ veth ------  s4, s6: the kernel and nstack's stack
                                              lwip4, lwip6: lwIP, a second station on the wire
"""
import json
import os

import pytest

from lib import apps, nstack, wait

PLUGIN = os.path.join(nstack.BUILD, "libnstack_lwip.so")
ASKS = os.path.join(os.path.dirname(__file__), "progs", "asks.py")
CONNECTIONS = 4
NAMES = {"own": "tcpip", "kernel": "kernel", "lwip": "lwip", "drop": "drop"}


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


def ping(net, addr, source=None, check=True, limit=3):
    """PING by a new connection, perhaps from that address."""
    r = net.client.run(["curl", "-sS", "-m", limit, *(["--interface", source] if source else []),
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


class Load:
    """Connections that are there from now on, and work all the time."""

    def __init__(self, net, server, source, who):
        self.net, self.source, self.who, self.asked = net, source, who, 0
        self.p = net.client.spawn([nstack.PYTHON, ASKS, server, 6379, source, CONNECTIONS], f"asks-{source}",
                                  stdin="pipe")
        self.rounds()

    def rounds(self):
        self.asked += 1
        self.p.popen.stdin.write(b"\n")
        self.p.popen.stdin.flush()
        wait.until(lambda: self.p.stdout().count("\n") >= self.asked or not self.p.running(), "answers")
        assert self.p.running(), self.p.stderr()
        return int(self.p.stdout().split()[-1])

    def goes_on(self):
        """Some rounds more, all connections among them."""
        seen = self.rounds()
        wait.until(lambda: self.rounds() > seen + 3, f"{self.source} to be served")

    def end(self):
        self.p.popen.stdin.close()
        assert self.p.popen.wait(20) == 0, self.p.stderr()


def served_by(net, server, source):
    """How many established connections nstack's stack and the kernel have of it."""
    ours = sum(s["stack"] == "tcpip" and s["state"] == "ESTAB" and s["local"] == f"{server}:6379" and
               s["remote"].rsplit(":", 1)[0] == source for s in nstack.sockets(net.server))
    kernel = sum(state == "01" and port == 6379 and str(remote) == source
                 for _, port, remote, _, state in net.server.sockets("tcp"))
    return ours, kernel


def explained(net, server, source):
    r = net.tool("rules", "explain", "tcp", f"{server}:6379", "from", source, "--json")
    return json.loads(r.stdout)["action"]


def connects(net, server, source, who):
    """A new connection is served, or not, as is said."""
    assert explained(net, server, source) == NAMES[who]
    if who == "drop":
        assert not ping(net, server, source, check=False, limit=0.5)
    else:
        with Counts(net, who):
            ping(net, server, source)


def test_four_prefixes_while_rules_change(net):
    """Clients of nstack's stack, the kernel's, lwIP's and nobody's: rules move new ones only, explain tells where,
    and the old ones work on where they are."""
    lwip4, a, b, c = beside(net.s4, 77), net.c4, beside(net.c4, 90), beside(net.c4, 91)
    for addr in (b, c):
        net.client.run(["ip", "addr", "add", addr + "/24", "dev", net.cif])

    def rules(of_lwip, *who):
        actions = {"own": "stack", "kernel": "kernel", "drop": "drop"}
        return [{"local": lwip4, "priority": 1, "action": of_lwip},
                *({"remote": s + "/32", "action": actions[w]} for s, w in zip((a, b, c), who))]

    def phase(of_lwip, *who):
        """All four prefixes by new connections; the old ones go on, where they are."""
        for s, w in zip((a, b, c), who):
            connects(net, net.s4, s, w)
        connects(net, lwip4, a, of_lwip)
        for load in loads:
            load.goes_on()
            if load.who != "lwip":
                want = (CONNECTIONS, 0) if load.who == "own" else (0, CONNECTIONS)
                wait.until(lambda l=load, w=want: served_by(net, net.s4, l.source) == w, f"{load.source} to stay")

    apps.redis(net, config={"stacks": [{"name": "lwip", "library": "libnstack_lwip.so"}],
                            "rules": rules("lwip", "own", "kernel", "drop")},
               env={"NSTACK_LWIP": f"{net.sif},{lwip4}/24,{net.c4}"})
    loads = [Load(net, net.s4, a, "own"), Load(net, net.s4, b, "kernel"), Load(net, lwip4, a, "lwip")]
    phase("lwip", "own", "kernel", "drop")
    for of_lwip, *who in (("drop", "kernel", "drop", "own"), ("lwip", "drop", "own", "kernel")):
        net.tool("rules", "set", net.config(rules=rules(of_lwip, *who)))
        if who[2] == "own":
            loads.append(Load(net, net.s4, c, "own"))
        phase(of_lwip, *who)
    for load in loads:
        load.end()


def test_two_instances(net):
    """The same library twice in one program: two stations on the wire, served by one listener at once, and each
    an error of its own."""
    a4, b4, b6 = beside(net.s4, 77), beside(net.s4, 78), beside(net.s6, 78)
    conf = {"stacks": [{"name": "one", "library": "libnstack_lwip.so", "register": "lwip_stack_register",
                        "options": f"{net.sif},{a4}/24,{net.c4}"},
                       {"name": "two", "library": "libnstack_lwip.so", "register": "lwip_stack_register",
                        "options": f"{net.sif},{b4}/24,{net.c4},{b6}/64"}],
            "rules": [{"local": a, "action": n} for a, n in ((a4, "one"), (b4, "two"), (b6, "two"))]}
    apps.redis(net, config=conf)
    with Counts(net, "lwip"):
        for addr in (a4, b4, b6):
            ping(net, addr)
        macs = {net.client.run(["ip", "neigh", "show", addr]).stdout.split()[4] for addr in (a4, b4)}
        assert len(macs) == 2, macs
        loads = [net.client.spawn(["redis-benchmark", "-h", addr, "-n", "3000", "-c", "10", "-t", "set,get", "--csv"],
                                  f"load-{i}") for i, addr in enumerate((a4, b4))]
        for p in loads:
            assert "rror" not in p.ok(60)
    with Counts(net, "own"):
        ping(net, net.s4)
    stacks = {s["name"]: s for p in nstack.processes(net.server) for s in p.get("stacks", [])}
    assert all(stacks[n]["usable"] and stacks[n]["sockets"] >= 1 for n in ("one", "two")), stacks
    shown = {s["stack"] for s in nstack.sockets(net.server) if s["state"] == "LISTEN"}
    assert {"one", "two", "tcpip"} <= shown, shown
    # what the second one's libc says of an error arrives
    other = beside(net.s4, 79)
    conf["stacks"][1]["options"] = f"{net.sif},{other}/24,{net.c4}"
    conf["rules"] = [{"local": other, "action": "two"}]
    conf["stacks"][0]["options"] = f"{net.sif},{beside(net.s4, 80)}/24,{net.c4}"
    r = net.server.run(net.argv([nstack.PYTHON, "-c", f"""
import errno, socket
a = socket.create_server(("{other}", 7))
b = socket.socket()
try: b.bind(("{other}", 7))
except OSError as e: print(errno.errorcode[e.errno])
"""], conf), timeout=40)
    assert r.stdout == "EADDRINUSE\n", r
