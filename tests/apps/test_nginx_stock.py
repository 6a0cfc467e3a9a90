# SPDX-License-Identifier: Apache-2.0
"""nginx as Debian configures it: a daemon, four workers, user www-data.

One process owns a port of our stack; the other workers serve what the kernel's half of the
listener gets. When the owner ends, one of the others takes the port over.
"""
import os
import re
import signal
import tempfile

import pytest

from lib import apps, nstack, wait

CONNS = 8
#: what a new binary needs to come under nsocket, too
ENV = "env LD_PRELOAD; env NSTACK_APP_LOG_PATH; env NSTACK_CONFIG;\n"


def read(path):
    with open(path, encoding="utf8") as f:
        return f.read()


def replace(pattern, new, text):
    text, n = re.subn(pattern, new, text, flags=re.M)
    assert n, f"not in the configuration: {pattern}"
    return text


class StockNginx:
    """Debian's nginx.conf and default site; only paths are changed, and the number of workers said."""

    def __init__(self, net, html, keeps_env=False):
        self.net, self.dir, self.html, self.keeps_env = net, net.workdir, html, keeps_env
        self.pid_file = f"{self.dir}/nginx.pid"
        self.sums = {"1k": apps.blob(f"{html}/1k", 1024), "10m": apps.blob(f"{html}/10m", 10 << 20)}
        conf = read("/etc/nginx/nginx.conf")
        conf = replace(r"^worker_processes auto;", "worker_processes 4;", conf)
        conf = replace(r"^pid .*;", f"pid {self.pid_file};", conf)
        conf = replace(r"/var/log/nginx", self.dir, conf)
        if keeps_env:
            conf = ENV + conf
        conf = replace(r"/etc/nginx/sites-enabled/\*", f"{self.dir}/site.conf", conf)
        site = replace(r"root /var/www/html;", f"root {html};",
                       read("/etc/nginx/sites-available/default"))
        for name, text in (("nginx.conf", conf), ("site.conf", site)):
            with open(f"{self.dir}/{name}", "w", encoding="utf8") as f:
                f.write(text)
        start = net.server.spawn(net.argv(["/usr/sbin/nginx", "-c", f"{self.dir}/nginx.conf"]), "nginx",
                                 env=net.env())
        assert start.wait(20) == 0, start.stderr() + self.errors()
        wait.until(lambda: net.server.listening(80), "nginx to listen")
        self.wait_owned()

    def wait_owned(self):
        """There is a listener for each family, and each may have another owner."""
        if self.net.is_nstack:
            wait.until(lambda: nstack.claimed_addresses(self.net.server, "tcp", 80) in ({"*"}, {"0.0.0.0", "::"}),
                       "workers to own port 80")

    def errors(self):
        path = f"{self.dir}/error.log"
        return read(path) if os.path.exists(path) else ""

    def master(self, old=False):
        return int(read(self.pid_file + (".oldbin" if old else "")))

    def workers(self, master):
        return set(map(int, read(f"/proc/{master}/task/{master}/children").split()))


@pytest.fixture
def nginx(net, request):
    # www-data has to get there, and the folders of other test runs are closed to it now and then
    with tempfile.TemporaryDirectory() as html:
        os.chmod(html, 0o755)
        yield StockNginx(net, html, getattr(request, "param", "stock") == "env")


def gone(pid):
    return not os.path.exists(f"/proc/{pid}")


def new_owner_serves(net, nginx):
    """The kernel may still have ends of the load's connections, but begins none."""
    proof, opens = net.proof(), net.server.kernel_tcp_opens()
    assert apps.curl_sum(net.client, apps.url(net.s4, 80, "/10m"), net.workdir) == nginx.sums["10m"]
    if net.is_nstack and net.shared_device:
        assert proof.delta()["tcp_in"] >= 20 and net.server.kernel_tcp_opens() == opens


def check(net, got, changes):
    """Nothing was lost; `changes` is how often an owner of the port ended.

    nstackd has one queue for all. Without it, a connection that the owner is just about to accept when it
    gives up the port can be reset."""
    reset = [f for f in got["failures"] if "used: False" in f and "ConnectionResetError" in f]
    assert reset == got["failures"] and got["requests"] > 100, got
    assert len(reset) <= (CONNS * changes if net.mode == "in_process" else 0), got


def test_content(net, nginx, family):
    proof = net.proof()
    for name in ("1k", "10m"):
        target = apps.url(net.saddr(family), 80, f"/{name}")
        assert apps.curl_sum(net.client, target, net.workdir) == nginx.sums[name]
    proof.user_stack(tcp=50)
    assert len(nginx.workers(nginx.master())) == 4
    assert not re.search(r"\[(emerg|alert|crit)\]", nginx.errors()), nginx.errors()


@pytest.mark.parametrize("connections", ["keep", "close"])
def test_reload_under_load(net, nginx, connections):
    load = apps.HttpLoad(net, 80, "/1k", nginx.sums["1k"], CONNS, connections)
    master = nginx.master()
    for _ in range(3):
        load.go_on()
        old = nginx.workers(master)
        os.kill(master, signal.SIGHUP)
        wait.until(lambda: len(nginx.workers(master) - old) == 4, "four new workers")
        wait.until(lambda: all(map(gone, old)), "the old workers to end")
        if net.shared_device:
            nginx.wait_owned()
    check(net, load.end(), changes=3)
    new_owner_serves(net, nginx)


@pytest.mark.parametrize("connections", ["keep", "close"])
@pytest.mark.parametrize("nginx", ["stock", "env"], indirect=True)
def test_binary_upgrade_under_load(net, nginx, connections):
    """USR2 starts a new master from the same binary, with the listeners by environment; WINCH and
    QUIT end the old one. nginx gives the new binary the environment that its configuration names: with
    the stock one the kernel goes on, and no request is lost by that."""
    load = apps.HttpLoad(net, 80, "/1k", nginx.sums["1k"], CONNS, connections)
    load.go_on()
    old = nginx.master()
    workers = nginx.workers(old)
    os.kill(old, signal.SIGUSR2)
    new = wait.until(lambda: nginx.master(old=True) == old and nginx.master() != old and nginx.master(),
                     "the new master")
    wait.until(lambda: len(nginx.workers(new)) == 4, "the new master's workers")
    os.kill(old, signal.SIGWINCH)
    wait.until(lambda: all(map(gone, workers)), "the old workers to end")
    os.kill(old, signal.SIGQUIT)
    wait.until(lambda: gone(old), "the old master to end")
    if nginx.keeps_env and net.shared_device:
        nginx.wait_owned()
    load.go_on()
    check(net, load.end(), changes=1)
    if nginx.keeps_env:
        new_owner_serves(net, nginx)
    else:
        assert apps.curl_sum(net.client, apps.url(net.s4, 80, "/10m"), net.workdir) == nginx.sums["10m"]
