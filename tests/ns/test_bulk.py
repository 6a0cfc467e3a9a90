# SPDX-License-Identifier: Apache-2.0
"""1 GB each way with equal checksums, also with faults injected."""
import os

import pytest

from lib import apps

GB = int(os.environ.get("NSTACK_TEST_BULK_MB", "1024")) << 20
FAULTY = int(os.environ.get("NSTACK_TEST_FAULT_MB", "1024")) << 20


def transfer(net, addr, what, n, timeout):
    out = net.client.run([*apps.prog("bulk.py"), "client", addr, 9100, what, n], timeout=timeout)
    assert out.stdout.startswith("same ")


def serve(net, addr, **kw):
    return net.serve([*apps.prog("bulk.py"), "server", addr, 9100], "bulk", tcp=[9100], **kw)


@pytest.mark.parametrize("what", ["put", "get"])
def test_gigabyte(net, family, what):
    addr = net.saddr(family)
    serve(net, addr)
    proof = net.proof()
    transfer(net, addr, what, GB, 120)
    proof.user_stack(tcp=GB // 65536 // 16)


@pytest.mark.parametrize("what", ["put", "get"])
@pytest.mark.parametrize("faults", ["loss=1%,reorder=1%,dup=1%,seed=7", "corrupt=1%,seed=7",
                                    "loss=5%,seed=7"],
                         ids=["mixed", "corrupt", "loss5"])
def test_faults(net, family, what, faults):
    """The wrapper between our stack and the wire loses, reorders, doubles and damages packets."""
    addr = net.saddr(family)
    serve(net, addr, config={"faults": faults})
    proof = net.proof()
    transfer(net, addr, what, FAULTY if "loss=5" not in faults else FAULTY // 64, 240)
    # a packet may be 64 KB of data, and with losses acknowledgements are few
    d = proof.user_stack(tcp=20)
    if net.is_nstack:
        from lib import nstack
        c = nstack.stack_counters(net.server)
        if "loss" in faults and what == "get":
            assert c["tcp_rexmit"] > 0, c
        if "dup" in faults or "loss" in faults:
            assert d["tcp_in"] > 0


@pytest.mark.parametrize("net", [{"mtu": 9000}, {"mtu": 1280}], indirect=True, ids=["9000", "1280"])
@pytest.mark.parametrize("what", ["put", "get"])
def test_mtu(net, family, what):
    addr = net.saddr(family)
    serve(net, addr)
    proof = net.proof()
    transfer(net, addr, what, GB // 8, 60)
    proof.user_stack(tcp=100)


def test_without_offloads(net, family):
    """No TSO, GSO or checksum offload on either end."""
    for ns, dev in ((net.server, net.sif), (net.client, net.cif)):
        ns.run(["ethtool", "-K", dev, "tso", "off", "gso", "off", "gro", "off", "tx", "off"])
    addr = net.saddr(family)
    serve(net, addr)
    proof = net.proof()
    for what in ("put", "get"):
        transfer(net, addr, what, GB // 8, 60)
    d = proof.user_stack(tcp=500)
    assert not net.is_nstack or d["tcp_in"] > GB // 8 // 1500 // 2
