# SPDX-License-Identifier: Apache-2.0
"""Every record of every scenario is the kernel's, or an intended difference with its reason.

    pytest tests/oracle -k 'tcp_close and ipv6'     one group, one family
    NSTACK_ORACLE=echo pytest tests/oracle -k ...   one scenario of it
"""
import contextlib
import json
import os

import pytest

import compatibility
import oracle
from lib import nstack
from lib.dpdk import PLUGIN, net_of

#: groups whose scenarios stay inside the machine: no packet comes to the stack
LOCAL = set()
#: or which scenario gets its error would depend on how fast the ones before it were
NO_ICMP_LIMIT = ["-w", "net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_msgs_per_sec=1000000",
                 "net.ipv4.icmp_msgs_burst=1000000", "net.ipv6.icmp.ratelimit=0"]
#: what can't be had over DPDK: {(mode, group, family): why}
NOT_OVER = {
    **{(mode, "udp_sizes", 4): "net_af_packet has the kernel merge IPv4 fragments, and loses the result"
       for mode in ("dpdk.in_process", "dpdk.daemon")},
    **{(mode, "udp_random", family): "its probe may overtake the kernel's ICMP errors, which come by the TAP"
       for mode in ("dpdk.in_process", "dpdk.daemon") for family in (4, 6)},
    **{(mode, "proc_listen", family): "a device is one process's: its children's listeners are the kernel's, also "
       "where it has taken the port" for mode in ("dpdk.in_process", "dpdk.xdp.in_process") for family in (4, 6)},
}
#: what `make test` plays over DPDK, of all that `make test-dpdk` does
OVER_DPDK = [("dpdk.in_process", "tcp_basic", 4), ("dpdk.daemon", "tcp_data", 6), ("dpdk.in_process", "udp_connect", 6),
             ("dpdk.xdp.in_process", "tcp_accept", 6), ("dpdk.xdp.daemon", "udp_basic", 4)]
SCENARIO = os.environ.get("NSTACK_ORACLE")
needed, played = set(), {}


@contextlib.contextmanager
def nets_of(tmp_path, mode):
    """A pair of namespaces for each play: they go on side by side."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = []
    try:
        for i, under in enumerate(oracle.PLAYS):
            os.mkdir(tmp_path / str(i))
            n = net_of(str(tmp_path / str(i)), mode)
            made.append(n)
            for ns in (n.server, n.client):
                ns.run(["sysctl", "-q", *NO_ICMP_LIMIT])
            for side in under if n.is_nstack else ():
                n.load(getattr(n, side))
        yield made
        found = "".join(nstack.sanitizer_reports(n.workdir) for n in made)
        assert not found, "a sanitizer found:\n" + found
    finally:
        for n in made:
            n.close()


@pytest.fixture
def nets(request, tmp_path, mode):
    params = request.node.callspec.params
    if why := NOT_OVER.get((mode, params["group"], params["family"])):
        pytest.skip(why)
    with nets_of(tmp_path, mode) as made:
        yield made


@pytest.mark.parametrize("group,family", [pytest.param(g, f, id=f"{g}-ipv{f}")
                                          for g, f in oracle.groups()])
def test_group(nets, group, family):
    play(nets, group, family)


@pytest.mark.skipif(nstack.MODES == ["kernel"] or not os.path.exists(PLUGIN), reason="about nstack, built with DPDK")
@pytest.mark.parametrize("over,group,family", OVER_DPDK)
def test_over_dpdk(tmp_path, over, group, family):
    with nets_of(tmp_path, over) as made:
        play(made, group, family)


def play(nets, group, family):
    want, *got = oracle.finish([oracle.start(net, i, group, family, SCENARIO)
                                for i, net in enumerate(nets)])
    for side in ("server", "client"):
        assert not want[side].problem, f"on the kernel, {side}: {want[side].problem}"
    played[group, family] = sum(len(side.records) for side in want.values())
    left = [x for side in want.values() for x in side.records if x.endswith(".descriptors left")]
    assert not left, f"scenarios leave descriptors open: {left}"
    wrong = [line for under, play in zip(oracle.PLAYS[1:], got)
             for line in oracle.compare(group, family, under, play, want, needed)]
    assert not wrong, f"{len(wrong)} differences\n" + "\n".join(wrong)
    if group not in LOCAL and nets[0].is_nstack and not SCENARIO:
        for under, net in zip(oracle.PLAYS[1:], nets[1:]):
            for side in under:
                ns = getattr(net, side)
                assert nstack.redirected(ns), f"nothing went through the stack of the {side}"


@pytest.fixture
def records():
    """{group: records in the plain play}, kept for compatibility.py"""
    if set(played) != set(oracle.groups()) or SCENARIO:
        pytest.skip("not every group was played")
    counts = {}
    for (group, _), n in played.items():
        counts[group] = counts.get(group, 0) + n
    with open(compatibility.COUNTS, "w", encoding="utf8") as f:
        json.dump(counts, f)
    return counts


def test_no_row_is_stale(records):
    """Each row of differences.toml was needed."""
    if nstack.SHARED or any(m.startswith("dpdk.") for m in nstack.MODES):
        pytest.skip("a row may be needed by what others play")
    stale = [r["title"] for r in oracle.differences() if r.get("where") and r["title"] not in needed]
    assert not stale


def test_document_is_current(records):
    assert sum(records.values()) >= 600
    with open(compatibility.DOCUMENT, encoding="utf8") as f:
        assert f.read() == compatibility.document(records), "docs/compatibility.md: make compatibility"
