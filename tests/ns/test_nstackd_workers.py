# SPDX-License-Identifier: Apache-2.0
"""nstackd with several workers: who goes where, what is lost with one of them, and what is not."""
import json
import os
import signal
import socket

import pytest

from lib import apps, nstack, proc
from lib.wait import until

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstack")
UPPER = apps.prog("upper.py")


def start(net, ns, how):
    """The main process, ready, with its workers."""
    net.daemon(ns, net.config(daemon={"workers": how}))
    return until(lambda: workers(net, ns), "the main process")


@pytest.fixture
def mode():
    return "daemon"


@pytest.fixture
def net(net):
    start(net, net.server, 2)
    return net


def server(net, port, name="server", child=0, reuse=False, owned=True):
    argv = [*UPPER, net.s4, port, *(["--reuse"] if reuse else []), *(["--child", child] if child else [])]
    p = net.server.spawn(nstack.run_argv(argv), name, env=net.env())
    p.wait_output(f"up {port}")
    for x in filter(None, (port, child)) if owned else ():
        until(lambda x=x: ("tcp", x) in nstack.claims(net.server), f"port {x} to be claimed")
    return p


def ask(net, port, text="hello"):
    return net.client.run(["nc", "-N", "-w5", net.s4, str(port)], input=text, check=False).stdout


def connect(net, port):
    with net.client.inside():
        c = socket.create_connection((net.s4, port), 5)
    c.sendall(b"x")
    assert c.recv(10) == b"X"
    return c


def workers(net, ns=None):
    """What the main process says of its workers."""
    return next((p["workers"] for p in nstack.processes(ns or net.server) if "workers" in p), [])


def owner(net, port):
    """The worker's pid."""
    (pid,) = {c["pid"] for d in nstack.walk(nstack.tool_json(net.server, "status")) for c in d.get("claims", [])
              if (c["proto"], c["port"]) == ("tcp", port)}
    return pid


def test_programs_are_shared_out(net):
    for i in range(4):
        server(net, 7000 + i, f"server-{i}")
    proof = net.proof()
    for i in range(4):
        assert ask(net, 7000 + i) == "HELLO"
    proof.user_stack(tcp=12)
    assert [w["programs"] for w in workers(net)] == [2, 2]
    assert {owner(net, 7000 + i) for i in range(4)} == {w["pid"] for w in workers(net)}
    net.server.procs[-1].stop()
    until(lambda: sum(w["programs"] for w in workers(net)) == 3, "one program less")


def test_families_stay_together(net):
    """They may share sockets, also where the child has a session of its own."""
    server(net, 7000, "alone")
    server(net, 7001, "family", child=7002)
    server(net, 7003, "another family", child=7004)
    assert owner(net, 7001) == owner(net, 7002)
    assert owner(net, 7003) == owner(net, 7004)
    assert ask(net, 7002) == ask(net, 7003) == "HELLO"


def test_a_port_of_another_worker(net):
    """SO_REUSEPORT, and the kernel lets both have it: one has the packets, whose end gives them to the other."""
    first = server(net, 7000, "first", reuse=True)
    server(net, 7000, "second", reuse=True, owned=False)
    server(net, 7001, "third")
    assert sorted(w["programs"] for w in workers(net)) in ([1, 1], [1, 2])
    assert ask(net, 7000) == ask(net, 7001) == "HELLO"
    had = owner(net, 7000)
    first.stop()
    until(lambda: ask(net, 7000) == "HELLO", "the second one to be asked")
    assert ("tcp", 7000) not in nstack.claims(net.server) or owner(net, 7000) != had


def test_a_worker_is_killed(net):
    """Its programs' connections are reset, nobody else's; it is started again, and its programs come back."""
    server(net, 7000, "first")
    server(net, 7001, "second")
    one, other = connect(net, 7000), connect(net, 7001)
    os.kill(owner(net, 7000), signal.SIGKILL)
    until(lambda: [w["restarts"] for w in workers(net) if w["ready"]] in ([0, 1], [1, 0]), "it to be started again")
    alarms = json.loads(net.tool("alarms", "--all", "--json").stdout)
    assert [(a["severity"], a["raised"], a["count"]) for a in alarms if a["name"] == "worker_lost"] == [("critical", False, 1)]
    other.sendall(b"y")
    assert other.recv(10) == b"Y"
    one.settimeout(10)
    one.sendall(b"y")
    with pytest.raises(ConnectionResetError):
        one.recv(10)
    until(lambda: ("tcp", 7000) in nstack.claims(net.server), "the listener to be taken up again")
    proof = net.proof()
    assert ask(net, 7000) == "HELLO"
    proof.user_stack(tcp=3)
    assert sum(w["programs"] for w in workers(net)) == 2
    one.close()
    other.close()


def ended(*pids):
    return not any(os.path.exists(f"/proc/{p}") for p in pids)


def goes_on(c):
    c.settimeout(10)
    c.sendall(b"y")
    assert c.recv(10) == b"Y"
    c.close()


def test_stop_loses_no_connection(net):
    for i in range(2):
        server(net, 7000 + i, f"server-{i}")
    conns = [connect(net, 7000 + i) for i in range(2)]
    pids = [w["pid"] for w in workers(net)]
    d = net.daemon(net.server)
    os.kill(d.pid, signal.SIGTERM)
    until(lambda: not d.running(), "its end")
    assert d.popen.returncode == 0 and ended(*pids)
    for c in conns:
        goes_on(c) # in the kernel
    assert ask(net, 7000) == "HELLO"


def test_main_process_is_killed(net):
    """Its workers end, too, properly; the next daemon serves."""
    server(net, 7000)
    c = connect(net, 7000)
    pids = [w["pid"] for w in workers(net)]
    d = net.daemon(net.server)
    os.kill(d.pid, signal.SIGKILL)
    until(lambda: ended(*pids), "the workers' end")
    goes_on(c)
    start(net, net.server, 2)
    until(lambda: ("tcp", 7000) in nstack.claims(net.server), "the listener to be taken up again")
    assert ask(net, 7000) == "HELLO"


def test_cores(net):
    assert [os.sched_getaffinity(w["pid"]) for w in start(net, net.client, [1, 0])] == [{1}, {0}]


def test_a_worker_that_cannot_start(net):
    r = net.client.run([nstack.DAEMON, "--config", net.config(daemon={"workers": [0, 1000]})], check=False)
    assert r.returncode == 1 and "core 1000" in r.stderr and "worker 1 did not start" in r.stderr, r
    assert not [p for p in nstack.processes(net.client) if p["program"] == "nstackd"]


def test_limits_are_for_all_workers(net):
    """What a dead worker's programs had is theirs no more."""
    net.daemons.pop(net.server).stop()
    net.daemon(net.server, net.config(daemon={"workers": 2, "access": [{"per": "entry", "sockets": 2}]}))
    until(lambda: workers(net), "the main process")
    for i in range(3):
        server(net, 7000 + i, f"server-{i}", owned=i < 2)
    assert ("tcp", 7002) not in nstack.claims(net.server)
    assert ask(net, 7002) == "HELLO"
    os.kill(owner(net, 7000), signal.SIGKILL)
    until(lambda: sum(w["restarts"] for w in workers(net)) == 1, "it to be started again")
    have = [("tcp", 7000 + i) for i in range(3)]
    until(lambda: sum(x in nstack.claims(net.server) for x in have) == 2, "two of three to be served again")


def test_rules_are_for_all_workers(net):
    for i in range(2):
        server(net, 7000 + i, f"server-{i}")
    with open(os.path.join(net.workdir, "rules.json"), "w", encoding="ascii") as f:
        f.write('[{"port": "7000-7001", "action": "kernel"}]')
    net.tool("rules", "set", f.name)
    proof = net.proof()
    assert ask(net, 7000) == ask(net, 7001) == "HELLO"
    proof.kernel(tcp=6)
    assert {p["rules"]["count"] for p in nstack.processes(net.server) if "attached" in p} == {1}


def test_ping_is_a_workers(net):
    """The main process has no stack: of whom it is asked for, one of the workers sends it."""
    until(lambda: len([p for p in nstack.processes(net.server) if "error" not in p]) == 3, "both workers to answer")
    pids = {w["pid"] for w in workers(net)}
    for pid in (net.daemons[net.server].pid, *pids):
        got = json.loads(net.tool("ping", "-c", "1", "-W", "10", "-p", str(pid), "--json", net.c4).stdout)
        assert got["received"] == 1 and got["pid"] in (pids & {pid} or pids), (pids, got)


def test_idle_costs_nothing(net):
    server(net, 7000)
    assert ask(net, 7000) == "HELLO"
    pids = [net.daemons[net.server].pid, *(w["pid"] for w in workers(net))]
    until(lambda: proc.sleeps(pids), "a second without a wake-up")
