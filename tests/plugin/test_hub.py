# SPDX-License-Identifier: Apache-2.0
"""stacks/hub: a stack in another process, which its plug-in reaches by means of its own (model type 2).

    program -- libnstack_hub.so == socket and shared memory == nstack_hub == libnstack_hub.so -- program
"""
import json
import os
import random
import socket
import struct

import pytest

from lib import nstack, wait
from lib.proc import Process
from test_plugin import NAMESPACE, NETS, PROGS, config, rules_for, run

LIB = os.path.join(nstack.BUILD, "libnstack_hub.so")
HUB = os.path.join(nstack.BUILD, "nstack_hub")
APPS = os.path.join(nstack.BUILD, "tests/dmm")
ADDR = "198.18.77.1"
STACK = [{"name": "hub", "library": LIB, "deploy": 2}]

pytestmark = pytest.mark.skipif("in_process" not in nstack.MODES or bool(nstack.SAN), reason="once is enough")


class Hub:
    def __init__(self, tmp_path):
        self.path, self.dir = str(tmp_path / "hub"), tmp_path
        self.procs = [Process([HUB, self.path], tmp_path, "hub")]
        self.env = {"NSTACK_HUB": self.path, "NSTACK_CONFIG": json.dumps(config(STACK, rules_for("hub"))),
                    "NSTACK_LOG_ON": "INF", "NSTACK_LOG_FILE_FLAG": "0"}
        wait.until(lambda: os.path.exists(self.path), "the hub's socket")

    def start(self, argv, name):
        """A program, in a network namespace without any interface: nothing else can carry its bytes."""
        p = Process(["unshare", "-n", "env", f"LD_PRELOAD={nstack.LIB}", *argv], self.dir, name, env=self.env)
        self.procs.append(p)
        return p

    def python(self, text, name):
        return self.start([nstack.PYTHON, "-c", f"import os, socket, time\nADDR = '{ADDR}'\n{text}"], name)

    def sessions(self):
        return len(os.listdir(f"/proc/{self.procs[0].pid}/fd"))


@pytest.fixture
def hub(tmp_path):
    h = Hub(tmp_path)
    yield h
    for p in reversed(h.procs):
        p.stop()


def test_every_call(hub):
    r = run([nstack.PYTHON, PROGS / "sockets.py", "no"], config(STACK, rules_for("hub", NETS)), prefix=NAMESPACE,
            env={"NSTACK_HUB": hub.path})
    assert r.stdout == "all well\n" and 'stack "hub" is there' in r.stderr, r.stderr


@pytest.mark.parametrize("server", ["ks_common", "ks_epoll", "ks_select"])
def test_between_programs(hub, server):
    """Programs of their own meet by the hub; messages larger than its rings; all comes back, and is counted."""
    before = hub.sessions()
    flags = f"-d {ADDR} -l 100000 -t 10 -f 3".split()
    s = hub.start([os.path.join(APPS, server), *flags], server)
    c = hub.start([os.path.join(APPS, "kc_common"), *flags], "client")
    want = "connections 3 messages 30 bytes 3000000\n"
    assert (c.ok(30), s.ok(30)) == (want, want)
    wait.until(lambda: hub.sessions() == before, "both sessions to be over")


SERVER = """
s = socket.create_server((ADDR, 7))
print("listens", flush=True)
while True:
    c, _ = s.accept()
    try:
        while data := c.recv(9999): c.sendall(data)
    except ConnectionError: print("reset", flush=True)
    print("end", flush=True)
"""
CLIENT = """
c = socket.create_connection((ADDR, 7))
c.sendall(b"hello"); assert c.recv(9) == b"hello"
print("connected", flush=True)
try: print("got", c.recv(1), flush=True)
except ConnectionResetError: print("reset", flush=True)
r, w = socket.socketpair()
w.send(b"x"); assert r.recv(1) == b"x"
print("goes on", flush=True)
"""


def test_a_program_dies(hub):
    """Its connections end, what it had sent arrives first, its port is free again; the others go on."""
    s = hub.python(SERVER, "server")
    s.wait_output("listens")
    last = hub.python("c = socket.create_connection((ADDR, 7))\nc.sendall(b'x' * 10000)\n"
                      "n = 0\nwhile n < 10000: n += len(c.recv(9999))\nprint('all', flush=True)\ntime.sleep(100)", "last")
    last.wait_output("all")
    last.kill9()
    s.wait_output("^end$")
    c = hub.python(CLIENT, "client")
    c.wait_output("connected")
    s.kill9()
    assert "goes on" in c.ok()
    again = hub.python(SERVER, "again")
    again.wait_output("listens")
    hub.python(CLIENT.split("print")[0], "second").ok()


def test_the_hub_dies(hub):
    """ECONNRESET for who waits, and the program goes on; who comes later has the kernel."""
    s = hub.python(SERVER, "server")
    s.wait_output("listens")
    c = hub.python(CLIENT, "client")
    c.wait_output("connected")
    hub.procs[0].kill9()
    out = c.ok()
    assert "reset" in out and "goes on" in out, out
    s.wait_output("^reset$")
    late = hub.python("try: socket.create_connection((ADDR, 7), 5)\nexcept OSError as e: print(e.errno)", "late")
    assert late.ok() in ("101\n", "113\n") and 'stack "hub" is not used' in late.stderr()


def test_the_hub_believes_nobody(hub):
    """Messages that make no sense, and counters beyond the rings: that program's session ends, no other's."""
    s = hub.python(SERVER, "server")
    s.wait_output("listens")
    before = hub.sessions()
    rnd = random.Random(7)

    def attach():
        c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        c.connect(hub.path)
        c.settimeout(10)
        _, fds, _, _ = socket.recv_fds(c, 100, 2)
        return c, fds

    def ended(c):
        try:
            while c.recv(1000):
                pass
            return True
        except ConnectionResetError:
            return True

    size = 16 + 2 * 20
    c, fds = attach()
    for _ in range(2000):  # of the right size: each is answered, but kicks
        op = rnd.choice((0, 1, 2, 3, 4, 5, 6, 8, 77, 2**32 - 1))
        c.send(struct.pack("<IIiI", op, rnd.choice((0, 1, 2, 63, 64, 2**31)), 0, rnd.getrandbits(32)) +
               rnd.choice((bytes([2, 0, 0, 7]) + bytes(36), rnd.randbytes(40))))
        assert len(c.recv(1000)) == size
    c.send(b"short")
    assert ended(c)
    os.close(fds[0]), os.close(fds[1])
    c, fds = attach()
    v4 = struct.pack("<HH", socket.AF_INET, socket.htons(7)) + socket.inet_aton(ADDR) + bytes(12)
    c.send(struct.pack("<IIiI", 0, 0, 0, 0) + bytes(40))  # a socket
    assert struct.unpack_from("<IIi", c.recv(1000)) == (0, 0, 0)
    c.send(struct.pack("<IIiI", 3, 0, 0, 0) + bytes(20) + v4)  # connected
    assert struct.unpack_from("<IIi", c.recv(1000)) == (3, 0, 0)
    os.pwrite(fds[0], struct.pack("<I", 0x7fffffff), 12)  # tx.head
    c.send(struct.pack("<IIiI", 7, 0, 0, 0) + bytes(40))  # a kick
    assert ended(c)
    os.close(fds[0]), os.close(fds[1])
    wait.until(lambda: hub.sessions() == before, "the sessions to be over")
    hub.python(CLIENT.split("print")[0], "client").ok()
