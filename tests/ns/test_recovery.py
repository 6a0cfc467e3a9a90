# SPDX-License-Identifier: Apache-2.0
"""Whatever dies, and wherever it was at that moment: what it had comes back, to the last frame."""
import os
import resource
import signal
import subprocess
import tempfile
import time

import pytest

from lib import apps, faults, nstack
from lib.net import Net
from lib.wait import until

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstack")


@pytest.fixture
def net(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limit[1])) # what is killed here is no crash
    n = Net(str(tmp_path), "daemon")
    try:
        yield n
    finally:
        n.close()
        resource.setrlimit(resource.RLIMIT_CORE, limit)


#: attaches by hand, then leaves its end of the channel to a child that knows nothing of it
HELD = """
import os, socket, struct, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect("\\0nstackd")
call = struct.pack("=HHIiiI24s24s64s", 1, 0, 0x6e737464, 1, 0, 0, b"", b"", b"held")
s.send(call)
assert struct.unpack_from("=i", s.recv(400))[0] == 0
if os.fork():
    print("up", flush=True)
time.sleep(60)
"""


def test_a_child_that_holds_the_channel(net):
    """The end of a program is seen though a child of it has not yet closed what it was born with."""
    net.daemon(net.server)
    before = nstack.accounts(net.server)
    p = net.server.spawn([nstack.PYTHON, "-c", HELD], "held")
    p.wait_output("up")
    assert nstack.accounts(net.server)["parts"] == before["parts"] + 1
    os.kill(p.pid, signal.SIGKILL)
    until(lambda: nstack.accounts(net.server)["parts"] == before["parts"], "its part to be given back")
    assert nstack.accounts(net.server)["descriptors"] == before["descriptors"]


# --- killed at every step -----------------------------------------------------------------------

#: an unprivileged program, so that all that happens goes through the daemon
#: points of the library that a program of nstackd's does not come by: the stack's and the driver's side (sbr.: the
#: link to other stacks, see tests/plugin)
NOT_REMOTE = {"region.part.file", "region.session.alloc", "region.session.free"}
#: what has to be as it was before
BALANCE = ("programs", "programs_ended", "parts", "sessions", "ports", "parked", "descriptors", "recycle_waiting")
TX_BATCH = 64


@pytest.fixture(scope="module")
def mill():
    with tempfile.TemporaryDirectory(prefix="mill-") as folder: # not pytest's: those are for root only
        os.chmod(folder, 0o755)
        path = os.path.join(folder, "mill")
        subprocess.run(["gcc", "-O2", "-pthread", "-o", path,
                        os.path.join(os.path.dirname(__file__), "progs", "mill.c")], check=True)
        yield path


def serve(net, mill, name, bare=True):
    """A mill that waits to be told to go; its library can be armed."""
    argv = nstack.run_argv([mill, "serve", net.s4, net.c4])
    p = net.server.spawn((nstack.BARE if bare else []) + argv, name, env=net.env(), stdin="pipe")
    p.wait_output("up")
    return p


def go(p):
    p.popen.stdin.write(b"go\n")
    p.popen.stdin.flush()


def partner(net, mill):
    net.client.spawn([mill, "partner", net.c4, net.s4], "partner").wait_output("up")


def rounds(p):
    return p.stdout().count("round")


def balanced(net, before):
    """The accounts are as before, and every frame is where it can be found."""
    now = nstack.accounts(net.server)
    assert {k: now[k] for k in BALANCE} == {k: before[k] for k in BALANCE}
    assert now["rx_frames"] == now["rx_frames_kernel"] + now["rx_frames_received"] + now["rx_frames_held"], now
    # those of a batch may be in the stack's hand
    assert 0 <= now["tx_frames"] - now["tx_frames_free"] - now["tx_frames_sent"] <= TX_BATCH / 2, now
    assert now["session_double_frees"] == 0
    return True


def test_program_dies_at_each_step(net, mill):
    """At every point where it has something half done; another program is served all the while."""
    net.daemon(net.server)
    partner(net, mill)
    points = sorted(p for p in faults.points(nstack.LIB) if not p.startswith(("xdp.", "sbr.")) and p not in NOT_REMOTE)
    before = nstack.accounts(net.server)
    for point in points:
        p = serve(net, mill, point)
        faults.arm(p.pid, nstack.LIB, point)
        go(p)
        assert p.wait(20) == faults.DIED, point
        until(lambda: balanced(net, before), f"the accounts to balance after {point}")
    p = serve(net, mill, "last")
    go(p)
    until(lambda: rounds(p) >= 2, "the last one to be served")
    assert nstack.stack_counters(net.server)["tcp_in"] > 0


def test_daemon_dies_at_each_step(net, mill):
    """The program goes on by the kernel, then by the next daemon, whose accounts are right from the start."""
    partner(net, mill)
    net.daemon(net.server)
    fresh = nstack.accounts(net.server)
    p = serve(net, mill, "mill")
    go(p)
    points = sorted(x for x in faults.points(nstack.DAEMON) if not x.startswith(("remote.", "xdp.sweep.")))
    for point in points:
        d = net.daemon(net.server)
        faults.arm(d.pid, nstack.DAEMON, point)
        passing = serve(net, mill, f"passing-{point}") # for what a program does that comes or goes
        go(passing)
        until(lambda: not d.running() or nstack.accounts(net.server)["programs"] >= 2, "both to be attached")
        passing.stop()
        assert d.wait(20) == faults.DIED, point
        p.must_run()
        done = rounds(p)
        until(lambda: rounds(p) > done, f"the kernel to serve after {point}")
    p.stop()
    net.daemon(net.server)
    until(lambda: balanced(net, fresh), "the accounts to balance")


def in_process(net, port):
    """An echo server with a stack of its own; its pid."""
    echo = os.path.join(os.path.dirname(__file__), "progs", "echo.py")
    p = net.server.spawn(nstack.run_argv([nstack.PYTHON, echo, "tcp", net.s4, str(port)]), f"echo-{port}",
                         env=net.env())
    until(lambda: p.must_run() or ("tcp", port) in nstack.claims(net.server), f"port {port} to be claimed")
    return p


def ask(net, port):
    return net.client.run(["nc", "-N", "-w5", net.s4, str(port)], input="hello", check=False).stdout == "hello"


def frames_found(net, p, port):
    """Every frame of the interface is where p can see it; some traffic, without which a sweep does not end."""
    assert ask(net, port)
    (now,) = [q["accounts"] for q in nstack.processes(net.server) if q["pid"] == p.pid]
    assert not now["frames_sweep"], now
    assert now["rx_frames"] == now["rx_frames_kernel"] + now["rx_frames_received"] + now["rx_frames_held"], now
    return True


def test_member_dies_at_each_step(net, mill):
    """Stacks in processes share an interface: of one that dies at any step no frame is lost, nor of the one
    that looks for them."""
    partner(net, mill)
    first, second = in_process(net, 9000), in_process(net, 9001)

    def die(point):
        p = serve(net, mill, point, bare=False)
        faults.arm(p.pid, nstack.LIB, point)
        go(p)
        assert p.wait(20) == faults.DIED, point
    for point in sorted(p for p in faults.points(nstack.LIB) if p.startswith("xdp.") and "sweep" not in p):
        die(point)
    until(lambda: frames_found(net, first, 9000), "the frames of the dead", 30)
    faults.arm(first.pid, nstack.LIB, "xdp.sweep.marked")
    die("xdp.rx.taken")
    assert first.wait(20) == faults.DIED
    until(lambda: frames_found(net, second, 9001), "the frames after the one who looked for them", 30)
    third = in_process(net, 9000)
    faults.arm(second.pid, nstack.LIB, "xdp.sweep.collected")
    die("xdp.rx.taken")
    until(lambda: not second.running() or not ask(net, 9001), "the end of the second", 30)
    assert second.wait(20) == faults.DIED
    until(lambda: frames_found(net, third, 9000), "the frames after both", 30)
    assert any(q["accounts"].get("rx_frames_recovered") for q in nstack.processes(net.server)), "none was lost"


# --- nstackd ends ------------------------------------------------------------------------------------

WAITERS = os.path.join(os.path.dirname(__file__), "progs", "waiters.py")
#: what each way to wait comes back with, as from a kernel that got a reset
RESET = {
    "recv": "ECONNRESET", "send": "ECONNRESET", "sel": "readable ECONNRESET", "so_error": "ECONNRESET",
    "epoll": "EPOLLERR|EPOLLHUP|EPOLLIN|EPOLLRDHUP ECONNRESET then b''",
    "epoll_et": "EPOLLERR|EPOLLHUP|EPOLLIN|EPOLLRDHUP ECONNRESET then b''",
    "poll": "POLLERR|POLLHUP|POLLIN ECONNRESET",
}


def udp(net, port):
    return net.client.run(["nc", "-u", "-w1", "-W1", net.s4, str(port)], input="x", check=False).stdout


def outcomes(p):
    return dict(x.split(": ", 1) for x in p.stdout().splitlines() if ": " in x and "served" not in x)


def test_every_way_of_waiting_sees_the_end(net):
    """Connections are reset, listeners and UDP sockets go on: those who sleep in calls notice nothing else."""
    net.daemon(net.server)
    net.client.spawn([nstack.PYTHON, "-c", "import socket, time\n"
                      f"s = socket.create_server(('{net.c4}', 7000))\nprint('up', flush=True)\n"
                      "a = []\nwhile True: a.append(s.accept())"], "silent").wait_output("up")
    p = net.server.spawn(nstack.BARE + nstack.run_argv([nstack.PYTHON, WAITERS, net.s4, net.c4, "7000"]), "waiters",
                         env=net.env())
    p.wait_output("^ready")
    until(lambda: {("tcp", 7000), ("udp", 7000)} <= nstack.claims(net.server), "the ports to be claimed")
    assert udp(net, 7000) == "served"
    for _ in range(2):
        net.daemon(net.server).kill9()
        until(lambda: outcomes(p) == RESET, "all to come back")
        before = net.server.kernel_tcp_segments()
        served = p.stdout().count("accept: served")
        net.client.run(["nc", "-N", "-w5", net.s4, "7000"], input="")
        until(lambda: p.stdout().count("accept: served") > served, "accept() to come back")
        assert net.server.kernel_tcp_segments()[0] > before[0], "the kernel had nothing to do with it"
        assert udp(net, 7000) == "served"
        cpu = p.cpu_seconds()
        time.sleep(0.5) # a span to measure over
        assert p.cpu_seconds() - cpu < 0.15, "it does not sleep while there is no daemon"
        net.daemon(net.server)
        until(lambda: {("tcp", 7000), ("udp", 7000)} <= nstack.claims(net.server), "the ports to come back")
        proof = net.proof()
        served = p.stdout().count("accept: served")
        net.client.run(["nc", "-N", "-w5", net.s4, "7000"], input="")
        until(lambda: p.stdout().count("accept: served") > served, "accept() to come back")
        assert udp(net, 7000) == "served"
        proof.user_stack(tcp=3, udp=1)
    p.must_run()


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_daemon_ends_under_load(net, sig):
    """Again and again: the same redis serves on, by the kernel and by the next daemon in turn."""
    env = net.env()
    net.daemon(net.server)
    p = net.server.spawn(nstack.BARE + nstack.run_argv(["redis-server", "--bind", net.s4, "--protected-mode", "no",
                                                 "--save", "", "--dir", "/tmp"]), "redis", env=env)
    net.wait_served(p, tcp=[6379])
    assert apps.redis_cli(net.client, net.s4, "set", "k", "v") == "OK"
    for _ in range(4):
        load = net.client.spawn(["redis-benchmark", "-h", net.s4, "-c", 20, "-n", 100_000_000, "-t", "get,set"], "load")
        calls = nstack.stack_counters(net.server).get("tcp_in", 0)
        until(lambda c=calls: nstack.stack_counters(net.server).get("tcp_in", 0) > c + 1000, "the load")
        d = net.daemon(net.server)
        os.kill(d.pid, sig)
        until(lambda d=d: not d.running(), "its end")
        # a SYN that met the end is sent again after a second
        assert until(lambda: apps.redis_cli(net.client, net.s4, "get", "k", check=False, timeout=5) == "v", "the kernel")
        load.stop()
        net.daemon(net.server)
        until(lambda: ("tcp", 6379) in nstack.claims(net.server), "the port to come back")
        proof = net.proof()
        assert apps.redis_cli(net.client, net.s4, "get", "k") == "v"
        assert proof.delta()["tcp_in"] >= 3
        p.must_run()
