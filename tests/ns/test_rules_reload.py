# SPDX-License-Identifier: Apache-2.0
"""Rules choose the stack per connection; a reload moves new connections and drops none."""
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import struct
import threading
import time

import pytest

from lib import apps, netns, nstack, wait

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="rules need nstack")


def rules_file(net, name, rules, default="tcpip"):
    path = os.path.join(net.workdir, name)
    with open(path, "w", encoding="utf8") as f:
        json.dump({"rules": rules, "default": default}, f)
    return path


class Talker:
    """A connection that stays open and can be asked again and again."""

    def __init__(self, net, addr):
        self.n = 0
        self.p = net.client.spawn(["redis-cli", "-h", addr], "talker", stdin="pipe")

    def ask(self):
        self.n += 1
        self.p.popen.stdin.write(b"incr talk%d\n" % id(self))
        self.p.popen.stdin.flush()
        self.p.wait_output(rf"^{self.n}$")


def settle(net):
    """Delayed ACKs have come in."""
    def settled():
        before = net.server.kernel_tcp_segments(), nstack.stack_counters(net.server).get("tcp_in", 0)
        time.sleep(0.06)
        return before == (net.server.kernel_tcp_segments(),
                          nstack.stack_counters(net.server).get("tcp_in", 0))
    wait.until(settled, "other traffic to end")


def which(net, addr):
    """Who serves a new connection now?"""
    settle(net)

    def opened():
        return (net.server.kernel_tcp_opens(),
                nstack.stack_counters(net.server).get("tcp_passive_opens", 0))
    before = opened()
    assert apps.redis_cli(net.client, addr, "ping") == "PONG"
    by_kernel, by_us = (a != b for a, b in zip(before, opened()))
    assert by_kernel != by_us, (by_kernel, by_us)
    return "kernel" if by_kernel else "stack"


def test_set_moves_new_connections_only(net, family):
    addr = net.saddr(family)
    apps.redis(net)
    old = Talker(net, addr)
    old.ask()
    assert which(net, addr) == "stack"
    net.tool("rules", "set", rules_file(net, "k.json", [{"port": 6379, "action": "kernel"}]))
    assert which(net, addr) == "kernel"
    between = Talker(net, addr)
    between.ask()
    settle(net)
    before = net.server.kernel_tcp_segments()
    old.ask()
    assert net.server.kernel_tcp_segments() == before, "the old connection left its stack"
    net.tool("rules", "set", rules_file(net, "s.json", []))
    assert which(net, addr) == "stack"
    before = net.server.kernel_tcp_segments()
    between.ask()
    after = net.server.kernel_tcp_segments()
    assert after[0] > before[0] and after[1] > before[1], "the kernel's connection left it"
    old.ask()
    between.ask()
    assert old.p.running() and between.p.running()


def test_prefixes(net):
    """By the client's address: the longest prefix wins."""
    base = net.c4.rsplit(".", 1)[0]
    net.client.run(["ip", "addr", "add", base + ".99/24", "dev", net.cif])
    apps.redis(net)
    net.tool("rules", "set", rules_file(net, "r.json", [
        {"remote": base + ".0/24", "action": "kernel"},
        {"remote": net.c4 + "/32", "action": "stack"},
        {"remote": net.c6 + "/128", "action": "kernel"}]))
    assert which(net, net.s4) == "stack"
    assert which(net, net.s6) == "kernel"
    kernel = net.server.kernel_tcp_segments()
    r = net.client.run(["curl", "-sS", "-m", "5", "--interface", base + ".99", f"telnet://{net.s4}:6379"],
                       input="PING\r\nQUIT\r\n", check=False)
    assert "+PONG" in r.stdout, r
    assert net.server.kernel_tcp_segments() != kernel


def test_drop(net):
    apps.redis(net)
    net.tool("rules", "set", rules_file(net, "d.json", [{"remote": net.c4, "action": "drop"}]))
    r = net.client.run(["nc", "-z", "-w1", net.s4, "6379"], check=False)
    assert r.returncode != 0
    assert nstack.verdicts(net.server)["drop_rule"] > 0
    assert which(net, net.s6) == "stack"
    net.tool("rules", "clear")
    assert which(net, net.s4) == "stack"


def redis_gets(net):
    return apps.redis_calls(apps.redis_cli(net.server, "127.0.0.1", "info", "commandstats")).get("get", 0)


def test_set_under_load(net):
    """Twenty reloads while fifty connections work: not one is lost."""
    apps.redis(net)
    load = net.client.spawn(["redis-benchmark", "-h", net.s4, "-c", 50, "-l", "-t", "get", "--csv"],
                            "load")
    wait.until(lambda: int(re.search(r"connected_clients:(\d+)", apps.redis_cli(
        net.client, net.s4, "info", "clients"))[1]) >= 51, "all connections")
    files = [rules_file(net, "a.json", [{"port": 6379, "action": "kernel"}]), rules_file(net, "b.json", [])]
    for i in range(20):
        net.tool("rules", "set", files[i % 2])
    calls = redis_gets(net)
    wait.until(lambda: redis_gets(net) > calls + 1000, "the load to go on")
    assert load.running() and "rror" not in load.stdout() + load.stderr(), load.stdout()
    load.stop()
    assert which(net, net.s4) == "stack"


class Callers:
    """Threads of clients whose connections are short: each is closed for sending at once, and read to its end."""

    def __init__(self, net, port):
        self.net, self.port, self.over, self.done, self.failed = net, port, threading.Event(), 0, []
        self.threads = [threading.Thread(target=self.call_on) for _ in range(4)]

    def call(self):
        with self.net.client.inside():
            s = socket.socket()
        with s:
            s.settimeout(10 * wait.SLOW)
            s.connect((self.net.s4, self.port))
            s.shutdown(socket.SHUT_WR)
            assert s.recv(100) == b""

    def call_on(self):
        while not self.over.is_set():
            try:
                self.call()
                self.done += 1
            except (OSError, AssertionError) as e:
                self.failed.append(repr(e))

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for t in self.threads:
            t.join()


@pytest.mark.skipif(not shutil.which("bpftool"), reason="needs bpftool")
def test_set_among_new_connections(net):
    """A connection that begins while rules change is served whole by who answered it: neither stack resets what the
    other one has. Afterwards no pin of it is left."""
    net.serve([*apps.prog("echo.py"), "tcp", net.s4, 9000], "echo", tcp=[9000])
    files = [rules_file(net, "a.json", [{"remote": net.c4, "action": "kernel"}]), rules_file(net, "b.json", [])]
    with Callers(net, 9000) as c:
        for i in range(16):
            done = c.done
            net.tool("rules", "set", files[i % 2])
            wait.until(lambda done=done: c.done > done + 20, "connections after the change")
    assert not c.failed, c.failed

    def nothing_left():
        c.call()  # the sweep goes along with traffic
        held = [s for s in net.server.sockets("tcp") if s[1] == 9000 and s[4] != netns.TCP_LISTEN]
        pins = nstack.table(net.server, net.sif, "pins")
        assert not held and not pins, (held, pins)
        return True
    wait.until(nothing_left, "its end of every connection, and of its pin", 30, every=0.3)


def test_rules_of_the_configuration_and_signal(net):
    path = rules_file(net, "live.json", [{"port": 6379, "action": "kernel"}])
    p = net.server.spawn(net.argv(["redis-server", "--port", 6379, "--bind", "0.0.0.0", "::",
                                   "--protected-mode", "no", "--save", ""],
                                  {"rules": path, "reload_signal": "SIGUSR2"}), "redis",
                         env={"NSTACK_APP_LOG_PATH": net.workdir})
    net.wait_served(p, tcp=[6379], owned=False)
    kernel = net.server.kernel_tcp_segments()
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    assert net.server.kernel_tcp_segments() != kernel
    rules_file(net, "live.json", [])
    for pid, sig in [(p.pid, signal.SIGUSR2), *((d.pid, signal.SIGHUP) for d in net.daemons.values())]:
        os.kill(pid, sig)
    wait.until(lambda: which(net, net.s4) == "stack", "the signal to have its effect", every=0.2)


def test_wrong_rules_change_nothing(net):
    apps.redis(net)
    bad = os.path.join(net.workdir, "bad.json")
    with open(bad, "w", encoding="utf8") as f:
        f.write('{ "rules": [\n { "remot": "198.18.0.0/15", "action": "kernel" } ] }')
    r = net.tool("rules", "set", bad, check=False)
    assert r.returncode != 0 and "bad.json:2" in r.stderr and "remote" in r.stderr, r.stderr
    assert which(net, net.s4) == "stack"


def lpm_entries(net):
    """What the interface's IPv4 prefix table holds: {generation: {(side, prefix)}}."""
    out = {}
    for entry in nstack.table(net.server, net.sif, "lpm4"):
        key = bytes(int(b, 16) for b in entry["key"])
        bits, gen, side = *struct.unpack("=I", key[:4]), key[4], key[5]
        prefix = ipaddress.ip_network((key[8:12], bits - 32), strict=True)
        out.setdefault(gen, set()).add(("local" if side else "remote", str(prefix)))
    return out


@pytest.mark.skipif(not shutil.which("bpftool"), reason="needs bpftool")
def test_the_kernels_tables_are_the_rules(net):
    """Prefixes with host bits, nested ones, both sides: the tables have these and no other."""
    apps.redis(net)
    sets = [[("remote", "198.18.0.0/15"), ("remote", "198.18.7.0/24"), ("local", "203.0.113.9/32")],
            [("remote", "192.0.2.0/24"), ("local", "198.18.0.0/16")]]
    for i, prefixes in enumerate(sets):
        net.tool("rules", "set", rules_file(net, f"{i}.json", [{side: p.replace("7.0/", "7.1/"), "action": "kernel"}
                                                               for side, p in prefixes]))
    # both generations are still there: the one in force, and the one before
    assert lpm_entries(net) == {i: set(s) for i, s in enumerate(sets)}


class Controller:
    """Pushes rules over a stream, from outside."""

    def __init__(self, net):
        self.n, self.p = 0, net.server.spawn([nstack.TOOL, "rules", "push"], "controller", stdin="pipe")

    def line(self, text):
        self.p.popen.stdin.write(text.encode() + b"\n")
        self.p.popen.stdin.flush()
        self.n += 1
        wait.until(lambda: self.p.stdout().count("\n") >= self.n, "an answer")
        return json.loads(self.p.stdout().splitlines()[self.n - 1])

    def push(self, version, *rules):
        return self.line(json.dumps({"version": version, "rules": rules}))


def test_controller_pushes(net):
    """Each set as a whole, or not at all; older ones no more; connections stay."""
    apps.redis(net)
    old = Talker(net, net.s4)
    old.ask()
    controller = Controller(net)
    kernel = {"port": 6379, "action": "kernel"}
    done = controller.push(7, kernel)
    assert done["ok"] and done["version"] == 7 and done["rules"] == 1 and done["connections"] >= 1, done
    assert which(net, net.s4) == "kernel"
    for text, words in (('{"version": 7, "rules": []}', "not newer than 7"), ('{"version": 6}', "not newer"),
                        ('{"version": 8, "rules": [{"remote": "x", "action": "drop"}]}', "line 4:1"),
                        ('{"version": 8, "rules": [', "line 5"), ('{"version": 0}', "from 1 on"),
                        ('{"rules": [{"user": "root", "action": "drop"}]}', "knows ports only"),
                        ('{"rules": [' + " " * 65536 + "]}", "longer than")):
        done = controller.line(text)
        assert not done["ok"] and not done["in_force"] and words in done["error"], done
    path = net.config(version=7, rules=[])
    assert "not newer" in net.tool("rules", "set", path, check=False).stderr
    assert which(net, net.s4) == "kernel", "what is refused changes nothing"
    assert json.loads(net.tool("rules", "show", "--json").stdout)[0]["version"] == 7
    assert controller.push(8)["ok"] and which(net, net.s4) == "stack"
    net.server.run([nstack.TOOL, "rules", "set", "-"], input=json.dumps([kernel]))
    assert which(net, net.s4) == "kernel"
    old.ask()
    controller.p.popen.stdin.close()
    assert controller.p.popen.wait(10) == 0
