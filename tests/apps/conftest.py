# SPDX-License-Identifier: Apache-2.0
"""Real programs against each other: which of the two runs under nsocket, and who carried the bytes.

Those that nstackd serves run as nobody, without a capability, but in tests that say why not (as_root)."""
import os
import tempfile

import pytest

from lib import nstack

#: segments that may reach the kernel after a program is gone: the peer's last FIN, its answer
LATE = 8


#: what DPDK with a TAP can't do for programs that have the stack themselves: {test: (sides, why)}
NOT_OVER_A_TAP = {
    **dict.fromkeys(("test_reload_under_load", "test_binary_upgrade_under_load"), (
        {"server"}, "the device ends with the process that has it, and the next one came before that")),
    "test_without_capabilities": ({"server"}, "who may not open the device has no wire"),
    "test_socat_echo": ({"client", "both"}, "clients at the same time: the device ends with the one that has it"),
    **dict.fromkeys(("test_dig", "test_socat_udp_receive"), (
        {"client", "both"}, "each program's first datagram waits for a neighbour, at times longer than the program lives")),
    "test_truncated_answer_is_asked_again_by_tcp": ({"client"}, "dig sets IPV6_MTU, so its socket is the kernel's, "
                                                    "and nobody opens the device"),
}


@pytest.fixture
def tmp_path():
    """Where any user can get, unlike the folders of other test runs."""
    with tempfile.TemporaryDirectory(prefix="nstack-apps-") as path:
        os.chmod(path, 0o755)
        yield path


@pytest.fixture
def played(request, mode):
    """Before any namespace is made."""
    which, why = NOT_OVER_A_TAP.get(request.node.originalname, ((), ""))
    sides = request.node.callspec.params.get("sides", ("server",))
    if mode == "dpdk.in_process" and sides[0] in which:
        pytest.skip(why)


@pytest.fixture
def net(request, played, mode, net): # pytest looks for parameters of `mode` here only
    if not request.node.get_closest_marker("as_root"):
        net.run_bare()
    return net


class Sides:
    """A server and a client; `which` says who runs under nsocket: server, client or both."""

    def __init__(self, net, which, family):
        self.net, self.which, self.family = net, which, family
        self.addr = net.saddr(family)
        self.server_ours = net.is_nstack and which in ("server", "both")
        self.client_ours = net.is_nstack and which in ("client", "both")
        self.before = None

    def serve(self, cmd, name, **kw):
        return self.net.serve(cmd, name, plain=not self.server_ours, **kw)

    def _client_argv(self, cmd):
        return self.net.argv(cmd, side=self.net.client) if self.client_ours else list(cmd)

    def run(self, cmd, env=None, **kw):
        return self.net.client.run(self._client_argv(cmd), env={**self.net.env(), **(env or {})}, **kw)

    def spawn(self, cmd, name, env=None, **kw):
        return self.net.client.spawn(self._client_argv(cmd), name,
                                     env={**self.net.env(), **(env or {})}, **kw)

    def _ours(self):
        return [ns for ns, ours in ((self.net.server, self.server_ours),
                                    (self.net.client, self.client_ours)) if ours]

    @staticmethod
    def _counts(ns):
        return ns.kernel_tcp_opens(), max(ns.kernel_tcp_segments()), max(ns.kernel_udp_datagrams())

    def watch(self):
        """Traffic from here on is to be carried by our stack on the sides that are ours."""
        self.before = [(self._counts(ns), nstack.redirected_by(ns)) for ns in self._ours()]

    def user_stack(self, packets=1, late=LATE):
        """On each of our sides: at least so many packets were redirected to our stack, the kernel
        opened no connection and got no datagram. late: segments that may have met the kernel
        (None: any, as of connections that moved there)."""
        for ns, (old, programs) in zip(self._ours(), self.before):
            opens, segments, datagrams = (a - b for a, b in zip(self._counts(ns), old))
            now = nstack.redirected_by(ns)
            redirected = sum(n - programs.get(program, 0) for program, n in now.items())
            what = f"{ns.name}: {opens=} {segments=} {datagrams=} {redirected=}"
            assert opens == 0 and datagrams == 0 and (late is None or segments <= late), what
            # those that attach the program themselves begin to count, each for itself
            assert redirected >= (packets if set(now) == set(programs) else min(packets, 1)), what


#: each side alone and both, over IPv4 and IPv6 without the full product
PAIRS = [("server", 4), ("client", 6), ("both", 4)]


@pytest.fixture(params=PAIRS, ids=lambda p: f"{p[0]}-ipv{p[1]}")
def sides(request, net):
    return Sides(net, *request.param)


@pytest.fixture(params=[4, 6], ids=["server-ipv4", "server-ipv6"])
def server_side(request, net):
    """The server is ours, the client is plain."""
    return Sides(net, "server", request.param)
