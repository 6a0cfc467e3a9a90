# SPDX-License-Identifier: Apache-2.0
"""The DMM manual's test programs (section 7): v... linked with libnStackAPI, k... on the kernel.

      client namespace  ---- veth ----  server namespace
"""
import itertools
import os
import re
import subprocess

import pytest

from lib import apps, nstack
from lib.proc import Process

HERE = os.path.join(nstack.BUILD, "tests/dmm")
PORT = 20000

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"] or bool(nstack.SAN),
                                reason="it compares nstack with the kernel; the programs are not instrumented")


def app(name):
    return os.path.join(HERE, name)


@pytest.fixture
def both(net):
    """Both namespaces are ready for programs under nstack."""
    for ns, dev in ((net.server, net.sif), (net.client, net.cif)):
        if net.mode == "daemon":
            net.daemon(ns)
        else:
            net.tool("load", dev, side=ns)
    return net


class Kernel:
    """Which sides' connections were the kernel's: the letters of the programs must say the same."""

    def __init__(self, *sides):
        self.sides = sides  # (namespace, program)
        self.before = [ns.kernel_tcp_opens() for ns, _ in sides]

    def check(self):
        for (ns, program), before in zip(self.sides, self.before):
            opened = ns.kernel_tcp_opens() - before
            assert bool(opened) == (program[0] == "k"), f"{program}: the kernel opened {opened}"


def start(net, ns, program, argv, port=PORT, proto="tcp"):
    p = ns.spawn([app(program), *argv], program, env=net.env())
    net.wait_served(p, **{proto: [port]}, ns=ns, owned=program[0] == "v")
    return p


def flags(first, second, source=0, length=200, times=50, fds=1, clients=1):
    """The manual's command line; its two have the addresses in different order."""
    return (f"-p {PORT} -d {first} -a {source} -s {second} -l {length} -t {times} -i 0 -f {fds} -r {PORT} "
            f"-n {clients} -w 10 -u 10000 -e 10 -x 1").split()


def play(net, server, client, turned, v6, **kw):
    """Server and client, on either side; what they count must be what was to be done."""
    ns, other = (net.client, net.server) if turned else (net.server, net.client)
    here, there = (net.caddr, net.saddr) if turned else (net.saddr, net.caddr)
    here, there = here(6 if v6 else 4), there(6 if v6 else 4)
    kernel = Kernel((ns, server), (other, client))
    p = start(net, ns, server, flags(here, there, **kw))
    n, times = kw.get("fds", 1), kw.get("times", 50)
    out = other.run([app(client), *flags(there, here, **kw)], env=net.env(), timeout=30).stdout
    want = f"connections {n} messages {n * times} bytes {n * times * kw.get('length', 200)}\n"
    assert (out, p.ok(20)) == (want, want), (server, client)
    kernel.check()


def test_every_server_with_every_client(both):
    """Each kind of server, v and k on both sides; which side serves and which family take turns."""
    sizes = itertools.cycle([dict(length=200, fds=1, source=10000), dict(length=1, times=20, fds=7),
                             dict(length=100000, times=5, fds=3, source=11000)])
    for i, (kind, s, c) in enumerate(itertools.product(("common", "epoll", "select"), "vk", "vk")):
        play(both, f"{s}s_{kind}", f"{c}c_common", turned=i % 2, v6=i // 2 % 2, **next(sizes))


def test_fork(both):
    """Connections made before a fork and used after it, by children on both sides."""
    for turned, (s, c) in enumerate(("vk", "kv")):
        ns, other = (both.client, both.server) if turned else (both.server, both.client)
        here, there = (both.c4, both.s4) if turned else (both.s4, both.c4)
        kernel = Kernel((ns, s), (other, c))
        p = start(both, ns, f"{s}s_fork", flags(here, there, fds=3))
        out = other.run([app(f"{c}c_fork"), *flags(there, here, fds=3)], env=both.env(), timeout=30).stdout
        want = "connections 1 messages 50 bytes 10000\n" * 3
        assert (out, p.ok(20)) == (want, want)
        kernel.check()


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_file(both, proto, tmp_path):
    source = str(tmp_path / "sent")
    digest = apps.blob(source, 2_000_007 if proto == "tcp" else 200_003)
    for s, c in ("vk", "kv"):
        got = str(tmp_path / f"got-{s}")
        argv = ["-p", PORT, "-l", 1400]
        p = start(both, both.server, f"{s}s_file", [*argv, "-d", both.s4, proto, got], proto=proto)
        both.client.run([app(f"{c}c_file"), *argv, "-d", both.s4, proto, source], env=both.env(), timeout=30)
        p.ok(20)
        assert apps.sha256(got) == digest, (proto, s, c)


@pytest.mark.parametrize("argv,words", [
    (["-l", "0"], "-l wants a number from 1"), (["-l", "99999999999999999999"], "-l wants"), (["-u", "0"], "-u wants"),
    (["-e", "0"], "-e wants"), (["-p", "65536"], "-p wants"), (["-t", "-1"], "-t wants"), (["-f", "0"], "-f wants"),
    (["-a", "65000", "-f", "1000"], "not so many ports"), (["-d", "nowhere"], "not an address: nowhere"),
    (["-d", "127.0.0.1", "-s", "::1"], "two families"), (["-l"], "usage:"), (["-z"], "usage:"), ([], "usage:"),
])
def test_bad_arguments(argv, words):
    r = subprocess.run([app("kc_common"), *argv], capture_output=True, text=True, timeout=10)
    assert r.returncode == 2 and words in r.stderr, r


def test_nobody_comes(tmp_path):
    """-w ends every server that waits in vain, and every client."""
    alone = ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
    running = [Process([*alone, app(program), "-d", "127.0.0.1", "-w", "1"], tmp_path, program)
               for program in ("ks_common", "ks_epoll", "ks_select", "kc_common")]
    for p in running:
        assert p.wait(10) == 1 and re.search("timed out|temporarily|refused", p.stderr()), p.stderr()
