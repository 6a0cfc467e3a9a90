# SPDX-License-Identifier: Apache-2.0
"""nstackd: who may attach, and the limits of those who do."""
import json
import os
import signal
import socket

import pytest

from lib import nstack
from lib.wait import until

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstack")

#: one connection after the other on each port; "wide" listens on all of them at once
SERVER = """
import selectors, socket, sys
sel = selectors.DefaultSelector()
for port in {ports}:
    s = socket.create_server(("{addr}", port))
    s.setblocking(False)
    sel.register(s, selectors.EVENT_READ, None)
print("up", flush=True)
while True:
    for key, _ in sel.select():
        try:
            if key.data is None:
                c, _ = key.fileobj.accept()
                sel.register(c, selectors.EVENT_READ, c)
            elif d := key.data.recv(65536):
                key.data.sendall(d.upper())
            else:
                sel.unregister(key.data)
                key.data.close()
        except BlockingIOError:
            pass
"""


def user(uid, gid=None, groups=""):
    return ["setpriv", f"--reuid={uid}", f"--regid={gid or uid}",
            f"--groups={groups}" if groups else "--clear-groups", "--no-new-privs", "--bounding-set=-all",
            "--inh-caps=-all"]


@pytest.fixture
def mode():
    return "daemon"


def daemon(net, access, **keys):
    return net.daemon(net.server, net.config(daemon={"access": access, **keys}))


def server(net, who, *ports, label=None):
    """A program of that user, up; whether it is served by the daemon is another matter."""
    code = SERVER.format(addr=net.s4, ports=ports)
    env = {**net.env(), **({"NSTACK_LABEL": label} if label else {})}
    p = net.server.spawn(who + nstack.run_argv([nstack.PYTHON, "-c", code]), f"server-{ports[0]}", env=env)
    p.wait_output("up")
    return p


def ask(net, port, text="hello"):
    return net.client.run(["nc", "-N", "-w5", net.s4, str(port)], input=text, check=False).stdout


def programs(net):
    """Those that are attached, and those that have ended and whose connections have not."""
    return [o for p in nstack.processes(net.server) for o in p.get("attached", [])]


def owned(net, *ports):
    return {p for p in ports if ("tcp", p) in nstack.claims(net.server)}


def by_kernel(net, port):
    """It is served, though not by the stack."""
    return ask(net, port) == "HELLO" and not owned(net, port)


def test_first_entry_that_fits_decides(net):
    """Users, groups (also supplementary ones), labels; root always may."""
    daemon(net, [{"user": "daemon", "label": "no", "allow": False}, {"user": "daemon"}, {"group": "games"},
                 {"label": "yes"}, {"allow": False}])
    for i, (who, label, may) in enumerate((
            (user("daemon"), None, True), (user("daemon"), "no", False), (user("nobody", "nogroup"), None, False),
            (user("nobody", "games"), None, True), (user("nobody", "nogroup", "mail,games"), None, True),
            (user("nobody", "nogroup"), "yes", True), (user("root"), "no", True))):
        port = 7000 + i
        server(net, who, port, label=label)
        if may:
            until(lambda port=port: owned(net, port), f"program {i} to be served by the stack")
        assert ask(net, port) == "HELLO", i
        assert bool(owned(net, port)) == may, i


def test_a_refusal_has_a_reason(net):
    daemon(net, [{"user": "nobody", "allow": False}])
    p = server(net, user("nobody", "nogroup"), 7000, label="web")
    assert ask(net, 7000) == "HELLO"
    out = nstack.tool(net.server, "doctor", check=False).stdout
    assert "user 65534, label web may not attach" in out
    assert "user 65534, label web may not attach" in net.logs()
    (d,) = [x for x in nstack.processes(net.server) if x["program"] == "nstackd"]
    assert d["refused"] >= 1
    p.stop()


def test_doctor_for_users_without_privilege(net):
    """Where a daemon serves them they need none; where it does not want them it says so."""
    daemon(net, [{"user": "daemon", "allow": False}])
    found = nstack.findings(net.server, user("nobody", "nogroup"))
    assert found["model"][0] == "ok" and "nstackd" in found["model"][1]
    assert not [x for x in found.values() if x[0] == "fail"], found
    assert "capabilities" not in found
    found = nstack.findings(net.server, user("daemon"))
    assert found["model"][0] == "fail" and "may not attach" in found["model"][1]


def test_programs_of_a_user(net):
    """Two at once; who ends makes room."""
    daemon(net, [{"user": "daemon", "per": "user", "programs": 2}])
    first = server(net, user("daemon"), 7000)
    server(net, user("daemon"), 7001)
    until(lambda: owned(net, 7000, 7001) == {7000, 7001}, "both to be served")
    server(net, user("daemon"), 7002)
    server(net, user("nobody", "nogroup"), 7003)
    until(lambda: owned(net, 7003), "another user's to be served")
    assert by_kernel(net, 7002)
    assert nstack.alarms(net.server)["limit_met"]
    assert "limit_met" in str(nstack.findings(net.server))
    first.stop()
    until(lambda: not nstack.alarms(net.server)["limit_met"], "there to be room again")
    assert not owned(net, 7000)
    server(net, user("daemon"), 7004)
    until(lambda: owned(net, 7004), "the next one to be served")


def test_sockets(net):
    """What is beyond the limit is served by the kernel; what is closed makes room; a label's programs share."""
    daemon(net, [{"label": "small", "per": "label", "sockets": 3}])
    server(net, user("daemon"), 7000, 7001, label="small")
    until(lambda: owned(net, 7000, 7001) == {7000, 7001}, "both listeners to be served")
    p = server(net, user("nobody", "nogroup"), 7002, 7003, label="small")
    until(lambda: owned(net, 7002), "the third one to be served")
    assert not owned(net, 7003)
    assert ask(net, 7003) == "HELLO"
    (d,) = [x for x in nstack.processes(net.server) if x["program"] == "nstackd"]
    assert d["sessions_used"] == 3 and {o["label"] for o in programs(net)} == {"small"}
    assert ", label small: running" in net.tool("status").stdout
    assert "limit" in {r["name"] for q in nstack.processes(net.server) for r in q.get("kernel_reasons", [])}
    p.stop()
    until(lambda: not owned(net, 7002), "its end")
    for _ in range(3):
        assert ask(net, 7000) == "HELLO" # one connection at a time has room


def test_room_is_used(net):
    """A listener that was beyond the limit is taken up when there is room, without the program's doing."""
    daemon(net, [{"per": "entry", "sockets": 1}])
    first = server(net, user("daemon"), 7000)
    until(lambda: owned(net, 7000), "the first one to be served")
    server(net, user("daemon"), 7001)
    assert by_kernel(net, 7001)
    first.stop()
    until(lambda: owned(net, 7001), "the second one to be served")


def test_ports(net):
    daemon(net, [{"ports": 2}])
    server(net, user("daemon"), 7000, 7001, 7002)
    until(lambda: len(owned(net, 7000, 7001, 7002)) == 2, "two of three to be claimed")
    for port in 7000, 7001, 7002:
        assert ask(net, port) == "HELLO"
    server(net, user("daemon"), 7003)
    until(lambda: owned(net, 7003), "another program's to be claimed: the limit is for each")


def test_memory(net):
    """Buffers that hold something count; who is beyond has no further socket of the stack."""
    daemon(net, [{"per": "entry", "memory": "1M"}])
    server(net, user("daemon"), 7000)
    until(lambda: owned(net, 7000), "the first one to be served")
    code = f"""
import socket, time
s = socket.create_server(("{net.s4}", 7001))
print("up", flush=True)
c, _ = s.accept()
time.sleep(1000)
"""
    hoarder = net.server.spawn(user("daemon") + nstack.run_argv([nstack.PYTHON, "-c", code]), "hoarder", env=net.env())
    hoarder.wait_output("up")
    until(lambda: owned(net, 7001), "the second one to be served")
    net.client.spawn([nstack.PYTHON, "-c", f"""
import socket, time
c = socket.create_connection(("{net.s4}", 7001))
c.settimeout(2)
try:
    while True: c.sendall(bytes(65536))
except TimeoutError:
    pass
print("full", flush=True)
time.sleep(1000)
"""], "sender").wait_output("full")
    server(net, user("daemon"), 7002)
    assert by_kernel(net, 7002)
    assert "limit of 1048576 bytes of memory" in net.logs()
    assert nstack.alarms(net.server)["limit_met"]
    hoarder.stop()
    until(lambda: owned(net, 7002), "there to be room again")
    until(lambda: not nstack.alarms(net.server)["limit_met"], "the end of the alarm")


@pytest.mark.parametrize("access, words", [
    ([{"uesr": "x"}], 'unknown key "uesr"'), ([{"label": "a b"}], '"label" must have'), ({}, "must be a list"),
    ([{"per": "host"}], '"per" must be'), ([{"sockets": 0}], "whole number from 1 on"), ([{"memory": "1X"}], "bytes"),
    ([{"allow": 1}], '"allow" must be'), ([7], "an entry is an object"), ([{"user": "x" * 40}], "at most 32"),
])
def test_what_is_wrong_is_said(net, access, words):
    r = net.server.run([nstack.DAEMON, "--config", net.config(daemon={"access": access})], check=False)
    assert r.returncode == 1 and "nstack-1.json:1:" in r.stderr and words in r.stderr, r


def test_workers_that_are_wrong(net):
    for value in (0, 17, [], [-1], "two", list(range(17))):
        r = net.server.run([nstack.DAEMON, "--config", net.config(daemon={"workers": value})], check=False)
        assert r.returncode == 1 and "daemon.workers" in r.stderr, json.dumps(value)


def test_who_says_nothing_keeps_nobody_out(net):
    """More silent connections than there is room for, and some that talk nonsense."""
    daemon(net, [])
    silent = []
    for i in range(300):
        with net.server.inside():
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            s.connect("\0nstackd")
        silent.append(s)
        if i % 3 == 0:
            try:
                s.send(b"x" * (i * 17 % 5000))
            except (BrokenPipeError, ConnectionResetError):
                pass
    server(net, user("daemon"), 7000)
    until(lambda: owned(net, 7000), "the program to be served")
    assert ask(net, 7000) == "HELLO"
    (d,) = [x for x in nstack.processes(net.server) if x["program"] == "nstackd"]
    assert 0 < d["waiting"] <= 64
    for s in silent:
        s.close()
    until(lambda: next(x for x in nstack.processes(net.server) if x["program"] == "nstackd")["waiting"] == 0,
          "all of them to be gone")


# --- what it is told while it runs ---------------------------------------------------------------

def config(net, **keys):
    """The configuration that the daemon was started with, changed."""
    with open(os.path.join(net.workdir, "nstack-1.json"), "w", encoding="utf8") as f:
        json.dump(keys, f)


def told(net, p, words, **keys):
    """SIGHUP with another configuration, and what it says of it."""
    config(net, **keys)
    os.kill(p.pid, signal.SIGHUP)
    until(lambda: words in net.logs(), f"\"{words}\" in the log")


@pytest.mark.parametrize("workers", [1, 2])
def test_configuration_again(net, workers):
    """Rules, access and the log's level change at once; the rest is named; a mistake changes nothing."""
    base = {"daemon": {"workers": workers}}
    d = net.daemon(net.server, net.config(**base))
    server(net, user("daemon"), 7000)
    until(lambda: owned(net, 7000), "the first one to be served")
    with net.client.inside():
        c = socket.create_connection((net.s4, 7000), 5)
    c.sendall(b"x")
    assert c.recv(10) == b"X"

    told(net, d, "everything stays as it was", **base, spin=1)
    assert nstack.alarms(net.server)["config_refused"]
    proof = net.proof()
    assert ask(net, 7000) == "HELLO"
    proof.user_stack(tcp=3)

    told(net, d, "until the next start: frames, stacks", **base, frames=1024,
         stacks=[{"name": "more", "library": "libmore.so", "deploy": 3}], rules=[{"port": "7000", "action": "kernel"}], log={"level": "INF"})
    until(lambda: "was read again" in net.logs(), "the new level")
    assert not nstack.alarms(net.server)["config_refused"]
    until(lambda: all(p["rules"]["count"] == 1 for p in nstack.processes(net.server) if "attached" in p), "the rule")
    proof = net.proof()
    assert ask(net, 7000) == "HELLO"
    proof.kernel()
    c.sendall(b"y") # stays where it was
    assert c.recv(10) == b"Y"
    c.close()

    config(net, daemon={"workers": workers, "access": [{"user": "nobody", "allow": False}]})
    os.kill(d.pid, signal.SIGHUP)
    until(lambda: all(p["rules"]["count"] == 0 for p in nstack.processes(net.server) if "attached" in p), "no rule")
    server(net, user("nobody", "nogroup"), 7001)
    assert by_kernel(net, 7001)
    server(net, user("daemon"), 7002)
    until(lambda: owned(net, 7002), "another user's to be served")


def test_limits_change(net):
    d = daemon(net, [{"label": "small", "per": "label", "programs": 1}])
    server(net, user("daemon"), 7000, label="small")
    until(lambda: owned(net, 7000), "the first one to be served")
    server(net, user("daemon"), 7001, label="small")
    assert by_kernel(net, 7001)
    config(net, daemon={"access": [{"label": "small", "per": "label", "programs": 2}]}, log={"level": "INF"})
    os.kill(d.pid, signal.SIGHUP)
    until(lambda: "was read again" in net.logs(), "it to be read")
    server(net, user("daemon"), 7002, label="small")
    until(lambda: owned(net, 7002), "a second one to be served")
