# SPDX-License-Identifier: Apache-2.0
"""A stack that was written by the DMM manual alone: it works, and every hook is called when the manual says so."""
import re

import pytest

from lib import nstack
from test_plugin import NAMESPACE, PROGS, build, config, rules_for, run

pytestmark = pytest.mark.skipif("in_process" not in nstack.MODES or bool(nstack.SAN), reason="once is enough")
IN, OUT = 0x1, 0x4


class Log:
    """What the processes called, in their order: [(who, mark, [hook and values])]; who: 0, 1 forked."""

    def __init__(self, text):
        self.text, self.calls, at = text, [], None
        for line in text.splitlines():
            if m := re.match(r"mark (.*)", line):
                at = m[1]
            elif m := re.match(r"hook (\d) (.*)", line):
                self.calls.append((int(m[1]), at, m[2].split()))

    def of(self, name, mark=None, who=0):
        """Values of the calls of one hook, since a mark."""
        return [c[1:] for w, m, c in self.calls if c[0] == name and w == who and mark in (None, m)]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    lib = build(tmp_path_factory.mktemp("manual"), "from_manual.c", flags=["-Wno-missing-prototypes", f"-L{nstack.BUILD}",
                                                                          "-lnStackAdapt"])
    r = run([nstack.PYTHON, PROGS / "from_manual.py"], config(
        [{"name": "stackx", "library": lib, "ep_free_ref": True}], rules_for("stackx")), prefix=NAMESPACE)
    return Log(r.stderr)


@pytest.fixture
def numbers(log):
    """The stack's own numbers of ls, c, s, d, e: in the order in which it gave them."""
    every = sorted({int(c[0]) for c in log.of("fork_parent_fd")})
    assert len(every) == 5, log.text
    return every


def test_start(log):
    first = [c for _, m, c in log.calls if m == "socket"]
    assert first[:2] == [["register", "found"], ["module_init", "recycle", "1", "1"]], log.text


def test_epoll_hooks(log, numbers):
    ls = str(numbers[0])
    (add,) = log.of("ep_ctl", "add")
    assert add[1:3] == [ls, "0"] and int(add[3], 16) & (IN | OUT) == IN and add[4] == "new", add
    assert add[0] != "-1"
    (mod,), (gone,) = log.of("ep_ctl", "mod"), log.of("ep_ctl", "del")
    assert mod[:3] == [add[0], ls, "1"] and int(mod[3], 16) & (IN | OUT) == IN | OUT and mod[4] == "same"
    assert gone[:3] == [add[0], ls, "2"] and gone[4] == "same"
    assert [add[0]] in log.of("ep_prewait_proc", "quiet")
    # the stack tells, is asked whether it is so, and asked again when it was taken
    told = [c for w, m, c in log.calls if m == "connect" and c[0] in ("event", "ep_getevt")]
    assert ["event", "1"] in told, log.text
    assert ["ep_getevt", ls, "1"] in told[told.index(["event", "1"]):]
    assert log.of("ep_getevt", "none left")[-1] == [ls, "0"]


def test_select_and_peak(log, numbers):
    c = str(numbers[1])
    assert any(x[0] == c and int(x[1], 16) & IN for x in log.of("ep_getevt", "select")), log.text
    assert log.of("peak", "peak") == [[c]]


def test_fork_hooks(log, numbers):
    names = [str(n) for n in numbers]
    calls = [(w, c) for w, m, c in log.calls if m == "fork" and c[0].startswith("fork_")]
    before = [c for w, c in calls if w == 0]
    child = [c for w, c in calls if w == 1]
    # in the parent one reference more for each, before there is a child; then the child: itself, then each
    assert sorted(before) == [["fork_parent_fd", n, "1", "refs", "2"] for n in names], log.text
    assert [w for w, _ in calls] == [0] * 5 + [1] * 6
    assert child[0] == ["fork_init_child", "1", "1"]
    assert sorted(child[1:]) == [["fork_child_fd", n, "1", "1"] for n in names]


def test_references_balance(log, numbers):
    ls, c, s, d, e = map(str, numbers)
    # the child: close() of what is inherited by exec, fork_free_fd() instead of what is not
    ends = {x[0]: x[2] for x in log.of("close", who=1)}
    freed = {x[0]: x[4] for x in log.of("fork_free_fd", who=1)}
    assert set(ends) == {c, s} and set(freed) == {ls, d, e}, log.text
    assert [x[0] for x in log.of("close", "child closes", 1)] == [c]
    assert [x[0] for x in log.of("fork_free_fd", "child closes cloexec", 1)] == [d]
    assert set(ends.values()) | set(freed.values()) == {"1"}, "the parent has one reference to each"
    last = {x[0]: x[2] for x in log.of("close")}
    assert last == dict.fromkeys((ls, c, s, d, e), "0"), log.text
    assert [x[0] for x in log.of("close", "close")] == [c], "the others at the program's end"


def test_records_are_freed_by_the_stack(log):
    """ep_free_ref: once, by nsep_force_epinfo_free(), for each socket that had been told to ep_ctl."""
    told = {(w, c[2]) for w, _, c in log.calls if c[0] == "ep_ctl"}
    freed = {(w, c[1]) for w, _, c in log.calls if c[0] == "close" and c[5] == "1"}
    assert freed == {(w, s) for w, s in told if any(x[0] == s for x in log.of("close", who=w))}, log.text
