# SPDX-License-Identifier: Apache-2.0
"""nstackd has stacks of others: lwIP in a process of its own, for programs without privilege.

             client                           server
    c4, c6                ------ veth ------  s4, s6: the kernel, and nstackd's own stack
                                              lwip4, lwip6: lwIP, a second station on the wire
"""
import json
import os
import signal

import pytest

from lib import apps, nstack, wait

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"] or bool(nstack.SAN) or
                                not os.path.exists(os.path.join(nstack.BUILD, "libnstack_lwip.so")),
                                reason="needs nstack, and lwIP as Debian builds it")


@pytest.fixture
def mode():
    return "daemon"


def beside(addr, n):
    """Another address of the same subnet."""
    cut = "." if "." in addr else ":"
    return addr.rsplit(cut, 1)[0] + cut + str(n)


class Lwip:
    """nstackd with lwIP, and what the programs need to be told."""

    def __init__(self, net, **daemon):
        self.net = net
        self.v4, self.v6 = beside(net.s4, 77), beside(net.s6, 77)
        stacks = [{"name": "lwip", "library": "libnstack_lwip.so", "deploy": 3}]
        self.config = {"stacks": stacks, "rules": [{"local": a, "action": "lwip"} for a in (self.v4, self.v6)]}
        path = net.config(**self.config, daemon=daemon)
        env = {**net.env(), "NSTACK_LWIP": f"{net.sif},{self.v4}/24,{net.c4},{self.v6}/64"}
        self.daemon = net.server.spawn([nstack.DAEMON, "--config", path], "nstackd", env=env)
        net.daemons[net.server] = self.daemon
        wait.until(lambda: self.daemon.must_run() or nstack.daemon_ready(net.server) and self.status(), "nstackd to be ready")

    def redis(self):
        """By an ordinary user."""
        argv = self.net.argv(["redis-server", "--port", "6379", "--bind", "0.0.0.0", "::", "--protected-mode", "no",
                              "--save", "", "--dir", "/tmp"])
        p = self.net.server.spawn([*nstack.BARE, *argv], "redis", env={"NSTACK_CONFIG": json.dumps(self.config)})
        self.net.wait_served(p, [6379])
        return p

    def ping(self, addr):
        return apps.redis_cli(self.net.client, addr, "ping", check=False, timeout=5) == "PONG"

    def status(self):
        (s,) = [s for p in nstack.processes(self.net.server) if p["program"] == "nstackd" for s in p.get("stacks", [])]
        return s


@pytest.mark.parametrize("workers", [1, 2])
def test_lwip_by_the_daemon(net, workers):
    lwip = Lwip(net, workers=workers)
    first = lwip.status()
    assert first["name"] == "lwip" and first["usable"] and first["restarts"] == 0, first
    lwip.redis()
    assert lwip.ping(lwip.v4) and lwip.ping(lwip.v6) and lwip.ping(net.s4)
    apps.redis_benchmark(net.client, lwip.v4, 2000, clients=20)
    big = "x" * 300000
    assert apps.redis_cli(net.client, lwip.v4, "-x", "set", "big", input=big) == "OK"
    assert apps.redis_cli(net.client, lwip.v4, "get", "big") == big
    assert f'plug-in stack lwip: in process {first["pid"]}' in net.tool("status").stdout
    # it is killed: what is not its goes on, and the next one has the same listener
    os.kill(first["pid"], signal.SIGKILL)
    assert lwip.ping(net.s4)
    wait.until(lambda: lwip.status()["usable"] and lwip.status()["restarts"] == 1, "the next one")
    wait.until(lambda: lwip.ping(lwip.v4), "redis to be served by it")
    # the daemon ends, in whatever way: the stack with it
    pid = lwip.status()["pid"]
    lwip.daemon.signal(signal.SIGTERM if workers == 1 else signal.SIGKILL)
    lwip.daemon.wait()
    wait.until(lambda: not os.path.exists(f"/proc/{pid}"), "the stack's process to end")


def test_a_stack_that_can_not_start(net):
    """The daemon serves without it, and tries again with pauses."""
    stacks = [{"name": "gone", "library": "/nowhere/libgone.so", "deploy": 3}]
    net.daemon(net.server, net.config(stacks=stacks))
    (d,) = [p for p in nstack.processes(net.server) if p["program"] == "nstackd"]
    assert d["stacks"][0]["usable"] is False and d["stacks"][0]["restarts"] >= 1, d["stacks"]
    wait.until(lambda: nstack.alarms(net.server)["stack_lost"], "it to be said")
    assert 'stack "gone" has ended' in net.tool("doctor", check=False).stdout
    apps.redis(net)
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"


def parent(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return int(f.read().rsplit(")", 1)[1].split()[1])


@pytest.mark.parametrize("workers", [1, 2])
def test_who_starts_stacks_is_killed(net, workers):
    """The keeper: another one begins, and has the stack. Its guard, too: it is said what is lost, and the rest goes
    on."""
    lwip = Lwip(net, workers=workers)
    host = lwip.status()["pid"]
    guard = parent(parent(host))
    os.kill(parent(host), signal.SIGKILL)
    wait.until(lambda: lwip.status()["usable"] and lwip.status()["pid"] != host, "the stack by another keeper")
    wait.until(lambda: nstack.alarms(net.server).get("stack_lost") is not True, "all to be well")
    host = lwip.status()["pid"]
    os.kill(guard, signal.SIGKILL)
    wait.until(lambda: nstack.alarms(net.server).get("stack_lost"), "it to be said")
    assert not lwip.status()["usable"] and lwip.status()["pid"] == 0
    assert "nstackd has to be started again" in net.tool("alarms").stdout
    wait.until(lambda: not os.path.exists(f"/proc/{host}"), "the stack's process to end")
    apps.redis(net)
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
