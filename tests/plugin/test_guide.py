# SPDX-License-Identifier: Apache-2.0
"""docs/stack-author.md: its steps, as they are written there, against an installed nstack."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from lib import nstack

TOP = pathlib.Path(nstack.ROOT)
GUIDE = (TOP / "docs/stack-author.md").read_text()

pytestmark = pytest.mark.skipif("in_process" not in nstack.MODES or bool(nstack.SAN), reason="once is enough")


def block(language, n=0):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.S)[n]


@pytest.fixture
def installed(tmp_path):
    root = tmp_path / "root"
    subprocess.run(["make", "-C", TOP, f"O={nstack.BUILD}", "install", f"DESTDIR={root}", "prefix=/usr"], check=True,
                   capture_output=True, timeout=600)
    return root


def test_the_steps(installed, tmp_path):
    work = tmp_path / "work"
    shutil.copytree(TOP / "stacks/loop", work)
    (work / "loop.json").write_text(block("json"))
    (work / "hello.py").write_text(block("python"))
    env = {**os.environ, "PKG_CONFIG_LIBDIR": f"{installed}/usr/lib/pkgconfig", "PKG_CONFIG_SYSROOT_DIR": str(installed),
           "PATH": f"{installed}/usr/bin:/usr/bin:/bin", "NSTACK_LOG_ON": "INF",
           "NSTACK_APP_LOG_PATH": str(work)}
    subprocess.run(["sh", "-ec", block("sh")], cwd=work, env=env, check=True)
    # in a namespace without interfaces: the program's other sockets have nothing to steer
    r = subprocess.run(["unshare", "-n", "sh", "-ec", block("sh", 1)], cwd=work, env=env, capture_output=True,
                       text=True, timeout=60)
    assert r.returncode == 0 and r.stdout == "HELLO\n", r
    log = "".join(p.read_text() for p in work.glob("app_*.log"))
    assert 'stack "loop" is there' in log
    (work / "libnstack_loop.so").unlink()
    r = subprocess.run(["unshare", "-n", "sh", "-ec", block("sh", 1)], cwd=work, env=env, capture_output=True,
                       text=True, timeout=60)
    assert r.returncode and "HELLO" not in r.stdout
    log = "".join(p.read_text() for p in work.glob("app_*.log"))
    assert 'stack "loop" is not used' in log


def test_the_same_in_a_process_of_its_own(installed, tmp_path):
    shutil.copy(f"{nstack.BUILD}/libnstack_loop.so", tmp_path)
    (tmp_path / "loop.json").write_text(block("json"))
    (tmp_path / "hello.py").write_text(block("python"))
    env = {**os.environ, "PATH": f"{installed}/usr/bin:{installed}/usr/sbin:/usr/bin:/bin", "NSTACK_LOG_ON": "INF",
           "NSTACK_APP_LOG_PATH": str(tmp_path)}
    r = subprocess.run(["unshare", "-n", "sh", "-ec", block("sh", 2)], cwd=tmp_path, env=env, capture_output=True,
                       text=True, timeout=60)
    assert r.returncode == 0 and r.stdout == "HELLO\n", r
    assert 'stack "loop" is in process' in "".join(p.read_text() for p in tmp_path.glob("app_*.log"))


def test_what_it_says_of_rules(tmp_path):
    (tmp_path / "loop.rules").write_text(re.search(r'"rules": (\[.*?\n  \])', block("json"), re.S)[1])
    r = subprocess.run([nstack.TOOL, "rules", "explain", "tcp", "198.18.77.1:7", "--file", "loop.rules"], cwd=tmp_path,
                       capture_output=True, text=True, check=True)
    assert "loop" in r.stdout
