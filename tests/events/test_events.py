# SPDX-License-Identifier: Apache-2.0
"""epoll, poll and select answer what Linux answers: one program, run plainly and under us, must
print the same. The other end of its connections is a second process in the plain kernel."""
import difflib
import os
import socket
import subprocess

import pytest

from lib import nstack

DIFF = os.path.join(nstack.BUILD, "tests/events/ev_diff")
STUB = os.path.join(nstack.BUILD, "tests/events/ev_stub.so")
SCENARIOS = ["errors", "listener", "level", "edge", "oneshot", "hangup", "reset", "connect",
             "pressure", "fairness", "mixed", "nested", "dup", "udp", "threads", "time",
             "signals", "poll", "select", "fork"]


def run_local(scenario, env):
    r = subprocess.run([DIFF, scenario], capture_output=True, text=True, timeout=120,
                       env={**os.environ, **env})
    assert r.returncode == 0, r.stderr[-2000:]
    return r.stdout


def compare(plain, ours):
    assert plain == ours, "\n".join(difflib.unified_diff(
        plain.splitlines(), ours.splitlines(), "Linux", "nstack", lineterm="", n=20))


@pytest.mark.skipif(bool(nstack.SAN), reason="the stand-in is not built for sanitizers' runtimes")
@pytest.mark.parametrize("half", ["kernel", "user"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_without_a_stack(scenario, half):
    """Sockets of the kernel, but through our event calls: by the kernel half, by notification."""
    compare(run_local(scenario, {}), run_local(scenario, {"EV_STUB": half, "LD_PRELOAD": STUB}))


def run_pair(net, family, argv, scenario):
    """ev_diff on the server's side; its peer on the client's, commanded through a socket pair."""
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    a.set_inheritable(True)
    b.set_inheritable(True)
    peer = subprocess.Popen(net.client.argv([DIFF, "-P", b.fileno()]), pass_fds=[b.fileno()])
    try:
        env = {**os.environ, **net.env(), "EV_PEER_ADDR": net.caddr(family)}
        r = subprocess.run(
            net.server.argv(argv([DIFF, "-a", net.saddr(family), "-p", str(a.fileno()), scenario])),
            pass_fds=[a.fileno()], capture_output=True, text=True, timeout=120, env=env)
        assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-3000:]
        return r.stdout
    finally:
        a.close()
        b.close()
        peer.wait(10)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_over_veth(net, family, scenario, request):
    if scenario == "fork":
        request.applymarker(pytest.mark.xfail(reason=(
            "a parent whose stack owns the port keeps getting its connections; a child that "
            "alone accepts gets only those that reach the kernel")))
    plain = run_pair(net, family, list, scenario)
    compare(plain, run_pair(net, family, net.argv, scenario))
