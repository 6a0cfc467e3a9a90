# SPDX-License-Identifier: Apache-2.0
"""Connections that move to the kernel: under load, and what is left in the tables."""
import os
import shutil
import signal

import pytest

from lib import apps, nstack, wait

MB = 1 << 20
pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="asks nstack")


@pytest.mark.parametrize("what", ["put", "get"])
def test_moves_under_load(net, family, what):
    """A third of a transfer in, the connection is sent to a program that is not under nstack. Nothing
    is lost, and what follows is the kernel's."""
    addr = net.saddr(family)
    net.serve([*apps.prog("pass_on.py"), "server", addr, 9100], "pass_on", tcp=[9100])
    for i in range(3):
        proof = net.proof()
        out = net.client.run([*apps.prog("bulk.py"), "client", addr, 9100, what, 192 * MB], timeout=120)
        assert out.stdout.startswith("same ")
        d = proof.delta()
        # first by the stack, then by the kernel
        assert d["tcp_in"] > 20 and d["tcp_out"] > 20, d
        assert d["kernel_tcp_in"] > 20 and d["kernel_tcp_out"] > 20, d
        c = nstack.stack_counters(net.server)
        assert c["tcp_moved"] == i + 1 and not c["tcp_resets_out"], c


def pins(net):
    """Flows in the pins of the server's interface."""
    return nstack.table(net.server, net.sif, "pins")


@pytest.mark.skipif(not shutil.which("bpftool"), reason="needs bpftool")
def test_pins_of_the_dead_are_swept(net, family):
    """A pin lasts as long as the kernel's connection; after kill -9 the next process removes it."""
    addr = net.saddr(family)
    net.tool("load", net.sif)
    hold = net.serve([*apps.prog("pass_on.py"), "hold", addr, 9101], "hold", tcp=[9101])
    peer = net.client.spawn(["nc", addr, "9101"], "peer", stdin="pipe")
    hold.wait_output("moved")
    assert len(pins(net)) == 1
    peer.popen.stdin.write(b"x")  # it lives, by the pin: the port is still claimed
    peer.popen.stdin.flush()
    wait.until(lambda: nstack.verdicts(net.server).get("pass_pinned", 0) > 0, "a packet by the pin")
    os.kill(hold.pid, signal.SIGKILL)
    hold.popen.wait()
    net.serve([*apps.prog("echo.py"), "tcp", addr, 9102], "echo", tcp=[9102])

    def swept():
        # the sweep goes along with traffic
        net.client.run(["nc", "-N", "-w5", addr, "9102"], input="hello\n")
        return not pins(net)
    wait.until(swept, "the pin to go", 30)


def test_set_user_id_programs_are_left_alone(net):
    """The loader ignores us there; what such a program inherits and opens is the kernel's."""
    path = os.path.join(net.workdir, "setuid-nc")
    shutil.copy(os.path.realpath(shutil.which("nc.openbsd") or shutil.which("nc")), path)
    os.chown(path, 65534, 65534)
    os.chmod(path, 0o6755)
    net.server.spawn(net.argv([path, "-l", net.s4, "9103"]), "setuid", env=net.env())
    wait.until(lambda: net.server.listening(9103), "the program to listen")
    proof = net.proof()
    net.client.run(["nc", "-N", "-w5", net.s4, "9103"], input="hello\n")
    proof.kernel()
    assert ("tcp", 9103) not in nstack.claims(net.server)
