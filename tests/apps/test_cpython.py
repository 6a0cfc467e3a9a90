# SPDX-License-Identifier: Apache-2.0
"""CPython's own tests of its socket modules: every case that passes plainly passes under nsocket.

Both runs at the same time, in a namespace each, with an interface on which the stack is active. The
connections are the program's to itself: the calls go through nsocket, the kernel serves them.
"""
import os
import xml.etree.ElementTree as xml

import pytest

PYTHON = "/usr/bin/python3.11"
PROG = os.path.join(os.path.dirname(__file__), "progs", "cpython.py")
QUICK = ["select", "epoll", "poll", "socketserver", "httplib", "ftplib", "socket"]
SLOW = ["selectors", "asyncio", "ssl"]
#: hangs on kernels whose vsock has no peer, without nstack too
IGNORE = ["-i", "*VSOCK*"]
FEWEST = {"epoll": 10, "poll": 7, "select": 6}


class Run:
    """One module in one namespace; cases picks some of its cases."""

    def __init__(self, net, ns, module, ours, host, cases=()):
        self.dir = os.path.join(net.workdir, f"{'nstack' if ours else 'plain'}-{module}-{len(cases)}")
        os.makedirs(self.dir)
        net.give(self.dir)
        self.xml = self.dir + "/result.xml"
        cmd = [PYTHON, PROG, "nstack" if ours and net.is_nstack else "plain", host or "-",
               "--junit-xml", self.xml, "--tempdir", self.dir, "-u", "network", *IGNORE]
        for case in cases:
            cmd += ["-m", case]
        cmd.append("test_" + module)
        self.proc = ns.spawn(net.argv(cmd, side=ns) if ours else net.user() + cmd, os.path.basename(self.dir),
                             env={**net.env(), "HOME": self.dir})

    def results(self):
        """{case: "pass", "skip" or "fail"}; a module that crashes has no results."""
        self.proc.wait(300)
        if not os.path.exists(self.xml):
            return {}
        out = {}
        for case in xml.parse(self.xml).getroot().iter("testcase"):
            bad = case.find("failure") is not None or case.find("error") is not None
            out[case.get("name")] = "fail" if bad else "skip" if case.find("skipped") is not None else "pass"
        return out


def compare(net, module, host=None, cases=()):
    """Cases with another result under nsocket, as texts; and how many there were."""
    plain = Run(net, net.client, module, False, host, cases)
    ours = Run(net, net.server, module, True, host, cases)
    want, got = plain.results(), ours.results()
    return {name: f"{name}: {got.get(name)}, plainly: {result}" for name, result in want.items()
            if result != "fail" and got.get(name) != result}, len(want)


def same(net, module, host=None):
    wrong, n = compare(net, module, host)
    assert n >= FEWEST.get(module, 25)
    if wrong: # the suite has cases with time limits: those are asked once more, without the crowd
        wrong, _ = compare(net, module, host, list(wrong))
    assert not wrong, "\n".join(wrong.values())


@pytest.mark.parametrize("module", QUICK)
def test_module(net, module):
    same(net, module)


@pytest.mark.skipif("NSTACK_TEST_ALL_APPS" not in os.environ, reason="make check-apps runs it")
@pytest.mark.parametrize("module", SLOW)
def test_slow_module(net, module):
    same(net, module)


@pytest.mark.skipif("NSTACK_TEST_ALL_APPS" not in os.environ, reason="make check-apps runs it")
@pytest.mark.parametrize("module", ["socket", "asyncio"])
def test_own_address(net, module):
    """The same with the interface's address as the host that the tests use."""
    net.client.run(["ip", "addr", "add", net.s4 + "/32", "dev", "lo"])
    same(net, module, net.s4)
