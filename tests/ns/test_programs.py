# SPDX-License-Identifier: Apache-2.0
"""Programs that cannot be intercepted run on the kernel, and nstack says why."""
import json
import os
import shutil
import subprocess

import pytest

from lib import apps, nstack, wait

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstack run")

STATIC = r"""
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>
int main(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(7000) };
	int lst = socket(AF_INET, SOCK_STREAM, 0), fd;
	if (bind(lst, (void *)&a, sizeof(a)) || listen(lst, 8))
		return 1;
	fd = accept(lst, NULL, NULL);
	return write(fd, "static\n", 7) != 7;
}
"""


@pytest.fixture
def static(tmp_path):
    (tmp_path / "s.c").write_text(STATIC)
    exe = str(tmp_path / "static")
    subprocess.run(["gcc", "-static", "-o", exe, tmp_path / "s.c"], check=True)
    return exe


def said(p):
    return [x for x in p.stderr().splitlines() if x.startswith("nstack:")]


def test_a_static_server(net, static):
    p = net.server.spawn(net.argv([static]), "static", env=net.env())
    wait.until(lambda: net.server.listening(7000), "the server")
    got = net.client.run(["socat", "-u", f"TCP:{net.s4}:7000", "-"]).stdout
    assert got == "static\n"
    p.ok(10)
    assert said(p) == [f"nstack: running on the kernel: {static} is statically linked, which leaves no place for "
                       "a preload library"]


def test_a_go_server(net, tmp_path):
    """Debian's webhook is linked with libc, so the library is there, but Go does without."""
    hooks = tmp_path / "hooks.json"
    hooks.write_text(json.dumps([{"id": "hi", "execute-command": "/bin/true", "response-message": "from go"}]))
    p = net.serve(["webhook", "-hooks", str(hooks), "-port", "9000", "-ip", "0.0.0.0"], "webhook", tcp=[9000],
                  owned=False)
    proof = net.proof()
    assert apps.curl(net.client, f"http://{net.s4}:9000/hooks/hi") == "from go"
    proof.kernel()
    (line,) = said(p)
    assert "webhook is a Go program" in line
    (me,) = [x for x in nstack.processes(net.server) if x["pid"] == p.pid]
    assert not me["running"] and "Go program" in me["fallback"], me
    assert [r["name"] for r in me["kernel_reasons"]] == ["go_runtime"]
    (s,) = [s for s in nstack.sockets(net.server) if s["state"] == "LISTEN"]
    assert s["reason"] == "go_runtime" and s["stack"] == "kernel" and s["local"].endswith(":9000"), s


def test_a_go_program_as_a_child(net):
    """Started by a program under nstack: the library finds out by itself."""
    r = net.server.run(net.argv(["sh", "-c", "webhook -version"]), env=net.env())
    assert "webhook version" in r.stdout and not r.stderr
    assert "a Go program" in net.logs()


def script(path, first):
    path.write_text(first + "\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("first,says", [
    ("#!/usr/bin/webhook -version", "is a Go program"),
    ("#!/usr/bin/env -S LANG=C webhook -version", "is a Go program"),
    ("#!/bin/sh", None), ("#!", None), ("", None), ("#!/nonexistent", None)])
def test_doctor_follows_scripts(tmp_path, first, says):
    found = doctor(script(tmp_path / "script", first))
    assert (says in found["detail"] and found["verdict"] == "fail") if says else \
        "uses the C library" in found["detail"] or "No such file" in found["detail"], found


def doctor(program, *prefix):
    r = subprocess.run([*prefix, nstack.TOOL, "doctor", "--json", "--", program], capture_output=True, text=True,
                       check=False)
    (f,) = [c for c in json.loads(r.stdout)["checks"] if c["check"].startswith("program ")]
    assert r.returncode or f["verdict"] != "fail"
    return f


def test_doctor(static, tmp_path):
    assert "statically linked" in doctor(static)["detail"]
    assert "is a Go program" in doctor("webhook")["detail"]
    assert doctor("redis-server")["verdict"] == "ok"
    assert doctor("no-such-program")["verdict"] == "fail"


def test_doctor_on_files_that_are_none(tmp_path):
    """Cut or damaged files: exec will judge them; looking must not hurt."""
    whole = open("/usr/bin/webhook", "rb").read(4096)
    for n in (0, 1, 3, 4, 63, 64, 100, 600, 1000):
        (tmp_path / "cut").write_bytes(whole[:n])
        os.chmod(tmp_path / "cut", 0o755)
        doctor(str(tmp_path / "cut"))
    for at in range(4, 1000, 3):
        (tmp_path / "bent").write_bytes(whole[:at] + b"\xff\xff\xff\xff" + whole[at + 4:])
        os.chmod(tmp_path / "bent", 0o755)
        doctor(str(tmp_path / "bent"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_doctor_knows_of_set_user_id(tmp_path):
    exe = shutil.copy("/bin/true", "/tmp/nstack-setuid-true")
    try:
        os.chmod(exe, 0o4755)
        found = doctor(exe, "setpriv", "--reuid=65534", "--clear-groups")
        assert "LD_PRELOAD" in found["detail"], found
        assert doctor(exe)["verdict"] == "ok"  # root is root already
    finally:
        os.unlink(exe)
