# SPDX-License-Identifier: Apache-2.0
"""Network namespaces and the veth pair between them.

    namespace <base>-s                      namespace <base>-c
      s0  198.18.N.1/24  2001:db8:N::1/64 ==veth== c0  198.18.N.2/24  2001:db8:N::2/64
      lo up                                     lo up

Names carry the pid of the test run, so runs do not meet, and what a killed run left is found and
removed by the next one. Nothing outside the two namespaces is touched.
"""
import contextlib
import ctypes
import ipaddress
import os
import re
import signal
import struct
import subprocess

from . import wait
from .proc import Process, child_setup

PREFIX = "nstest-"
TCP_LISTEN = "0A"


def ip(*args):
    return subprocess.run(["ip", *args], check=True, capture_output=True, text=True).stdout


def sweep(own_pid=None):
    """Remove namespaces of this run (own_pid), or of runs that are dead (None)."""
    try:
        names = re.findall(rf"^({PREFIX}(\d+)-\S+)", ip("netns", "list"), re.M)
    except (OSError, subprocess.CalledProcessError):
        return
    for name, pid in names:
        mine = int(pid) == own_pid
        if mine or (own_pid is None and not os.path.exists(f"/proc/{pid}")):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


class Namespace:
    """One network namespace; processes started through it are stopped by close()."""

    def __init__(self, name, workdir):
        self.name, self.workdir, self.procs = name, workdir, []
        ip("netns", "add", name)
        try:
            # a process that holds the namespace open and lends us its /proc/PID/net;
            # ends by itself when we die, as its input does
            self._keeper = subprocess.Popen(
                self.argv(["cat"]), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                preexec_fn=child_setup())
            wait.until(lambda: os.stat(f"/proc/{self._keeper.pid}/ns/net").st_ino
                       == os.stat(f"/run/netns/{name}").st_ino, f"namespace {name}")
            # no waiting for duplicate address detection of the link-local addresses
            self.run(["sh", "-c", "ip link set lo up; echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad;"
                                  " echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad"])
        except BaseException:
            self.close()
            raise

    def argv(self, cmd):
        return ["ip", "netns", "exec", self.name, *[str(c) for c in cmd]]

    def run(self, cmd, timeout=60, check=True, input=None, env=None, text=True, nofile=None):
        """Run to the end; output is captured."""
        full = dict(os.environ)
        full.update(env or {})
        r = subprocess.run(self.argv(cmd), capture_output=True, text=text, input=input, env=full,
                           timeout=timeout * wait.SLOW, cwd=self.workdir,
                           preexec_fn=child_setup(nofile))
        if check and r.returncode:
            raise AssertionError(f"{' '.join(map(str, cmd))} ended with {r.returncode}\n"
                                 f"{r.stdout[-3000:]}\n{r.stderr[-3000:]}")
        return r

    def spawn(self, cmd, name, **kw):
        p = Process(self.argv(cmd), self.workdir, name, **kw)
        self.procs.append(p)
        return p

    def close(self):
        for p in reversed(self.procs):
            p.stop()
        self._end_daemons()
        if getattr(self, "_keeper", None):
            self._keeper.kill()
            self._keeper.wait()
            self._keeper.stdin.close()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)

    def _end_daemons(self):
        """Whatever left its process group and still lives here: only programs of the test can."""
        found = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True)
        for pid in map(int, found.stdout.split()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    @contextlib.contextmanager
    def inside(self):
        """Sockets that the calling thread makes meanwhile are this namespace's."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net", encoding="ascii") as old, \
                open(f"/run/netns/{self.name}", encoding="ascii") as new:
            assert libc.setns(new.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(old.fileno(), 0) == 0

    # --- what the kernel of this namespace counted ---------------------------------------

    def _net(self, what):
        with open(f"/proc/{self._keeper.pid}/net/{what}") as f:
            return f.read()

    def snmp(self):
        """{'Tcp': {'InSegs': n, ...}, 'Udp': {...}, 'Ip6': flat snmp6 names, ...}"""
        out = {}
        lines = self._net("snmp").splitlines()
        for names, values in zip(lines[::2], lines[1::2]):
            proto = names.split(":")[0]
            out[proto] = dict(zip(names.split()[1:], map(int, values.split()[1:])))
        out["snmp6"] = {a: int(b) for a, b in
                        (line.split() for line in self._net("snmp6").splitlines())}
        return out

    def kernel_tcp_segments(self):
        """TCP segments (in, out) that the kernel's TCP handled, both families, all interfaces."""
        t = self.snmp()["Tcp"]
        return t["InSegs"], t["OutSegs"]

    def kernel_tcp_opens(self):
        """Connections that the kernel's TCP began, actively or passively."""
        t = self.snmp()["Tcp"]
        return t["ActiveOpens"] + t["PassiveOpens"]

    def kernel_udp_datagrams(self):
        s = self.snmp()
        return (s["Udp"]["InDatagrams"] + s["Udp"]["NoPorts"]
                + s["snmp6"]["Udp6InDatagrams"] + s["snmp6"]["Udp6NoPorts"],
                s["Udp"]["OutDatagrams"] + s["snmp6"]["Udp6OutDatagrams"])

    def sockets(self, proto):
        """[(local address, port, remote address, port, state)] of tcp/tcp6/udp/udp6"""
        def addr(text):
            a, p = text.split(":")
            raw = b"".join(struct.pack("=I", int(a[i:i + 8], 16)) for i in range(0, len(a), 8))
            return ipaddress.ip_address(raw), int(p, 16)
        out = []
        for line in self._net(proto).splitlines()[1:]:
            f = line.split()
            out.append((*addr(f[1]), *addr(f[2]), f[3]))
        return out

    def listening(self, port):
        return any(s[1] == port and s[4] == TCP_LISTEN
                   for t in ("tcp", "tcp6") for s in self.sockets(t))

    def bound_udp(self, port):
        return any(s[1] == port for t in ("udp", "udp6") for s in self.sockets(t))


class Pair:
    """Two namespaces and the veth between them."""
    count = 0

    def __init__(self, workdir, mtu=1500, extra_client_addrs=0, tag=None):
        Pair.count += 1
        n = Pair.count % 250
        base = f"{PREFIX}{os.getpid()}-{tag or Pair.count}"
        self.s4, self.c4 = f"198.18.{n}.1", f"198.18.{n}.2"
        self.s6, self.c6 = f"2001:db8:{n:x}::1", f"2001:db8:{n:x}::2"
        self.sif, self.cif = "s0", "c0"
        self.server = self.client = None
        try:
            self.server = Namespace(base + "-s", workdir)
            self.client = Namespace(base + "-c", workdir)
            ip("link", "add", "s0", "mtu", str(mtu), "netns", self.server.name, "type", "veth",
               "peer", "name", "c0", "mtu", str(mtu), "netns", self.client.name)
            for ns, dev, a4, a6 in ((self.server, "s0", self.s4, self.s6),
                                    (self.client, "c0", self.c4, self.c6)):
                ns.run(["ip", "addr", "add", a4 + "/24", "dev", dev])
                ns.run(["ip", "addr", "add", a6 + "/64", "dev", dev, "nodad"])
                ns.run(["ip", "link", "set", dev, "up"])
            for i in range(extra_client_addrs):
                self.client.run(["ip", "addr", "add", f"198.18.{n}.{10 + i}/24", "dev", "c0"])
            for ns, dev in ((self.server, "s0"), (self.client, "c0")):
                wait.until(lambda ns=ns, dev=dev:
                           " state UP " in ns.run(["ip", "link", "show", "dev", dev]).stdout
                           and "tentative" not in ns.run(["ip", "-6", "addr"]).stdout,
                           "the link to come up")
        except BaseException:
            self.close()
            raise

    def saddr(self, family):
        return self.s4 if family == 4 else self.s6

    def caddr(self, family):
        return self.c4 if family == 4 else self.c6

    def close(self):
        for ns in (self.client, self.server):
            if ns:
                ns.close()
