# SPDX-License-Identifier: Apache-2.0
"""The units as they are installed, under a real systemd: started by the first program, restarted, killed."""
import os
import subprocess

import pytest

from lib import apps, nstack
from lib.wait import until

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstack")
BOX = os.path.join(nstack.ROOT, "tests", "ns", "progs", "box.sh")
TOOLS = os.path.join(nstack.ROOT, "tools", "nstackd")
#: what our units, and every service, ask for; on a real system these are more than names
TARGETS = ["sysinit", "basic", "shutdown", "network-online", "sockets", "multi-user"]
REDIS = """
[Unit]
Wants=nstackd.socket
After=nstackd.socket
[Service]
User=nobody
ExecStart=/run/local/bin/nstack run redis-server --bind {addr} --protected-mode no --save "" --dir /tmp
"""


def in_cgroups(command):
    """In a mount namespace of its own, with the control groups on /mnt."""
    return subprocess.run(["unshare", "--mount", "sh", "-c", f"mount -t cgroup2 cgroup2 /mnt && {command}"],
                          capture_output=True, text=True, check=False)


class Box:
    """A systemd with our units and redis under nsocket, in the server's network namespace."""

    def __init__(self, net):
        self.net, self.name = net, f"nstack-{net.server.name}"
        units = os.path.join(net.workdir, "units")
        os.mkdir(units)

        def unit(name, text):
            with open(os.path.join(units, name), "w", encoding="ascii") as f:
                f.write(text)
        for t in TARGETS:
            unit(t + ".target", "[Unit]\nDefaultDependencies=no\n")
        for name in ("nstackd.service.in", "nstackd.socket"):
            with open(os.path.join(TOOLS, name), encoding="ascii") as f:
                unit(name.removesuffix(".in"), f.read().replace("@sbindir@", "/run/local/sbin"))
        unit("redis.service", REDIS.format(addr=net.s4))
        unit("box.target", "[Unit]\nDefaultDependencies=no\nWants=nstackd.socket redis.service\n")
        self.outer = net.server.spawn(["unshare", "--mount", BOX, self.name, units, nstack.BUILD], "box")
        self.init = None

    def boot(self):
        self.init = until(self._init, "process 1")
        until(lambda: self.systemctl("is-active", "redis.service") == "active", "systemd to start redis", 30)

    def _init(self):
        self.outer.must_run()
        return subprocess.run(["pgrep", "-P", str(self.outer.pid), "-f", "^/lib/systemd/systemd"],
                              capture_output=True, text=True, check=False).stdout.strip()

    def run(self, cmd, check=True, timeout=60):
        """Inside: what lib.nstack asks of a namespace."""
        return subprocess.run(["nsenter", "-t", self.init, "--mount", "--pid", "--net", *cmd],
                              capture_output=True, text=True, check=check, timeout=timeout)

    def systemctl(self, *args):
        return self.run(["systemctl", *args], check=False).stdout.strip()

    def show(self, unit, what):
        return self.systemctl("show", unit, "-p", what, "--value")

    def serves(self):
        """nstackd has redis' port."""
        return ("tcp", 6379) in nstack.claims(self)

    def segments(self):
        return nstack.stack_counters(self).get("tcp_in", 0)

    def close(self):
        self.outer.stop()
        until(lambda: in_cgroups(f"! test -e /mnt/{self.name} || "
                                 f"find /mnt/{self.name} -depth -type d -exec rmdir {{}} +").returncode == 0,
              "its control groups to be empty")


@pytest.fixture
def mode():
    return "daemon"


@pytest.fixture
def box(net):
    if in_cgroups("true").returncode:
        pytest.skip("this machine lets nobody mount control groups of version 2, which systemd needs")
    b = Box(net)
    try:
        b.boot()
        yield b
    finally:
        b.close()


def test_service(net, box):
    def get(**kw):
        return apps.redis_cli(net.client, net.s4, "get", "k", check=False, **kw)

    # the first program has started it
    until(box.serves, "the port to be claimed")
    assert box.show("nstackd.service", "ActiveState") == "active"
    assert apps.redis_cli(net.client, net.s4, "set", "k", "v") == "OK"

    # restart under load: no connection is lost, and the listener comes back
    load = net.client.spawn(["redis-benchmark", "-h", net.s4, "-c", 20, "-n", 100_000_000, "-t", "get"], "load")
    before = box.segments()
    until(lambda: box.segments() > before + 1000, "the load")
    first = box.show("nstackd.service", "MainPID")
    box.systemctl("restart", "nstackd.service")
    assert box.show("nstackd.service", "MainPID") not in (first, "0")
    until(box.serves, "the port to come back")
    load.must_run()
    load.stop()
    assert get() == "v"

    # reload is answered
    box.systemctl("reload", "nstackd.service")
    assert box.show("nstackd.service", "ReloadResult") == "success" and get() == "v"

    # what kills it does not end the service
    box.systemctl("kill", "--kill-whom=main", "--signal=KILL", "nstackd.service")
    until(lambda: box.show("nstackd.service", "NRestarts") == "1", "systemd to start it again")
    until(box.serves, "the port to come back")
    before = box.segments()
    assert get() == "v"
    assert box.segments() >= before + 3

    # without it the kernel serves
    box.systemctl("stop", "nstackd.socket", "nstackd.service")
    assert box.show("nstackd.service", "Result") == "success"
    assert until(lambda: get(timeout=5) == "v", "the kernel")
    assert box.show("redis.service", "NRestarts") == "0" and box.show("redis.service", "ActiveState") == "active"
