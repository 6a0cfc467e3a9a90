# SPDX-License-Identifier: Apache-2.0
"""A listener that goes from one process to another: who may ask, and what strangers can do."""
import os
import time

import pytest

from lib import apps, nstack, wait

PORT = 9500
pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="asks nstack")


def descriptors(pid):
    """How many, without the log, which is opened by its first line."""
    return sum(not os.readlink(f"/proc/{pid}/fd/{fd}").endswith(".log")
               for fd in os.listdir(f"/proc/{pid}/fd"))


def ask(net, addr, text):
    return net.client.run(["nc", "-N", "-w5", addr, PORT], input=text).stdout


def turn(server, net, addr, name):
    """A child of the server's takes the port over, and serves."""
    served = server.stdout().count("served")
    server.popen.stdin.write(b"go\n")
    server.popen.stdin.flush()
    wait.until(lambda: nstack.owners(net.server, "tcp", PORT) - {server.pid}, "the child to have the port")
    assert ask(net, addr, name) == name
    wait.until(lambda: server.stdout().count("served") > served, "the child to end")
    wait.until(lambda: nstack.owners(net.server, "tcp", PORT) == {server.pid}, "the parent to have the port")


def test_strangers(net, family):
    """Garbage, descriptors of all kinds, more than anybody takes, and connections whose close() would
    last an hour: the owner serves its clients, answers the tool, and yields to its own child."""
    addr = net.saddr(family)
    server = net.serve([*apps.prog("look_then_fork.py"), addr, PORT, 1], "owner", tcp=[PORT], stdin="pipe")
    turn(server, net, addr, "before\n")
    # one more may be made later, once: the set of processes whose end it waits for
    before = wait.until(lambda: descriptors(server.pid), "its descriptors") + 1
    stranger = net.server.spawn([*apps.prog("stranger.py"), 10, addr], "stranger")
    end = time.monotonic() + 60
    while stranger.running() and time.monotonic() < end:
        begin = time.monotonic()
        assert nstack.owners(net.server, "tcp", PORT) == {server.pid}
        assert time.monotonic() - begin < 5
    assert int(stranger.ok(1).split("done")[1]) > 200, "nobody takes what is sent"
    wait.until(lambda: descriptors(server.pid) <= before, "what strangers sent to be closed")
    turn(server, net, addr, "after\n")
    wait.until(lambda: descriptors(server.pid) <= before, "as many descriptors as before")
