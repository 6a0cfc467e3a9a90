# SPDX-License-Identifier: Apache-2.0
"""haproxy in front of nginx: HTTP and TCP mode, master and worker, reload."""
import json
import os
import signal

import pytest

from lib import apps, nstack, wait
from lib.nstack import PYTHON

LOAD = os.path.join(os.path.dirname(__file__), "progs", "http_load.py")
HTTP, TCP, BACKEND = 8000, 8001, 8080

CONF = """global
  nbthread 2
  maxconn 1000
defaults
  timeout connect 5s
  timeout client 10s
  timeout server 10s
frontend fh
  mode http
  bind :::{http} v4v6
  default_backend bh
backend bh
  mode http
  http-response set-header X-Through haproxy
  server s {addr}:{backend}
listen ft
  mode tcp
  bind :::{tcp} v4v6
  server s {addr}:{backend}
"""


class Haproxy:
    """On the server's side; its nginx is on the client's side, so both its halves use the wire."""

    def __init__(self, net, family=4):
        self.net, self.family = net, family
        www = net.workdir + "/www"
        os.makedirs(www)
        self.sums = {"1k": apps.blob(www + "/1k", 1024), "10m": apps.blob(www + "/10m", 10 << 20)}
        apps.open_path(www)
        conf = net.workdir + "/web.conf"
        with open(conf, "w", encoding="utf8") as f:
            f.write(apps.NGINX.format(dir=net.workdir, port=BACKEND, master="off", workers=1, user="", opts="")
                    .replace("dav_methods PUT;", ""))
        net.serve(["nginx", "-c", conf], "web", tcp=[BACKEND], side=net.client, plain=True)
        self.conf = net.workdir + "/haproxy.cfg"
        with open(self.conf, "w", encoding="utf8") as f:
            f.write(CONF.format(http=HTTP, tcp=TCP, addr=net.caddr(family), backend=BACKEND))
        self.proc = net.serve(["haproxy", "-W", "-f", self.conf], "haproxy", tcp=[HTTP, TCP])

    def sum(self, port, name):
        return apps.curl_sum(self.net.client, apps.url(self.net.saddr(self.family), port, f"/sf/{name}"),
                             self.net.workdir)


@pytest.mark.parametrize("port", [HTTP, TCP], ids=["http", "tcp"])
def test_proxy(net, family, port):
    proxy = Haproxy(net, family)
    proof = net.proof()
    for name in ("1k", "10m"):
        assert proxy.sum(port, name) == proxy.sums[name]
    head = apps.curl(net.client, apps.url(net.saddr(family), port, "/sf/1k"), "-o", "/dev/null", "-D", "-")
    assert ("x-through: haproxy" in head.lower()) == (port == HTTP), head
    proof.user_stack(tcp=100)


def test_reload_under_load(net):
    """SIGUSR2: the master executes itself and starts a new worker; the old one ends when its
    connections do. haproxy closes keep-alive connections as HTTP says."""
    proxy = Haproxy(net)
    load = net.client.spawn([PYTHON, LOAD, net.s4, HTTP, "/sf/1k", proxy.sums["1k"], 8, "keep"],
                            "load", stdin="pipe")
    load.wait_output("started")
    master = haproxy_master(proxy.proc.pid)
    old = children(master)
    os.kill(master, signal.SIGUSR2)
    wait.until(lambda: children(master) and not children(master) & old, "the new worker to be alone", 30)
    if net.is_nstack and net.shared_device:
        wait.until(lambda: {("tcp", HTTP), ("tcp", TCP)} <= nstack.claims(net.server), "the new worker's ports")
    at = lambda: int(load.stdout().split()[-1])
    start = wait.until(at, "requests", 30)
    wait.until(lambda: at() >= start + 100, "requests by the new worker", 30)
    load.popen.stdin.close()
    got = json.loads(load.ok(40).splitlines()[-1])
    assert got["failures"] == [] and got["requests"] >= 200, got
    # the kernel may still have ends of the load's connections, but begins none
    proof, opens = net.proof(), net.server.kernel_tcp_opens()
    assert proxy.sum(HTTP, "10m") == proxy.sums["10m"]
    if net.is_nstack and net.shared_device:
        assert proof.delta()["tcp_in"] >= 50 and net.server.kernel_tcp_opens() == opens


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf8") as f:
        return set(map(int, f.read().split()))


def haproxy_master(pid):
    """`ip netns exec` and `nstack run` become the program by exec: it has the pid that was started."""
    with open(f"/proc/{pid}/comm", encoding="utf8") as f:
        assert f.read().strip() == "haproxy"
    return pid
