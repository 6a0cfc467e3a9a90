# SPDX-License-Identifier: Apache-2.0
"""The steering program on a real interface, by the C interface of bpf/steer_ctl.h.

    namespace nsbpf-<pid>-<n>-a             namespace nsbpf-<pid>-<n>-b
      v0  198.18.0.1/24  2001:db8::1/64 === v1  198.18.0.2/24  2001:db8::2/64

The program is attached to v0. Nothing here needs the nstack tool: tests/bpf/steer_tool is a thin
command around the same functions.
"""
import errno
import itertools
import os
import signal
import subprocess
import time

import pytest

BUILD = os.path.abspath(os.environ.get(
    "NSTACK_BUILD", os.path.join(os.path.dirname(__file__), "..", "..", "build")))
TOOL = os.path.join(BUILD, "tests/bpf/steer_tool")
PACKETS = os.path.join(BUILD, "tests/bpf/steer_packets")
RULESETS = os.path.join(BUILD, "tests/bpf/steer_rulesets")
FOREIGN = os.path.join(BUILD, "tests/bpf/foreign.bpf.o")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
_numbers = itertools.count()


def run(*argv, check=True, **kw):
    return subprocess.run([str(a) for a in argv], check=check, capture_output=True, text=True,
                          timeout=60, **kw)


def until(cond, what, timeout=10):
    end = time.monotonic() + timeout
    while True:
        value = cond()
        if value:
            return value
        assert time.monotonic() < end, f"no {what} within {timeout} s"
        time.sleep(0.02)


class Session:
    """A process that holds a handle on the tables, as a program with a stack does."""

    def __init__(self, link, iface="v0", before=()):
        self.p = subprocess.Popen(link.argv("a", *before, TOOL, "session", iface), stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        self.ready = self._answer()

    def _answer(self):
        code, _, text = self.p.stdout.readline().strip().partition(" ")
        return int(code), text

    def __call__(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()
        return self._answer()

    def kill(self):
        self.p.send_signal(signal.SIGKILL)
        self.p.wait()

    def close(self):
        if self.p.poll() is None:
            self.p.stdin.close()
            try:
                self.p.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


class Link:
    def __init__(self):
        base = f"nsbpf-{os.getpid()}-{next(_numbers)}-"
        self.ns = {"a": base + "a", "b": base + "b"}
        self.children = []
        try:
            for n in self.ns.values():
                run("ip", "netns", "add", n)
                run("ip", "netns", "exec", n, "sh", "-c",
                    "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad; ip link set lo up")
            run("ip", "-n", self.ns["a"], "link", "add", "v0", "type", "veth", "peer", "name", "v1",
                "netns", self.ns["b"])
            for side, dev, host in (("a", "v0", 1), ("b", "v1", 2)):
                run("ip", "-n", self.ns[side], "addr", "add", f"198.18.0.{host}/24", "dev", dev)
                run("ip", "-n", self.ns[side], "addr", "add", f"2001:db8::{host}/64", "dev", dev,
                    "nodad")
                run("ip", "-n", self.ns[side], "link", "set", dev, "up")
        except BaseException:
            self.close()
            raise

    def argv(self, side, *cmd):
        return ["ip", "netns", "exec", self.ns[side], *[str(c) for c in cmd]]

    def run(self, side, *cmd, **kw):
        return run(*self.argv(side, *cmd), **kw)

    def start(self, side, *cmd, **kw):
        p = subprocess.Popen(self.argv(side, *cmd), text=True, **kw)
        self.children.append(p)
        return p

    def tool(self, *args):
        """(result, text); nothing may come on standard error."""
        r = self.run("a", TOOL, *args, check=False)
        assert r.stderr == "", r.stderr
        code, _, text = r.stdout.strip().partition(" ")
        assert (int(code) < 0) == (r.returncode != 0)
        return int(code), text

    def status(self):
        code, text = self.tool("status", "v0")
        assert code == 0, text
        fields, _, why = text.partition(" why=")
        fields, _, foreign = fields.partition(" foreign=")
        out = dict(f.split("=") for f in fields.split())
        return {**{k: int(v) for k, v in out.items()}, "foreign": foreign, "why": why}

    def counters(self):
        code, text = self.tool("counters", "v0")
        assert code == 0, text
        return {k: int(v) for k, v in (f.split("=") for f in text.split())}

    def session(self, *before):
        s = Session(self, before=before)
        self.children.append(s.p)
        return s

    def close(self):
        for p in self.children:
            if p.poll() is None:
                p.kill()
                p.wait()
        for n in self.ns.values():
            run("ip", "netns", "del", n, check=False)


@pytest.fixture
def link():
    net = Link()
    yield net
    net.close()


@pytest.fixture
def loaded(link):
    code, why = link.tool("load", "v0")
    assert code == 0, why
    code, why = link.tool("local", "v0", "198.18.0.1", "2001:db8::1")
    assert code == 0, why
    return link


def test_packets(link):
    """All fixtures, and queues of an interface that has more than can be steered."""
    link.run("a", "ip", "link", "add", "q0", "numrxqueues", "66", "numtxqueues", "1", "type", "veth",
             "peer", "name", "q1")
    for dev in ("q0", "q1"):
        link.run("a", "ip", "link", "set", dev, "up")
    r = link.run("a", PACKETS, 20000, "q0", check=False)
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-3000:]


def test_rule_sets(link):
    r = link.run("a", RULESETS, check=False)
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-3000:]


def test_load_and_unload_twice(link):
    assert link.status()["attached"] == 0
    assert link.tool("unload", "v0") == (0, "v0: not attached")
    assert link.tool("load", "v0")[0] == 0
    first = link.status()
    assert first["attached"] == 1 and first["foreign"] == ""
    assert first["native"] == 0 and "veth" in first["why"]
    assert link.tool("load", "v0") == (0, "v0: attached already")
    assert link.status() == first
    assert link.tool("unload", "v0") == (0, "v0: detached")
    assert link.tool("unload", "v0") == (0, "v0: not attached")
    assert link.status()["attached"] == 0
    assert "xdp" not in link.run("a", "ip", "link", "show", "v0").stdout


def test_native_when_asked(link):
    assert link.tool("load-native", "v0")[0] == 0
    st = link.status()
    assert st["native"] == 1 and st["why"] == "native: asked for"
    assert link.tool("unload", "v0")[0] == 0


def test_no_such_interface(link):
    assert link.tool("load", "nothere")[0] == -errno.ENODEV
    assert link.tool("counters", "v0")[0] == -errno.ENOENT


def test_concurrent(link):
    def many(verbs):
        ps = [link.start("a", TOOL, v, "v0", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
              for v in verbs]
        outs = [p.communicate(timeout=60) for p in ps]
        for p, (out, err) in zip(ps, outs):
            assert p.returncode == 0 and err == "", out + err
        return [out for out, _ in outs]

    outs = many(["load"] * 8)
    assert sum("already" in o for o in outs) == 7
    many(["load", "unload"] * 6)
    assert link.tool("load", "v0")[0] == 0
    assert link.status()["attached"] == 1
    outs = many(["unload"] * 8)
    assert sum("not attached" in o for o in outs) == 7


def test_foreign_program_stays(link):
    link.run("a", "ip", "link", "set", "dev", "v0", "xdpgeneric", "object", FOREIGN, "section", "xdp")
    st = link.status()
    assert st["attached"] == 0 and st["foreign"].startswith("foreign_guard (id ")
    code, why = link.tool("load", "v0")
    assert code == -errno.EBUSY and st["foreign"] in why
    assert link.tool("unload", "v0") == (0, "v0: not attached")
    assert link.status() == st
    code, why = link.tool("counters", "v0")
    assert code == -errno.ENOENT and "foreign_guard" in why


def test_other_version(link):
    link.run("a", "ip", "link", "set", "dev", "v0", "xdpgeneric", "object", FOREIGN, "section",
             "xdp/other")
    code, why = link.tool("load", "v0")
    assert code == -errno.EPROTO and "another version" in why
    assert link.tool("counters", "v0")[0] == -errno.EPROTO
    assert link.tool("unload", "v0") == (0, "v0: detached")


def test_no_permission(link):
    assert link.tool("load", "v0")[0] == 0
    r = link.run("a", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                 TOOL, "counters", "v0", check=False)
    code, _, why = r.stdout.partition(" ")
    assert int(code) == -errno.EPERM and "CAP_BPF" in why and r.stderr == ""


def test_pins_under_the_bpffs(link):
    script = (f"mount -t bpf bpf /sys/fs/bpf && {TOOL} load v0 && find /sys/fs/bpf/nstack -type f | wc -l"
              f" && setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin {TOOL} counters v0"
              f" && {TOOL} unload v0 && ls /sys/fs/bpf")
    r = link.run("a", "unshare", "-m", "sh", "-c", script, check=False)
    lines = r.stdout.splitlines()
    assert r.returncode == 0, r.stdout + r.stderr
    assert lines[1] == "14" and lines[2].startswith("0 pass_not_ip=")
    assert not [n for n in lines[4:] if n == "nstack"]


def test_without_bpffs(link):
    r = link.run("a", "unshare", "-m", "sh", "-c",
                 f"! mountpoint -q /sys/fs/bpf && {TOOL} load v0 && {TOOL} counters v0", check=False)
    assert r.returncode == 0, r.stdout + r.stderr


def test_counters_count(loaded):
    loaded.run("b", "ping", "-c", "3", "-i", "0.1", "198.18.0.1")
    c = loaded.counters()
    assert c["pass_icmp_other"] >= 3
    assert sum(v for k, v in c.items() if not k.startswith("pass_")) == 0


def test_claims_conflict_and_crash(loaded):
    one, two = loaded.session(), loaded.session()
    assert one.ready == (0, "ready")
    assert one("claim tcp 0.0.0.0 80")[0] == -errno.EINVAL  # no instance yet
    assert one("take tcpip")[0] == 1
    assert two("take lwip")[0] == 2
    pid = int(one("pid 1")[1].split()[0])
    for line in ("tcp 0.0.0.0 80", "tcp :: 81", "udp 198.18.0.1 53", "udp 2001:db8::1 53"):
        assert one("claim " + line)[0] == 0
        assert one("claim " + line)[0] == 0  # again: nothing changes
        assert two("claim " + line) == (-errno.EADDRINUSE, str(pid))
    assert two("claim tcp :: 80")[0] == -errno.EADDRINUSE  # takes IPv4 as well
    assert two("claim tcp 0.0.0.0 0")[0] == -errno.EINVAL
    assert one("pin tcp 198.18.0.1 80 198.18.0.2 4000 1")[0] == 0
    assert one("claims")[0] == 4
    one.kill()
    # the leftovers mean nothing to packets, and the next one who wants them has them
    assert two("claim udp 198.18.0.1 53")[0] == 0
    code, text = two("claims")
    assert code == 1 and text.startswith("udp/198.18.0.1:53/2/")
    assert two("pins") == (0, "")
    assert two("claim tcp 0.0.0.0 80")[0] == 0
    three = loaded.session()
    assert three("take tcpip")[0] == 1
    assert three("claim tcp 0.0.0.0 80")[0] == -errno.EADDRINUSE
    two.close()
    three.close()
    assert loaded.tool("claims", "v0") == (0, "")


def test_unclaim(loaded):
    s = loaded.session()
    assert s("take tcpip")[0] == 1
    for line in ("tcp :: 80", "udp 198.18.0.1 53"):
        assert s("claim " + line)[0] == 0
        assert s("unclaim " + line)[0] == 0
        assert s("unclaim " + line)[0] == 0
    assert s("claims")[0] == 0
    s.close()


def test_all_slots_taken(loaded):
    held = [loaded.session() for _ in range(63)]
    assert sorted(s("take tcpip")[0] for s in held) == list(range(1, 64))
    late = loaded.session()
    assert late("take tcpip")[0] == -errno.ENOSPC
    held[17].kill()
    assert late("take tcpip")[0] == 18
    for s in held:
        s.close()


SERVER = """
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
l = socket.socket(family); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.bind((sys.argv[1], 7777)); l.listen(); print('up', flush=True)
while True:
    c, _ = l.accept()
    while True:
        d = c.recv(100)
        if not d: break
        c.sendall(d)
"""
CLIENT = """
import socket, struct, sys
s = socket.create_connection((sys.argv[1], 7777)); s.settimeout(10)
print(s.getsockname()[1], flush=True)
for line in sys.stdin:
    if line.startswith('reset'):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()
        print('gone', flush=True); continue
    s.sendall(line.encode()); print(s.recv(100).decode().strip(), flush=True)
"""


@pytest.mark.parametrize("bind,dst,src", [("198.18.0.1", "198.18.0.1", "198.18.0.2"),
                                          ("::", "2001:db8::1", "2001:db8::2"),
                                          ("::", "198.18.0.1", "198.18.0.2")])
def test_kernel_connections_stay(loaded, bind, dst, src):
    """A claim pins the kernel's connections on the port; others go to the claimant."""
    server = loaded.start("a", "python3", "-c", SERVER, bind, stdout=subprocess.PIPE)
    assert server.stdout.readline() == "up\n"
    client = loaded.start("b", "python3", "-c", CLIENT, dst, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE)
    port = int(client.stdout.readline())

    def echo(text):
        client.stdin.write(text + "\n")
        client.stdin.flush()
        return client.stdout.readline().strip()

    assert echo("one") == "one"
    s = loaded.session()
    assert s("take tcpip")[0] == 1
    assert s("xsk")[0] == 0
    assert s("claim tcp :: 7777")[0] == 0
    assert s("pins") == (0, f"{dst}:7777-{src}:{port}=0")
    assert s("sweep") == (0, "")
    assert echo("two") == "two"
    c = loaded.counters()
    assert c["pass_pinned"] > 0 and c["stack_claim"] == 0
    assert echo("reset") == "gone"
    until(lambda: s("sweep")[0] == 1 or s("pins") == (0, ""), "pin swept")
    assert s("pins") == (0, "")
    s.close()


@pytest.mark.parametrize("load", ["load", "load-native"])
def test_redirect_and_death(link, load):
    """A claimed port's packets reach the AF_XDP socket; when its owner dies, the kernel again."""
    assert link.tool(load, "v0")[0] == 0
    assert link.tool("local", "v0", "198.18.0.1")[0] == 0
    s = link.session()
    assert s("take tcpip")[0] == 1
    assert s("xsk")[0] == 0
    assert s("claim tcp 0.0.0.0 7777")[0] == 0
    server = link.start("a", "python3", "-c", SERVER, "198.18.0.1", stdout=subprocess.PIPE)
    assert server.stdout.readline() == "up\n"
    client = link.start("b", "python3", "-c", CLIENT, "198.18.0.1", stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    length = s("recv 10")[0]
    assert 54 <= length <= 94, length  # a SYN with its options
    c = link.counters()
    assert c["stack_claim"] >= 1 and c["pass_no_socket"] == 0
    s.kill()
    # the client's next SYN finds the listener of the kernel
    assert int(client.stdout.readline()) > 0
    client.stdin.write("alive\n")
    client.stdin.flush()
    assert client.stdout.readline() == "alive\n"
    assert link.counters()["pass_no_socket"] > 0


def test_slot_of_before_exec(loaded):
    """exec closes the sockets but keeps pid and start time: the new image takes over."""
    r = loaded.run("a", TOOL, "session", "v0", input="take tcpip\nclaim tcp 0.0.0.0 80\nexec\n")
    assert r.stdout.splitlines() == ["0 ready", "1 ", "0 0", "0 ready", "1 ", "0 0", "0 end"]


CONNECTS = """
import socket, sys
n = int(sys.argv[1])
lst = socket.create_server(("198.18.0.1", 7000), backlog=64, reuse_port=False)
sys.stdout.write("ready\\n"); sys.stdout.flush()
kept = []
for _ in range(n):
    c = lst.accept()[0]
    kept.append(c)
    sys.stdout.write("%d\\n" % c.getpeername()[1]); sys.stdout.flush()
sys.stdin.read()
"""


def test_sweep_beside_new_pins(loaded):
    """A sweep that is under way leaves the pins alone of connections that began meanwhile."""
    link, n = loaded, 400
    sweeper, pinner = link.session(), link.session()
    server = link.start("a", "/usr/bin/python3", "-c", CONNECTS, n, stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE)
    assert server.stdout.readline() == "ready\n"
    sweeps = subprocess.Popen(["sh", "-c", "while echo sweep; do :; done"], stdout=sweeper.p.stdin)
    drain = subprocess.Popen(["cat"], stdin=sweeper.p.stdout, stdout=subprocess.DEVNULL)
    link.children += [sweeps, drain]
    client = link.start("b", "/usr/bin/python3", "-c",
                        "import socket, sys\n"
                        f"s = [socket.create_connection(('198.18.0.1', 7000)) for _ in range({n})]\n"
                        "sys.stdin.read()", stdin=subprocess.PIPE)
    for _ in range(n):
        port = int(server.stdout.readline())
        assert pinner(f"pin tcp 198.18.0.1 7000 198.18.0.2 {port} 0")[0] == 0
    sweeps.kill()
    assert len(pinner("pins")[1].split()) == n
    client.stdin.close()
    client.wait()
    server.stdin.close()
    server.wait()
    until(lambda: pinner("sweep")[0] >= 0 and pinner("pins") == (0, ""), "sweep of all")


def test_the_living_are_not_cleaned(loaded):
    """A process that runs out of descriptors can't look whether another one lives: that one keeps what
    it has."""
    s = loaded.session()
    assert s("take tcpip") == (1, "")
    assert s("claim tcp :: 80")[0] == 0
    took = 0
    for n in range(8, 40):
        poor = loaded.session("prlimit", f"--nofile={n}")
        if poor.ready == (0, "ready"):
            took += poor("take tcpip")[0] == 2
            assert poor("claim tcp :: 80")[0] < 0, f"with {n} descriptors"
        poor.close()
        assert s("claims")[1].endswith(f"/{s.p.pid}"), f"with {n} descriptors"
    assert took > 5
