# SPDX-License-Identifier: Apache-2.0
"""Which of the host's addresses are the stack's business on an interface.

    namespace s                                        namespace c
      s0   198.18.N.1/24, 2001:db8:N::1/64     ======   c0  198.18.N.2/24, ...
      s0u  above s0: a VLAN or a macvlan with           c0u
           198.19.5.1/24, 2001:db8:5::1/64
      lo, o0  a further address each, which c reaches through s0

As the kernel's weak host model has it, s0 answers for the addresses of lo and o0. Not for those of
s0u, though generic XDP on s0 sees its frames (and of a VLAN on veth, without their tag).
"""
import pytest

from lib import apps, nstack, wait

PORT = 7000
FAR = {"lo": {4: "198.19.7.1", 6: "2001:db8:7::1"}, "o0": {4: "198.19.8.1", 6: "2001:db8:8::1"}}
UPPER = {4: "198.19.5.1", 6: "2001:db8:5::1"}


def add_far(net, dev):
    if dev != "lo":
        net.server.run(["ip", "link", "add", dev, "type", "veth", "peer", "name", dev + "p"])
        for d in (dev, dev + "p"):
            net.server.run(["ip", "link", "set", d, "up"])
    for family, addr in FAR[dev].items():
        net.server.run(["ip", "addr", "add", f"{addr}/{32 if family == 4 else 128}", "dev", dev,
                        *([] if family == 4 else ["nodad"])])
        net.client.run(["ip", "route", "add", addr, "via", net.saddr(family)])


@pytest.fixture(params=["vlan", "macvlan"])
def upper(net, request):
    """Name of the server's device above s0."""
    how = {"vlan": ["id", "5"], "macvlan": ["mode", "bridge"]}[request.param]
    for ns, dev, host in ((net.server, net.sif, 1), (net.client, net.cif, 2)):
        r = ns.run(["ip", "link", "add", "link", dev, "name", dev + "u", "type", request.param, *how],
                   check=False)
        if "Unknown device type" in r.stderr:
            pytest.skip(f"this kernel has no {request.param}")
        assert not r.returncode, r.stderr
        ns.run(["ip", "addr", "add", f"198.19.5.{host}/24", "dev", dev + "u"])
        ns.run(["ip", "addr", "add", f"2001:db8:5::{host}/64", "dev", dev + "u", "nodad"])
        ns.run(["ip", "link", "set", dev + "u", "up"])
        # by default each of a macvlan and its lower device answers ARP for the other's address,
        # and frames of one connection would arrive now here, now there
        ns.run(["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1"])
    return net.sif + "u"


def serve(net, **kw):
    net.serve([*apps.prog("echo.py"), "tcp", "::", PORT], "echo", tcp=[PORT], **kw)


def ask(net, addr, n=5):
    for i in range(n):
        text = f"question {i} to {addr}\n"
        assert net.client.run(["nc", "-N", "-w5", addr, PORT], input=text).stdout == text


@pytest.mark.parametrize("dev", list(FAR))
def test_address_of_another_device(net, family, dev):
    """An address for services on the loopback or another interface: served by the stack, through s0."""
    add_far(net, dev)
    serve(net)
    proof = net.proof()
    ask(net, FAR[dev][family])
    proof.user_stack(tcp=10)


def test_address_that_comes_later(net, family):
    """It is steered as soon as the tables have it; the kernel serves until then."""
    if not net.is_nstack:
        pytest.skip("nothing to steer")
    serve(net)
    add_far(net, "o0")

    def steered():
        before = nstack.redirected(net.server)
        ask(net, FAR["o0"][family], 1)
        return nstack.redirected(net.server) > before
    wait.until(steered, "the new address to be steered")


def test_device_above_one_that_is_used(net, upper, family):
    """Its frames are not s0's: the kernel serves them, since the answer could not leave by s0."""
    serve(net, config={"interfaces": [net.sif]} if net.is_nstack else None)
    proof = net.proof()
    ask(net, UPPER[family])
    proof.kernel(tcp=10)
    proof = net.proof()
    ask(net, net.saddr(family))
    proof.user_stack(tcp=10)


def test_both_are_used(net, upper, family):
    """Each address is served through its own interface."""
    serve(net)
    for addr in (UPPER[family], net.saddr(family)):
        ask(net, addr)
    if not net.is_nstack:
        return
    for name in (net.sif, upper):
        face = nstack.interface(net.server, name)
        assert face["attached"], face
        assert sum(v for k, v in face["verdicts"].items() if k.startswith("stack_")) >= 10, face
