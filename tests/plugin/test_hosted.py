# SPDX-License-Identifier: Apache-2.0
"""Stacks of deploy type 3: in a process of their own, which serves other programs by nstack's link.

The stack process is progs/stackd.c, written from the DMM manual.
"""
import json
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess

import pytest

from lib import faults, netns, nstack, wait

HERE = pathlib.Path(__file__).parent
PROGS = HERE / "progs"
LOOP = os.path.join(nstack.BUILD, "libnstack_loop.so")
KERNEL = os.path.join(nstack.BUILD, "libnstack_kernel.so")
NETS = ["198.18.77.0/24", "2001:db8:77::/48"]
MAIN, APP, CTRL, TOOLS, ALARM = range(1, 6)

pytestmark = pytest.mark.skipif("in_process" not in nstack.MODES or bool(nstack.SAN),
                                reason="once is enough; the stacks are not instrumented")


def stack(name, library, **kw):
    return {"name": name, "library": library, "deploy": 3, **kw}


LOOP3 = stack("loop", LOOP)
KERNEL3 = stack("k3", KERNEL, register="kernel_stack_register")


def environment(*stacks):
    rules = [{side: net, "action": s["name"]} for s in stacks for net in NETS for side in ("remote", "local")]
    return {"NSTACK_CONFIG": json.dumps({"interfaces": ["none0"], "load": False, "stacks": stacks, "rules": rules}),
            "NSTACK_LOG_ON": "INF", "NSTACK_LOG_FILE_FLAG": "0"}


@pytest.fixture(scope="session")
def stackd(tmp_path_factory):
    """The stack process, built as the manual's readers build theirs."""
    out = tmp_path_factory.mktemp("stackd") / "stackd"
    subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-o", out,
                    f"-I{nstack.ROOT}/include", f"-I{nstack.BUILD}/include", PROGS / "stackd.c",
                    f"-L{nstack.BUILD}", "-lnStackAdapt", f"-Wl,-rpath,{nstack.BUILD}"], check=True)
    return out


class Place:
    """A network namespace with a stack process in it."""

    def __init__(self, ns, stackd):
        self.ns, self.stackd = ns, stackd

    def start(self, env, *args, prefix=()):
        p = self.ns.spawn([*prefix, self.stackd, *(args or (MAIN, 3, 0, 0))], "stackd", env=env, stdin="pipe")
        p.wait_output(r"^-?\d+ \S+\n(?!.*again)" if len(args) < 5 else r"^-?\d+ \S+\n-?\d+ \S+\n", which="out")
        return p

    def python(self, source, env, *args, prefix=(), check=True):
        preload = {**env, "LD_PRELOAD": nstack.LIB}
        return self.ns.run([*prefix, "env", *(f"{k}={v}" for k, v in preload.items()), nstack.PYTHON, "-c", source,
                            *args], check=check)

    def spawn(self, source, env):
        return self.ns.spawn([nstack.PYTHON, "-u", "-c", source], "program",
                             env={**env, "LD_PRELOAD": nstack.LIB}, stdin="pipe")

    def open_files(self, p):
        return len(os.listdir(f"/proc/{p.pid}/fd"))


@pytest.fixture
def place(stackd, tmp_path):
    ns = netns.Namespace(f"{netns.PREFIX}{os.getpid()}-h", str(tmp_path))
    try:
        ns.run(["sh", "-c", "ip addr add 198.18.77.1/24 dev lo; ip addr add 2001:db8:77::1/48 dev lo nodad"])
        yield Place(ns, stackd)
    finally:
        ns.close()


@pytest.mark.parametrize("which", [LOOP3, KERNEL3], ids=["loop", "kernel"])
def test_same_calls_as_in_the_program(place, which):
    """All of progs/sockets.py; forks too, since the sockets are not the program's memory. By an ordinary user."""
    env = environment(which)
    host = place.start(env)
    before = place.open_files(host)
    r = place.python((PROGS / "sockets.py").read_text(), env, "follows", prefix=nstack.BARE)
    assert r.stdout == "all well\n", r.stderr
    assert f'stack "{which["name"]}" is in process {host.pid}' in r.stderr, r.stderr
    wait.until(lambda: place.open_files(host) <= before, "the host to have nothing of it left")


# --- roles -----------------------------------------------------------------------------------------

def status(text):
    return [tuple(line.split()) for line in text.splitlines()]


@pytest.mark.parametrize("args,answer", [
    ((0, 3, 0, 0), "EINVAL"), ((16, 3, 0, 0), "EINVAL"), ((6, 3, 0, 0), "EINVAL"), ((MAIN, 0, 0, 0), "EINVAL"),
    ((MAIN, 5, 0, 0), "EINVAL"), ((MAIN, 1, 0, 0), "-"), ((MAIN, 2, 0, 0), "-"), ((APP, 3, 0, 0), "-"),
    ((CTRL, 3, 0, 0), "-"), ((TOOLS, 3, 0, 0), "-"), ((ALARM, 3, 0, 0), "-"),
])
def test_roles(place, args, answer):
    r = place.ns.run([place.stackd, *args], env=environment(LOOP3), check=False)
    assert status(r.stdout) == [("0" if answer == "-" else "-1", answer)], r
    assert "serves programs" not in r.stderr
