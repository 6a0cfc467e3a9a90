# SPDX-License-Identifier: Apache-2.0
"""nstack set, nstack rules reload: what a running process is told to do otherwise, and the log of it."""
import json
import os
import re
import socket

import pytest

from lib import nstack
from lib.wait import until

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="nothing of ours to test")

BYE = """
import socket
s = socket.create_server(("{addr}", 7000))
while True:
    s.accept()[0].close()
"""


@pytest.fixture
def server(net):
    return net.serve([nstack.PYTHON, "-c", BYE.format(addr=net.s4)], "server", tcp=[7000])


def stack(net):
    """The pid of the process that has the stack."""
    (p,) = [x["pid"] for x in nstack.processes(net.server) if x["running"] and not x.get("daemon")]
    return str(p)


def values(net, pid):
    return {k["name"]: k["value"] for k in nstack.tool_json(net.server, "set", pid)}


def test_values_are_shown_and_changed(net, server):
    pid = stack(net)
    before = values(net, pid)
    assert before["tcp.syn_cookies"] is True and before["log.level"] is None
    spin = "daemon.spin_us" if net.mode == "daemon" else "spin_us"
    net.tool("set", f"{spin}=20", "tcp.syn_cookies=false", "log.level=INF")
    assert values(net, pid) == {**before, spin: 20, "tcp.syn_cookies": False, "log.level": "INF"}
    assert set(nstack.tool_json(net.server, "log", "--levels", pid).values()) == {"INF"}
    assert f"{spin} = 20\n" in net.tool("set", pid).stdout


def test_a_program_has_keys_of_its_own(net, server):
    text = net.tool("set", str(server.pid)).stdout
    assert "spin_us = 0\n" in text and "0..1000000 us" in text and "daemon." not in text
    net.tool("set", "--all", "spin_us=30", "congestion=reno")
    got = values(net, str(server.pid))
    assert got["spin_us"] == 30 and got["congestion"] == "reno"


WRONG = {
    "spin_us=1000001": "between 0 and 1000000", "spin_us=fast": "whole number", "tcp.syn_cookies=3": "true or false",
    "congestion=bbr9": "cubic, reno", "log.level=LOUD": "LOUD", "frames=1024": "only when the program starts",
    "spin=1": "spin_us", "rules=/nowhere": "/nowhere",
}


def test_wrong_values(net, server):
    """Nothing is changed, not even what is right."""
    pid = stack(net)
    before = values(net, pid)
    for setting, words in WRONG.items():
        r = net.tool("set", pid, "tcp.time_wait_max=7", setting, check=False)
        assert r.returncode == 1 and words in r.stderr, r
    assert values(net, pid) == before


def test_a_limit_has_effect_at_once(net, server):
    def full():
        return nstack.stack_counters(net.server)["tcp_timewait_full"]

    def connections(n):
        before = nstack.stack_counters(net.server)["tcp_timewait"]
        with net.client.inside():
            for _ in range(n):
                with socket.create_connection((net.s4, 7000), 5) as c:
                    assert c.recv(1) == b""
        until(lambda: nstack.stack_counters(net.server)["tcp_timewait"] == before + n, "TIME_WAIT")
    connections(5)
    assert full() == 0
    net.tool("set", stack(net), "tcp.time_wait_max=2")
    assert full() == 3, "the oldest go"
    connections(2)
    assert full() == 5
    net.tool("set", stack(net), "tcp.time_wait_max=0")
    connections(4)
    assert full() == 5


def test_rules_are_read_again(net):
    path = os.path.join(net.workdir, "rules.json")

    def rules(*ports):
        with open(path, "w", encoding="utf8") as f:
            json.dump([{"port": p, "action": "kernel"} for p in ports], f)
    rules(80)
    net.serve([nstack.PYTHON, "-c", BYE.format(addr=net.s4)], "server", tcp=[7000], config={"rules": path})
    assert "1 rule" in net.tool("rules").stdout
    rules(80, 81, 82)
    net.tool("rules", "reload", stack(net))
    assert "3 rule" in net.tool("rules").stdout
    with open(path, "w", encoding="utf8") as f:
        f.write("[ { ] ")
    r = net.tool("rules", "reload", stack(net), check=False)
    assert r.returncode == 1 and "old rules stay" in r.stderr
    assert "3 rule" in net.tool("rules").stdout


def test_reload_without_a_rule_file(net, server):
    r = net.tool("rules", "reload", stack(net), check=False)
    assert r.returncode == 1 and "names no rule file" in r.stderr


def log(net, name):
    with open(os.path.join(net.workdir, name), encoding="utf8") as f:
        return f.read()


def test_who_did_what(net):
    """A daemon's operation is in a log of its own; a program's is in the program's, if it logs so much."""
    server = net.serve([nstack.PYTHON, "-c", BYE.format(addr=net.s4)], "server", tcp=[7000],
                       config={"log": {"level": "INF"}})
    net.tool("set", stack(net), "tcp.time_wait_max=3")
    net.tool("log", "--level", "WAR", "--module", "STACKX", stack(net))
    name = "operation.log" if net.mode == "daemon" else f"app_python3_{server.pid}.log"
    text = log(net, name)
    assert re.search(r'INF operation\[%s\] set {"tcp":{"time_wait_max":3}} \(asked by process \d+, user 0\)' % stack(net), text)
    assert re.search(r"INF operation.*log level WAR of stack \(asked by", text)
    if net.mode == "daemon":
        assert "ready for" in text and "is attached" in log(net, "running.log")
        assert " operation[" not in log(net, "running.log")


def test_log_lines_are_chosen(net):
    net.serve([nstack.PYTHON, "-c", BYE.format(addr=net.s4)], "server", tcp=[7000], config={"log": {"level": "DBG"}})
    pid = stack(net)
    net.tool("set", pid, "tcp.time_wait_max=3")
    lines = nstack.tool_json(net.server, "log", pid)
    assert {"time", "level", "module", "pid", "text"} == set(lines[0]) and len({x["module"] for x in lines}) > 1
    assert [x["time"] for x in lines] == sorted(x["time"] for x in lines)
    ours = nstack.tool_json(net.server, "log", "--module", "operation", pid)
    assert [x for x in lines if x["module"] == "operation"] == ours
    assert ours[-1]["text"].startswith('set {"tcp":{"time_wait_max":3}}') and ours[-1]["pid"] == int(pid)
    assert not [x for x in nstack.tool_json(net.server, "log", "-s", "WAR", pid) if x["level"] in ("INF", "DBG")]
    assert ours[-1]["text"] in net.tool("log", "-m", "OPERATION", pid).stdout


def test_workers_are_one_daemon(net):
    """What is set is set in all of them, and their lines are in one log."""
    if net.mode != "daemon":
        pytest.skip("about nstackd")
    net.daemon(net.server, net.config(daemon={"workers": 2}, log={"level": "INF"}))
    workers = [x["pid"] for x in nstack.processes(net.server) if x.get("programs_max")]
    assert len(workers) == 2
    net.tool("set", "tcp.time_wait_max=9")
    assert [values(net, str(w))["tcp.time_wait_max"] for w in workers] == [9, 9]
    net.tool("log", "--level", "WAR")
    assert all(set(nstack.tool_json(net.server, "log", "--levels", str(w)).values()) == {"WAR"} for w in workers)
    lines = nstack.tool_json(net.server, "log")
    assert {x["pid"] for x in lines} == {net.daemon(net.server).pid, *workers}
    assert sum('"time_wait_max":9' in x["text"] for x in lines) == 2
    stacks = json.loads(net.tool("top", "-v", "stacks", "-n", "1", "-d", "0.1", "--json").stdout)["stacks"]
    assert {(x["pid"], x["process"]) for x in stacks} == {(w, f"nstackd-{i}") for i, w in enumerate(sorted(workers))}
