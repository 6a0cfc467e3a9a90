# SPDX-License-Identifier: Apache-2.0
"""The event calls of nsocket/ev_*.c alone, over sockets of the kernel (ev_stub.c): the oracle's
scenarios have to give what they give without the library. What they give with a real stack is
tests/oracle's business."""
import fnmatch
import os
import subprocess
import sys

import pytest

from lib import nstack

sys.path.insert(0, os.path.join(nstack.ROOT, "tests", "oracle"))
import oracle  # noqa: E402

STUB = os.path.join(nstack.BUILD, "tests/events/ev_stub.so")
GROUPS = ["epoll", "poll", "select", "threads"]
#: what the stand-in can't show, and why
SKIP = {
    "kernel": {
        "depth_*": "every socket has a kernel half, which takes a level",
        "forked_*.the child took*": "an intended difference",
        "exclusive*": "threads sleep in poll() on their sets, which wakes all of them",
        "set_changes_*.data after the set was closed": "kernel halves are found by the set's number",
    },
    "user": {
        "forked_*.the child took*": "an intended difference",
        "edge_*": "its thread reports what is ready, not what has changed",
        "fair_*": "it needs a second descriptor for each socket, past the limit",
        "exclusive*": "each report of its thread is a new one",
        "reuse_*.two members*": "its thread looks at one member after the other, and reports in that order",
        "order_*": "as before",
    },
}


def play(workdir, number, group, env):
    """Both sides on the loopback addresses; {side: what it recorded}"""
    procs = {}
    channel = os.path.join(workdir, f"channel{number}")
    for side in ("server", "client"):
        argv = [oracle.PROGRAM, side, group, "4", str(number), channel, "127.0.0.1", "::1",
                "127.0.0.2", "::1", "lo"]
        procs[side] = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True,
                                       env={**os.environ, **env})
    try:
        return {side: oracle.Side(p.communicate(timeout=150)[0], p.returncode)
                for side, p in procs.items()}
    finally:
        for p in procs.values():
            p.kill()
            p.wait()


@pytest.mark.skipif(bool(nstack.SAN), reason="the stand-in is not built for sanitizers' runtimes")
@pytest.mark.parametrize("half", ["kernel", "user"])
@pytest.mark.parametrize("group", GROUPS)
def test_without_a_stack(tmp_path, group, half):
    """By the kernel half of each socket, and by notification."""
    want = play(tmp_path, 0, group, {})
    got = play(tmp_path, 1, group, {"EV_STUB": half, "LD_PRELOAD": STUB})
    wrong = []
    for side in ("server", "client"):
        assert not want[side].problem, f"on the kernel, {side}: {want[side].problem}"
        assert len(want[side].records) > 20
        if got[side].problem:
            wrong.append(f"{side}: {got[side].problem}")
        for label, text in want[side].records.items():
            have = got[side].records.get(label, "missing")
            if have != text and not any(fnmatch.fnmatchcase(label, p) for p in SKIP[half]):
                wrong.append(f"{side} {label}: {have}; the kernel: {text}")
    assert not wrong, "\n".join(wrong)
