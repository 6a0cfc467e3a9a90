# SPDX-License-Identifier: Apache-2.0
"""The tests' own witness is tested first: a proof must not be given for traffic that went by the
kernel, and must see UDP and both families."""
import pytest

from lib import apps, nstack, wait


@pytest.fixture
def mode():
    """These tests are about the harness: plain servers only."""
    return "kernel"


def test_proof_refuses_kernel_traffic(net, family):
    """A plain server's traffic counts as the kernel's, whatever the mode."""
    apps.redis(net, plain=True)
    proof = nstack.Proof(net.server, "kernel")
    assert apps.redis_cli(net.client, net.saddr(family), "ping") == "PONG"
    delta = proof.delta()
    assert delta["kernel_tcp_in"] > 0 and delta["kernel_tcp_out"] > 0
    strict = nstack.Proof(net.server, "kernel")
    apps.redis_cli(net.client, net.saddr(family), "ping")
    strict.mode = "in_process"
    strict._ours = lambda: {k: 1 << 30 for k in strict.ours}  # even if our stack claims a lot
    with pytest.raises(AssertionError, match="kernel's TCP handled"):
        strict.user_stack(tcp=1)


def test_proof_refuses_silence(net):
    """No traffic at all is no proof either."""
    proof = nstack.Proof(net.server, "kernel")
    proof.mode = "in_process"
    proof._ours = lambda: dict(proof.ours)
    with pytest.raises(AssertionError, match="too few"):
        proof.user_stack(tcp=1)


def test_udp_is_counted(net, family):
    net.serve([*apps.prog("echo.py"), "udp", net.saddr(family), 9000], "echo", udp=[9000], plain=True)
    proof = nstack.Proof(net.server, "kernel")
    flags = ["-u", "-w1", "-6" if family == 6 else "-4"]
    out = net.client.run(["nc", *flags, net.saddr(family), "9000"], input="hello\n").stdout
    assert out == "hello\n"
    assert proof.delta()["kernel_udp_in"] == 1


def test_namespaces_are_joined(net, family):
    out = net.client.run(["ping", "-c3", "-i0.1", net.saddr(family)]).stdout
    assert " 0% packet loss" in out
    with pytest.raises(wait.Timeout):
        wait.until(lambda: net.server.listening(6379), "a port nobody has", timeout=0.1)
