# SPDX-License-Identifier: Apache-2.0
"""Whatever dies, and wherever it was at that moment: what it had comes back, to the last frame."""
import os
import signal

import pytest

from lib import nstack
from lib.net import Net
from lib.wait import until

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstack")


@pytest.fixture
def net(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    n = Net(str(tmp_path), "daemon")
    try:
        yield n
    finally:
        n.close()


#: attaches by hand, then leaves its end of the channel to a child that knows nothing of it
HELD = """
import os, socket, struct, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect("\\0nstackd")
call = struct.pack("=HHIiiI24s24s64s", 1, 0, 0x6e737464, 1, 0, 0, b"", b"", b"held")
s.send(call)
assert struct.unpack_from("=i", s.recv(400))[0] == 0
if os.fork():
    print("up", flush=True)
time.sleep(60)
"""


def test_a_child_that_holds_the_channel(net):
    """The end of a program is seen though a child of it has not yet closed what it was born with."""
    net.daemon(net.server)
    before = nstack.accounts(net.server)
    p = net.server.spawn([nstack.PYTHON, "-c", HELD], "held")
    p.wait_output("up")
    assert nstack.accounts(net.server)["parts"] == before["parts"] + 1
    os.kill(p.pid, signal.SIGKILL)
    until(lambda: nstack.accounts(net.server)["parts"] == before["parts"], "its part to be given back")
    assert nstack.accounts(net.server)["descriptors"] == before["descriptors"]
