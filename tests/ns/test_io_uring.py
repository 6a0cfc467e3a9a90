# SPDX-License-Identifier: Apache-2.0
"""Programs that use io_uring work: their sockets are the kernel's, from the start or by handover."""
import json
import os
import subprocess

import pytest

from lib import nstack, wait

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstack")

LINKED = {"shared": ["-luring"], "static": ["-Wl,-Bstatic", "-luring", "-Wl,-Bdynamic"]}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    made = {}
    for name, libs in LINKED.items():
        made[name] = str(tmp_path_factory.mktemp("uring") / f"uring-{name}")
        subprocess.run(["gcc", "-O2", "-o", made[name], os.path.join(os.path.dirname(__file__), "progs", "uring.c"),
                        *libs], check=True)
    return made


@pytest.mark.parametrize("how", ["init", "raw"])
@pytest.mark.parametrize("when", ["early", "late", "accept"])
@pytest.mark.parametrize("linked", LINKED)
def test_server(net, programs, linked, when, how):
    p = net.server.spawn(net.argv([programs[linked], "server", when, how, "0.0.0.0", "7000"]), "server", env=net.env())
    wait.until(lambda: net.server.listening(7000), "the server")
    proof = net.proof()
    peer = "late" if when == "late" else "early"
    r = net.client.run([programs["shared"], "client", peer, "init", net.s4, "7000"], timeout=15)
    assert r.stdout == "ok\n"
    p.ok(10)
    assert "ended with 0" in p.stdout()
    if when != "late" or linked == "static":
        proof.kernel()


@pytest.mark.parametrize("how", ["init", "raw"])
@pytest.mark.parametrize("when", ["early", "late"])
@pytest.mark.parametrize("linked", LINKED)
def test_client(net, programs, linked, when, how):
    net.tool("load", net.cif, side=net.client)
    s = net.server.spawn([programs["shared"], "server", when, "init", "0.0.0.0", "7000"], "server")
    wait.until(lambda: net.server.listening(7000), "the server")
    r = net.client.run(net.argv([programs[linked], "client", when, how, net.s4, "7000"], side=net.client), env=net.env(),
                       timeout=15)
    assert r.stdout == "ok\n"
    s.ok(10)
    # before the ring was there, the stack had the connection; a static liburing is never heard of
    assert bool(nstack.redirected(net.client)) == (when == "late" and linked == "shared")


def test_the_reason_is_told(net, programs):
    p = net.server.spawn(net.argv([programs["shared"], "server", "late", "init", "0.0.0.0", "7000"]), "server",
                         env=net.env())
    wait.until(lambda: ("tcp", 7000) in nstack.claims(net.server), "the server")
    cli = net.client.spawn(["socat", "-", "TCP:" + net.s4 + ":7000"], "socat", stdin="pipe")
    cli.popen.stdin.write(b"first\n")
    cli.popen.stdin.flush()
    wait.until(lambda: "first" in cli.stdout(), "the echo")
    wait.until(lambda: [s["reason"] for s in nstack.sockets(net.server) if s["state"] == "ESTAB"] == ["io_uring"],
               "the connection to be the kernel's")
    assert not nstack.claims(net.server)
    (me,) = [x for x in nstack.processes(net.server) if x["pid"] == p.pid]
    assert "io_uring" in {r["name"] for r in me["kernel_reasons"]}, json.dumps(me)
    cli.popen.stdin.write(b"second\n")
    cli.popen.stdin.flush()
    wait.until(lambda: "second" in cli.stdout(), "the echo")
    cli.popen.stdin.close()
    p.ok(10)
    cli.ok(10)
