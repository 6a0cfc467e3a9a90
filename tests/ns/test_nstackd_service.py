# SPDX-License-Identifier: Apache-2.0
"""nstackd as a service: what systemd and it tell each other, what it may do, side by side with others."""
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from lib import apps, nstack
from lib.wait import until

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstack")
UPPER = apps.prog("upper.py")

UNIT = os.path.join(nstack.ROOT, "tools/nstackd/nstackd.service.in")
RUNNING_CAPS = (1 << 12) | (1 << 13) | (1 << 39) # NET_ADMIN, NET_RAW, BPF


@pytest.fixture
def mode():
    return "daemon"


@pytest.fixture
def told(tmp_path):
    """What it tells systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "notify"))
        s.settimeout(15)
        yield s


def daemon(net, told, prefix=(), **env):
    return net.server.spawn([*prefix, nstack.DAEMON], "nstackd", env={"NOTIFY_SOCKET": told.getsockname(), **net.env(),
                                                                      **env})


def server(net, ns=None, addr=None, claimed=True):
    ns = ns or net.server
    p = ns.spawn(nstack.BARE + nstack.run_argv([*UPPER, addr or net.s4, 7000]), "server",
                 env=net.env())
    p.wait_output("up")
    if claimed:
        until(lambda: ("tcp", 7000) in nstack.claims(ns), "the port to be claimed")
    return p


def ask(net):
    return net.client.run(["nc", "-N", "-w5", net.s4, "7000"], input="hello", check=False).stdout


def test_says_what_it_does(net, told):
    d = daemon(net, told)
    assert told.recv(100) == b"READY=1"
    assert nstack.daemon_ready(net.server)
    os.kill(d.pid, signal.SIGHUP)
    now = time.clock_gettime(time.CLOCK_MONOTONIC)
    reloading = re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=(\d+)", told.recv(100))
    assert abs(int(reloading[1]) / 1e6 - now) < 60
    assert told.recv(100) == b"READY=1"
    os.kill(d.pid, signal.SIGTERM)
    assert told.recv(100) == b"STOPPING=1"
    until(lambda: not d.running(), "its end")


def test_workers_are_ready_when_it_is(net, told):
    d = daemon(net, told, NSTACK_CONFIG='{"daemon": {"workers": 2}}')
    assert told.recv(100) == b"READY=1"
    (main,) = [p for p in nstack.processes(net.server) if "workers" in p]
    assert [w["ready"] for w in main["workers"]] == [True, True]
    os.kill(d.pid, signal.SIGHUP)
    assert told.recv(100).startswith(b"RELOADING=1\n")
    assert told.recv(100) == b"READY=1"
    os.kill(d.pid, signal.SIGTERM)
    assert told.recv(100) == b"STOPPING=1"


def test_gives_signs_of_life(net, told):
    daemon(net, told, WATCHDOG_USEC="400000")
    assert told.recv(100) in (b"READY=1", b"WATCHDOG=1")
    assert {told.recv(100) for _ in range(4)} <= {b"READY=1", b"WATCHDOG=1"}


def test_a_worker_that_hangs_is_started_again(net, told):
    daemon(net, told, NSTACK_CONFIG='{"daemon": {"workers": 2}}', WATCHDOG_USEC="400000")
    assert told.recv(100) == b"READY=1"

    def workers():
        return next(p["workers"] for p in nstack.processes(net.server) if "workers" in p)
    hung = workers()[1]["pid"]
    assert told.recv(100) == b"WATCHDOG=1"
    os.kill(hung, signal.SIGSTOP)
    until(lambda: workers()[1]["restarts"] == 1 and workers()[1]["ready"], "it to be started again")
    assert workers()[0]["restarts"] == 0 and workers()[1]["pid"] != hung


# --- socket activation ---------------------------------------------------------------------------

def test_socket_activation(net):
    """The first program that looks for the daemon starts it."""
    net.server.spawn(["systemd-socket-activate", "--seqpacket", "-l", "@nstackd", nstack.DAEMON], "activate",
                     env=net.env())
    until(lambda: "@nstackd" in net.server.run(["cat", "/proc/net/unix"]).stdout, "the socket")
    server(net)
    proof = net.proof()
    assert ask(net) == "HELLO"
    proof.user_stack(tcp=3)


#: systemd as far as it matters: it holds the socket, and starts the service again whenever that ends
KEEPER = f"""
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind("\\0nstackd")
s.listen()
if s.fileno() != 3:
    os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
while True:
    pid = os.fork()
    if pid == 0:
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        os.execv("{nstack.DAEMON}", ["nstackd"])
    print("daemon", pid, flush=True)
    os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_restart_with_the_socket_kept(net, how):
    """The program waits in the socket's queue and is served as soon as there is somebody."""
    keeper = net.server.spawn([nstack.PYTHON, "-c", KEEPER], "keeper", env=net.env())
    first = int(keeper.wait_output(r"^daemon (\d+)")[1])
    server(net)
    assert ask(net) == "HELLO"
    os.kill(first, how)
    until(lambda: not os.path.exists(f"/proc/{first}/maps"), "its end")
    assert ask(net) == "HELLO" # by whom it may be
    until(lambda: ("tcp", 7000) in nstack.claims(net.server), "the listener to be taken up again")
    proof = net.proof()
    assert ask(net) == "HELLO"
    proof.user_stack(tcp=3)
    assert len(re.findall("^daemon", keeper.stdout(), re.M)) == 2


def test_what_is_no_such_socket(net):
    for code in ("s = socket.create_server(('127.0.0.1', 0))", "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)"):
        r = net.server.run([nstack.PYTHON, "-c", f"""
import os, socket
{code}
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv("{nstack.DAEMON}", ["nstackd"])
"""], check=False)
        assert r.returncode == 1 and "LISTEN_FDS" in r.stderr, r


# --- what it may do -------------------------------------------------------------------------------

def caps(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        status = dict(line.split(":\t", 1) for line in f if ":\t" in line)
    return {k: int(status[k], 16) for k in ("CapPrm", "CapEff", "CapBnd", "NoNewPrivs")}


def test_gives_up_privileges(net):
    """Once it runs it has what a stack needs to go on, and cannot get more by executing something."""
    d = net.daemon(net.server, net.config(daemon={"workers": 2}))
    for p in until(lambda: [w for q in nstack.processes(net.server) for w in q.get("workers", [])], "the workers"):
        assert caps(p["pid"]) == {"CapPrm": RUNNING_CAPS, "CapEff": RUNNING_CAPS, "CapBnd": 0, "NoNewPrivs": 1}
    assert caps(d.pid)["CapBnd"] == 0 and not caps(d.pid)["CapEff"] & (1 << 19 | 1 << 1) # ptrace, others' files
    server(net)
    assert ask(net) == "HELLO"


def test_what_the_unit_allows_is_enough(net, told):
    with open(UNIT, encoding="ascii") as f:
        names = re.search(r"^CapabilityBoundingSet=(.*)", f.read(), re.M)[1].split()
    allowed = ",".join("+" + n.removeprefix("CAP_").lower() for n in names)
    daemon(net, told, ["setpriv", f"--bounding-set=-all,{allowed}", "--no-new-privs"],
           NSTACK_CONFIG='{"daemon": {"workers": 2}}')
    assert told.recv(100) == b"READY=1"
    p = server(net)
    proof = net.proof()
    assert ask(net) == "HELLO"
    proof.user_stack(tcp=3)
    # and a worker is started again with it
    (main,) = [q for q in nstack.processes(net.server) if "workers" in q]
    for w in main["workers"]:
        os.kill(w["pid"], signal.SIGKILL)
    until(lambda: ("tcp", 7000) in nstack.claims(net.server), "the listener to be taken up again")
    assert ask(net) == "HELLO"
    p.stop()


def test_units_are_right(tmp_path):
    subprocess.run(["make", "-C", nstack.ROOT, f"O={nstack.BUILD}", "install", f"prefix={tmp_path}"], check=True,
                   capture_output=True, timeout=600)
    units = [str(tmp_path / "lib/systemd/system" / x) for x in ("nstackd.socket", "nstackd.service")]
    r = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")


# --- several ---------------------------------------------------------------------------------------

def test_side_by_side(net):
    """Each program is its own namespace's daemon's, though both see the same files."""
    for ns, addr in ((net.server, net.s4), (net.client, net.c4)):
        net.daemon(ns)
        server(net, ns, addr)
    for ns, other in ((net.server, net.client), (net.client, net.server)):
        (d,) = [p for p in nstack.processes(ns) if p["program"] == "nstackd"]
        assert d["pid"] == net.daemons[ns].pid and d["programs"] == 1
        proof, theirs = net.proof(ns), net.proof(other)
        addr = net.s4 if ns is net.server else net.c4
        argv = nstack.run_argv(["nc", "-N", "-w5", addr, "7000"])
        assert other.run(nstack.BARE + argv, input="hello", env=net.env()).stdout == "HELLO"
        proof.user_stack(tcp=3)
        theirs.user_stack(tcp=3)
