# SPDX-License-Identifier: Apache-2.0
"""The follower of the kernel's configuration, live.

    <base>-s: s0 198.18.N.1/24 2001:db8:N::1/64  ==veth==  <base>-c: c0 .2 ::2
    netcfg_probe runs in -s
"""
import os
import subprocess

import pytest
from lib import netns, wait

BUILD = os.environ.get("NSTACK_BUILD", os.path.join(os.path.dirname(__file__), "../../build"))
PROBE = os.path.join(BUILD, "tests/netcfg/netcfg_probe")


class Probe:
    def __init__(self, ns):
        self.p = subprocess.Popen(ns.argv([PROBE]), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True, bufsize=1)
        assert self.p.stdout.readline() == "ready\n"

    def __call__(self, *words):
        self.p.stdin.write(" ".join(map(str, words)) + "\n")
        return self.p.stdout.readline().strip()

    def stats(self):
        w = self("stats").split()
        return dict(zip(w[::2], map(int, w[1::2])))

    def close(self):
        self.p.stdin.close()
        self.p.stdout.close()
        self.p.wait()


class Bed:
    def __init__(self, workdir):
        self.pair = netns.Pair(workdir, tag=f"nc{netns.Pair.count}")
        try:
            self.s, self.c = self.pair.server, self.pair.client
            self.idx = int(self.s.run(["cat", "/sys/class/net/s0/ifindex"]).stdout)
            self.probe = Probe(self.s)
        except BaseException:
            self.pair.close()
            raise

    def ip(self, *args):
        return self.s.run(["ip", *args]).stdout

    def mac(self, ns, dev):
        return ns.run(["cat", f"/sys/class/net/{dev}/address"]).stdout.strip()

    def nud(self, addr):
        line = self.ip("neigh", "show", addr, "dev", "s0").split()
        return line[-1] if line else "NONE"

    def second_link(self):
        """d0, up; returns its index"""
        self.ip("link", "add", "d0", "type", "veth", "peer", "name", "d1")
        self.ip("link", "set", "d1", "up")
        self.ip("link", "set", "d0", "up")
        return int(self.s.run(["cat", "/sys/class/net/d0/ifindex"]).stdout)

    def close(self):
        self.probe.close()
        self.pair.close()


@pytest.fixture
def bed(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if not os.path.exists(PROBE):
        pytest.fail(f"{PROBE} is not built (make, or set NSTACK_BUILD)")
    b = Bed(str(tmp_path))
    try:
        yield b
    finally:
        b.close()


def test_addresses_come_and_go(bed):
    q = bed.probe
    assert q("local", bed.pair.s4) == "1" and q("local", bed.pair.s6) == "1"
    assert q("local", "198.18.200.9") == "0"
    gen = q("sync")
    bed.ip("addr", "add", "198.18.200.9/32", "dev", "s0")
    assert q("local", "198.18.200.9") == "1" and q("sync") != gen
    bed.ip("addr", "del", "198.18.200.9/32", "dev", "s0")
    assert q("local", "198.18.200.9") == "0"
    bed.ip("addr", "add", "2001:db8:ffff::9/64", "dev", "s0", "nodad")
    assert q("local", "2001:db8:ffff::9") == "1"
    assert f"{bed.idx}:2001:db8:ffff::9/64" in q("addrs")


def test_link_changes_are_seen(bed):
    q = bed.probe
    assert q("link", bed.idx).startswith("name s0 kind veth up 1 mtu 1500 mac "
                                         + bed.mac(bed.s, "s0"))
    bed.ip("link", "set", "s0", "mtu", "1400")
    assert " mtu 1400 " in q("link", bed.idx)
    assert " mtu 1400 " in q("route", bed.pair.c4)
    bed.c.run(["ip", "link", "set", "c0", "down"])
    wait.until(lambda: " up 0 " in q("link", bed.idx), "the carrier to be seen lost")
    idx = bed.second_link()
    assert q("link", idx).startswith("name d0 kind veth up 1")
    bed.ip("addr", "add", "198.18.201.1/24", "dev", "d0")
    assert q("local", "198.18.201.1") == "1"
    bed.ip("link", "del", "d0")
    assert q("link", idx) == "none" and q("local", "198.18.201.1") == "0"


@pytest.mark.parametrize("v", [4, 6])
def test_a_route_change_moves_a_destination(bed, v):
    q, remote = bed.probe, "203.0.113.7" if v == 4 else "2001:db8:dead::7"
    gw = bed.pair.caddr(v)
    net = "203.0.113.0/24" if v == 4 else "2001:db8:dead::/48"
    assert q("route", remote) == "err ENETUNREACH"
    bed.ip("route", "add", net, "via", gw, "mtu", "1300")
    assert q("route", remote) == (f"if {bed.idx} via {gw} src {bed.pair.saddr(v)} mtu 1300 "
                                  "type 0 gw 1")
    hits = bed.probe.stats()["hits"]
    q("route", remote)
    assert bed.probe.stats()["hits"] == hits + 1
    idx = bed.second_link()
    bed.ip("addr", "add", "198.18.201.1/24" if v == 4 else "2001:db8:f::1/64", "dev", "d0",
           *([] if v == 4 else ["nodad"]))
    bed.ip("route", "replace", net, "dev", "d0")
    assert q("route", remote).startswith(f"if {idx} via {remote} ")
    bed.ip("route", "replace", "unreachable", remote)
    assert q("route", remote) == "err EHOSTUNREACH"
    bed.ip("route", "del", "unreachable", remote)
    bed.ip("link", "del", "d0")
    assert q("route", remote) == "err ENETUNREACH"


def test_rules_matter(bed):
    q = bed.probe
    assert q("route", bed.pair.c4).startswith(f"if {bed.idx} ")
    bed.ip("rule", "add", "to", bed.pair.c4, "prohibit")
    assert q("route", bed.pair.c4) == "err EACCES"
    bed.ip("rule", "del", "to", bed.pair.c4, "prohibit")
    assert q("route", bed.pair.c4).startswith(f"if {bed.idx} ")


def test_kinds_of_destination(bed):
    q, p = bed.probe, bed.pair
    assert " type 1 " in q("route", p.s4) and " type 1 " in q("route", p.s6)
    assert " type 1 " in q("route", "127.0.0.1") and " type 1 " in q("route", "::1")
    assert " type 2 " in q("route", p.s4.rsplit(".", 1)[0] + ".255")
    assert " type 3 " in q("route", "239.1.2.3", "-", bed.idx)
    assert " type 3 " in q("route", "ff02::1", "-", bed.idx)
    assert q("route", p.c4, "198.18.99.99") == "err ENETUNREACH"
    assert f" src {p.s4} " in q("route", p.c4, p.s4)
    assert q("pmtu", p.c4, 1000) == "1000" and " mtu 1000 " in q("route", p.c4)


@pytest.mark.parametrize("v", [4, 6])
def test_the_kernel_resolves_on_request(bed, v):
    q, peer = bed.probe, bed.pair.caddr(v)
    assert bed.nud(peer) == "NONE"
    assert q("await", bed.idx, peer) == "usable"
    assert q("neigh", bed.idx, peer) == "mac " + bed.mac(bed.c, "c0")
    asked = q.stats()["asked"]
    for _ in range(5):
        q("neigh", bed.idx, peer)
    assert q.stats()["asked"] == asked
    missing = peer[:-1] + "9"
    assert q("await", bed.idx, missing) == "failed"
    assert q("neigh", bed.idx, missing) == "err EHOSTUNREACH" or \
        q("neigh", bed.idx, missing) == "err EAGAIN"


def test_neighbours_set_by_hand_are_followed(bed):
    q, a = bed.probe, bed.pair.s4.rsplit(".", 1)[0] + ".77"
    bed.ip("neigh", "add", a, "lladdr", "02:00:00:00:00:77", "dev", "s0", "nud", "permanent")
    assert q("neigh", bed.idx, a) == "mac 02:00:00:00:00:77"
    bed.ip("neigh", "change", a, "lladdr", "02:00:00:00:00:78", "dev", "s0")
    assert q("neigh", bed.idx, a) == "mac 02:00:00:00:00:78"
    assert bed.nud(a) == "PERMANENT"
    bed.ip("neigh", "del", a, "dev", "s0")
    assert q("neigh", bed.idx, a) == "err EAGAIN"


@pytest.mark.parametrize("v", [4, 6])
def test_confirming_makes_a_stale_one_reachable(bed, v):
    q, peer = bed.probe, bed.pair.caddr(v)
    mac = bed.mac(bed.c, "c0")
    bed.ip("neigh", "replace", peer, "lladdr", mac, "dev", "s0", "nud", "stale")
    assert q("confirm", bed.idx, peer) == "ok"
    assert bed.nud(peer) == "REACHABLE"
    assert q.stats()["confirmed"] == 1
    assert q("confirm", bed.idx, peer) == "ok" and q.stats()["confirmed"] == 1


def test_using_a_stale_one_finds_a_host_that_moved(bed):
    q, peer = bed.probe, bed.pair.c4
    bed.s.run(["sysctl", "-qw", "net.ipv4.neigh.s0.delay_first_probe_time=1"])
    bed.ip("neigh", "replace", peer, "lladdr", "02:00:00:00:00:99", "dev", "s0", "nud", "stale")
    assert q("neigh", bed.idx, peer) == "mac 02:00:00:00:00:99"
    wait.until(lambda: q("neigh", bed.idx, peer) == "mac " + bed.mac(bed.c, "c0"),
               "the kernel to find the new MAC", 20)


def test_without_privilege_it_still_resolves_and_confirms(bed):
    q = bed.probe
    q("drop")
    assert q("await", bed.idx, bed.pair.c4) == "usable"
    assert q("await", bed.idx, bed.pair.c6) == "usable"
    assert q.stats()["denied"] == 2


def test_lost_news_are_made_up_for(bed):
    q = bed.probe
    assert q("rcvbuf", 1) == "0"
    batch = "".join(f"addr add 198.19.{i // 250}.{1 + i % 250}/32 dev s0\n" for i in range(600))
    bed.s.run(["ip", "-batch", "-"], input=batch)
    assert q("local", "198.19.2.90") == "1"
    s = q.stats()
    assert s["resyncs"] >= 1 and s["addrs"] >= 600
    assert all(q("local", f"198.19.{i // 250}.{1 + i % 250}") == "1" for i in range(0, 600, 7))
