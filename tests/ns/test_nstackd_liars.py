# SPDX-License-Identifier: Apache-2.0
"""nstackd and programs that know how it works: each of these once stopped it, or took what is another's."""
import fcntl
import mmap
import os
import socket
import struct

import pytest

from lib import nstack
from lib.liar import attach, listener
from test_nstackd import ask, server

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstack")


@pytest.fixture
def mode():
    return "daemon"


def socket_in(net, *args):
    with net.server.inside():
        return socket.socket(*args)


def create_server(net, port):
    with net.server.inside():
        return socket.create_server((net.s4, port))


def test_a_bell_that_cannot_be_rung(net):
    """Full, and without O_NONBLOCK: the daemon does not wait for it to be emptied."""
    server(net, 7000)
    s, fds, _ = attach(net)
    listener(s, net.s4, 7100, create_server(net, 7100))
    bell = fds[3]
    fcntl.fcntl(bell, fcntl.F_SETFL, 0)
    try:
        os.write(bell, struct.pack("=Q", 2 ** 64 - 2))
    except OSError:
        pass # it is only to be read
    notify = mmap.mmap(fds[1], os.fstat(fds[1]).st_size)
    for _ in range(3):
        struct.pack_into("=I", notify, len(notify) // 2 + 64, 1) # "I sleep, ring"
        with net.client.inside():
            socket.create_connection((net.s4, 7100), 5).close()
    assert ask(net, 7000) == "HELLO"
