# SPDX-License-Identifier: Apache-2.0
"""hal_xdp and its wrappers over veth, against the kernel.

    namespace A (the kernel's side)          namespace B (hal_peer's side)
      va 198.18.77.1/24  ------ veth ------  vb 198.18.77.2/24

hal_peer echoes UDP on one port of vb, takes commands on stdin and answers in JSON lines.
"""
import contextlib
import ctypes
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import threading
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("O") or os.path.join(HERE, "..", "..", "build")
PEER = os.environ.get("HAL_PEER") or os.path.join(BUILD, "tests", "hal", "hal_peer")
A, B = "198.18.77.1", "198.18.77.2"
counter = itertools.count()
libc = ctypes.CDLL(None, use_errno=True)

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not os.path.exists(PEER), reason=f"{PEER} is not built"),
]

CAP_MULTIBUF, CAP_TX_CSUM, CAP_PARTIAL, CAP_SUPER = 2, 4, 8, 16


def sh(cmd):
    return subprocess.run(cmd, shell=True, check=True, capture_output=True, text=True).stdout


def until(what, cond, limit=10.0):
    """Wait until cond() is true; polling, because the condition lies in other processes."""
    end = time.monotonic() + limit
    while True:
        v = cond()
        if v:
            return v
        assert time.monotonic() < end, f"waited {limit} s for: {what}"
        time.sleep(0.02)


class Net:
    def __init__(self, queues=1):
        tag = f"nshal-{os.getpid()}-{next(counter)}"
        self.a, self.b = tag + "-a", tag + "-b"
        q = f"numrxqueues {queues} numtxqueues {queues}"
        sh(f"ip netns add {self.a}; ip netns add {self.b}")
        try:
            sh(f"ip -n {self.a} link add va {q} type veth peer name vb netns {self.b} {q}")
            for ns, dev, ip in ((self.a, "va", A), (self.b, "vb", B)):
                sh(f"ip -n {ns} addr add {ip}/24 dev {dev}; ip -n {ns} link set {dev} up;"
                   f"ip -n {ns} link set lo up")
            self.amac = sh(f"ip netns exec {self.a} cat /sys/class/net/va/address").strip()
            self.bmac = sh(f"ip netns exec {self.b} cat /sys/class/net/vb/address").strip()
            sh(f"ip -n {self.a} neigh add {B} lladdr {self.bmac} dev va;"
               f"ip -n {self.b} neigh add {A} lladdr {self.amac} dev vb")
        except BaseException:
            self.close()
            raise
        self.peers = []

    def socket(self, kind=socket.SOCK_DGRAM):
        """A socket of namespace A."""
        box = []

        def work():
            with open(f"/run/netns/{self.a}") as f:
                assert libc.setns(f.fileno(), 0) == 0
            box.append(socket.socket(socket.AF_INET, kind))

        t = threading.Thread(target=work)  # setns concerns one thread
        t.start()
        t.join()
        s = box[0]
        s.settimeout(5)
        s.bind((A, 0))
        return s

    def peer(self, port, slot, **keys):
        p = Peer(self, port, slot, keys)
        self.peers.append(p)
        return p

    def peer_later(self, port, slot, **keys):
        """It may take its time: call what is returned to have it."""
        box = []
        t = threading.Thread(target=lambda: box.append(self.peer(port, slot, **keys)))
        t.start()

        def get():
            t.join()
            return box[0]
        return get

    def name_sockets(self, peer):
        """How many have the name that sharing goes by: who serves, and those that are connected to him."""
        name = "@nstack-port/" + sh(f"ip netns exec {self.b} cat /sys/class/net/vb/ifindex").strip()
        with open(f"/proc/{peer.p.pid}/net/unix", encoding="ascii") as f:
            return sum(line.split()[-1] == name for line in f)

    def diagnostics(self):
        """For conftest.py, when a test fails."""
        return "".join(sh(f"ip -n {ns} -s link; ip -n {ns} neigh") for ns in (self.a, self.b))

    def close(self):
        for p in getattr(self, "peers", []):
            p.kill()
        subprocess.run(f"ip netns del {self.a}; ip netns del {self.b}", shell=True,
                       capture_output=True)


class Peer:
    def __init__(self, net, port, slot, keys):
        argv = ["ip", "netns", "exec", net.b, PEER, "vb", str(port), str(slot)]
        argv += [f"{k}={v}" for k, v in keys.items()]
        self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.buf, self.port = b"", port
        self.first = self.answer()

    def answer(self, limit=10.0):
        end = time.monotonic() + limit
        while b"\n" not in self.buf:
            left = end - time.monotonic()
            assert left > 0 and select.select([self.p.stdout], [], [], left)[0], "no answer"
            got = os.read(self.p.stdout.fileno(), 65536)
            assert got, f"hal_peer ended ({self.p.wait()})"
            self.buf += got
        line, self.buf = self.buf.split(b"\n", 1)
        return json.loads(line)

    def ask(self, line):
        os.write(self.p.stdin.fileno(), line.encode() + b"\n")
        return self.answer()

    def stats(self):
        return self.ask("stats")

    def quit(self):
        os.write(self.p.stdin.fileno(), b"quit\n")
        end = self.answer()
        assert self.p.wait(10) == 0
        return end

    def kill(self):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()


@pytest.fixture
def net():
    n = Net()
    yield n
    n.close()


@contextlib.contextmanager
def network(**kw):
    n = Net(**kw)
    try:
        yield n
    finally:
        n.close()


def echo(s, port, n=20, size=100):
    """n datagrams one after the other, each must come back."""
    for i in range(n):
        data = bytes([i & 255]) * size
        s.sendto(data, (B, port))
        got, who = s.recvfrom(65536)
        assert got == data and who == (B, port)


def echo_some(s, port, n, size=100):
    """Datagrams that may get lost; how many came back."""
    back = 0
    s.settimeout(0.05)
    for i in range(n):
        s.sendto(bytes(size), (B, port))
        with contextlib.suppress(TimeoutError):
            s.recv(65536)
            back += 1
    s.settimeout(5)
    return back


@pytest.mark.parametrize("native", [0, 1])
def test_echo(net, native):
    p = net.peer(7000, 0, native=native)
    assert p.first["event"] == "ready", p.first
    assert p.first["mode"].startswith("native" if native else "generic"), p.first["mode"]
    assert "copy" in p.first["mode"] and "veth" in p.first["why"]
    want = CAP_MULTIBUF | CAP_TX_CSUM | CAP_PARTIAL | CAP_SUPER
    assert p.first["caps"] & want == want
    s = net.socket()
    for size in (1, 100, 1472):
        echo(s, 7000, 50, size)
    st = p.stats()
    assert st["echoed"] == 150 and st["tx_errors"] == 0 and st["tx_invalid"] == 0
    assert st["rx_fill"] + st["rx_held"] + st["rx_ring"] == st["rx_total"]
    # a closed port leaves the interface as it was
    p.quit()
    p = net.peer(7000, 0, native=native)
    assert p.first["event"] == "ready", p.first
    echo(s, 7000, 5)


def test_many_more_packets_than_frames(net):
    """Frames of both directions come back: 20000 packets through 4096 and 512 frames."""
    net.peer(7000, 0)
    p, s = net.peers[0], net.socket()
    for _ in range(200):
        for i in range(100):
            s.sendto(b"x" * 64, (B, 7000))
        for i in range(100):
            s.recv(100)
    st = p.stats()
    assert st["echoed"] == 20000
    assert st["rx_fill"] == st["rx_total"]


def test_super_packets_arrive_whole(net):
    """UDP with segmentation offload: the kernel hands 64 KB packets over in one piece."""
    p, s = net.peer(7000, 0), net.socket()
    s.setsockopt(socket.IPPROTO_UDP, 103, 1472)  # UDP_SEGMENT
    for sent in range(20, 201, 20):  # 20 fit into the receive ring
        for _ in range(20):
            s.sendto(bytes(44 * 1472), (B, 7000))
        st = until(f"{sent} super-packets", lambda: (p.stats()["echoed"] >= sent) and p.stats())
    assert st["max"] == 44 * 1472 + 42
    assert st["bytes"] == 200 * (44 * 1472 + 42)
    assert st["rx_dropped"] == st["ring_full"] == st["fill_empty"] == 0


def test_super_frame_udp(net):
    p, s = net.peer(7000, 0), net.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    port = s.getsockname()[1]
    for _ in range(5):
        r = p.ask(f"super {net.amac} {A} {port} {B} {40 * 1000} 1000")
        assert r["result"] == 0
        for i in range(40):
            assert s.recv(65536) == bytes([i]) * 1000
    st = p.stats()
    assert st["tx_super"] == 5 and st["tx_errors"] == 0


def test_super_frame_tcp(net):
    """A handshake by hand, then 60000 bytes in one segment that the kernel's TCP takes."""
    p, s = net.peer(7000, 0), net.socket(socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    s.listen()
    r = p.ask(f"tcp {net.amac} {A} {s.getsockname()[1]} {B} 60000 0")
    assert r["result"] == 0
    c, _ = s.accept()
    c.settimeout(5)
    got = b""
    while chunk := c.recv(65536):
        got += chunk
    assert got == bytes((i * 7) & 255 for i in range(60000))


def test_checksum_metadata(net):
    """The kernel's UDP checks sums: it takes packets whose checksum was left to the device."""
    p, s = net.peer(7000, 0), net.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    r = p.ask(f"burst {net.amac} {A} {s.getsockname()[1]} {B} 300 1000")
    assert r["result"] == 0
    for i in range(300):
        assert s.recv(2000) == bytes([i & 255]) * 1000
    names, values = [x.split()[1:] for x in sh(f"ip netns exec {net.a} cat /proc/net/snmp")
                     .splitlines() if x.startswith("Udp:")]
    snmp = dict(zip(names, map(int, values)))
    assert snmp["InDatagrams"] == 300 and snmp["InCsumErrors"] == snmp["InErrors"] == 0


def test_jumbo_in_several_frames():
    with network() as net:
        sh(f"ip -n {net.a} link set va mtu 9000; ip -n {net.b} link set vb mtu 9000")
        p, s = net.peer(7000, 0), net.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        r = p.ask(f"burst {net.amac} {A} {s.getsockname()[1]} {B} 50 8900")
        assert r["result"] == 0
        for i in range(50):
            assert s.recv(20000) == bytes([i]) * 8900


def test_all_queues():
    with network(queues=2) as net:
        p = net.peer(7000, 0)
        assert p.first["queues"] == 2
        for _ in range(8):  # flows spread by hash
            echo(net.socket(), 7000, 5)
        assert p.stats()["echoed"] == 40


def test_queue_in_use_by_a_stranger(net):
    net.peer(7000, 0, share=0)
    other = net.peer(7001, 1, share=0)
    assert other.first["event"] == "error" and other.first["errno"] == 16, other.first
    assert "queue 0 of vb is in use by another program" in other.first["why"]
    echo(net.socket(), 7000, 5)


SQUATTER = """
import os, socket, sys
os.setgid(65534)
os.setuid(65534)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind("\\0nstack-port/" + sys.argv[1])
s.listen(8)
print("bound", flush=True)
sys.stdin.read()
"""


def test_name_taken_by_another_user(net):
    """Anybody may bind an abstract name: the port is not shared then, but it works."""
    ifindex = sh(f"ip netns exec {net.b} cat /sys/class/net/vb/ifindex").strip()
    squatter = subprocess.Popen(["ip", "netns", "exec", net.b, "/usr/bin/python3", "-c", SQUATTER,
                                 ifindex], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert squatter.stdout.readline() == b"bound\n"
        p = net.peer(7001, 0)
        assert p.first["event"] == "ready", p.first
        assert "somebody else has the name" in p.first["why"], p.first
        echo(net.socket(), 7001)
        # who comes second can't share, and learns who is in the way
        q = net.peer(7002, 64)
        assert f"process {squatter.pid} of user 65534" in q.first["why"], q.first
        echo(net.socket(), 7001)
    finally:
        squatter.stdin.close()
        squatter.wait(10)
    until("the first to have the name", lambda: p.stats()["server"] == 1)
    r = net.peer(7003, 1)
    assert r.first["event"] == "ready" and ", shared" in r.first["mode"], r.first
    echo(net.socket(), 7001)
    echo(net.socket(), 7003)


ATTACH = """
import array, os, socket, struct, sys
os.setgid(65534)
os.setuid(65534)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout(5)
s.connect("\\0nstack-port/" + sys.argv[1])
try:
    s.send(struct.pack("IIIIIiII", 0x6e737870, 1, 1, 0xffffffff, 0, 0, 0, 0))
    data, fds, _, _ = socket.recv_fds(s, 4096, 100)
except ConnectionError:
    data, fds = b"", []
print(len(data), len(fds))
"""


def test_server_that_gave_up_root(net):
    """It keeps what root opened, and shares it with root's processes, not with its user's."""
    ifindex = sh(f"ip netns exec {net.b} cat /sys/class/net/vb/ifindex").strip()
    first = net.peer(7000, 0, user=65534)
    second = net.peer(7001, 1)
    assert second.first["event"] == "ready" and "shared" in second.first["mode"], second.first
    s = net.socket()
    echo(s, 7000)
    echo(s, 7001)
    r = subprocess.run(["ip", "netns", "exec", net.b, "/usr/bin/python3", "-c", ATTACH, ifindex],
                       capture_output=True, text=True, check=True, timeout=20)
    assert r.stdout.split() == ["0", "0"], r.stdout
    # it serves when root's process is gone, and is served by a new one
    second.kill()
    third = net.peer(7002, 2)
    assert "shared" in third.first["mode"], third.first
    echo(s, 7002)
    first.kill()
    echo(s, 7002)


def test_takeover_by_and_from_one_that_gave_up_root(net):
    """Its connection to a new server is told by its pid, its memory by who made it."""
    a, b, c = net.peer(7000, 0), net.peer(7001, 1, user=65534), net.peer(7002, 2)
    s = net.socket()
    a.kill()
    until("one new server", lambda: [p.stats()["server"] for p in (b, c)].count(True) == 1)
    for p in (b, c):
        echo(s, p.port)
    d = net.peer(7003, 3)
    assert d.first["event"] == "ready" and "shared" in d.first["mode"], d.first
    # the sweep needs an answer of every member
    until("nothing is swept any more", lambda: not any(p.stats()["sweeping"] for p in (b, c, d)) or
          [echo(s, p.port, 30) for p in (b, c, d)] is None, 20)
    for p in (b, c, d):
        echo(s, p.port)


def test_packet_of_more_frames_than_a_burst(net):
    """Such a packet is dropped and counted; it must not stay at the head of the ring."""
    p = net.peer(7001, 0, frame_size=2048, burst=8)
    s, big = net.socket(), net.socket()
    big.setsockopt(socket.IPPROTO_UDP, 103, 1472)  # UDP_SEGMENT
    big.sendto(bytes(44 * 1472), (B, 7001))
    echo(s, 7001)
    st = p.stats()
    assert st["rx_dropped"] == 1 and st["rx_fill"] + st["rx_held"] == st["rx_total"]


def test_bad_interface(net):
    argv = ["ip", "netns", "exec", net.b, PEER, "nosuch", "1", "0"]
    r = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert r.returncode == 1 and "error" in r.stdout


def test_zerocopy_demanded_in_vain(net):
    p = net.peer(7000, 0, mode="zc")
    assert p.first["event"] == "error" and p.first["errno"] == 95, p.first


# --- several processes on one interface ----------------------------------------------------


def test_two_processes_share_a_queue(net):
    p1, p2 = net.peer(7001, 0), net.peer(7002, 1)
    assert p2.first["event"] == "ready", p2.first
    s = net.socket()
    for _ in range(10):
        echo(s, 7001, 20)
        echo(s, 7002, 20)
    st1, st2 = p1.stats(), p2.stats()
    assert (st1["echoed"], st2["echoed"]) == (200, 200)
    assert st1["members"] == st2["members"] == 2
    assert st1["server"] == 1 and st2["server"] == 0
    assert st1["slot"] != st2["slot"]
    # and at the same time
    for i in range(100):
        s.sendto(b"a", (B, 7001))
        s.sendto(b"b", (B, 7002))
        assert {s.recv(10), s.recv(10)} == {b"a", b"b"}


@pytest.mark.parametrize("victim", [0, 1])
def test_kill_one_of_two(net, victim):
    """The other goes on (takes over if need be), a new one joins, and all frames are found."""
    peers = [net.peer(7001, 0), net.peer(7002, 1)]
    s = net.socket()
    echo(s, 7001)
    echo(s, 7002)
    dead, alive = peers[victim], peers[1 - victim]
    dead.ask("pause")
    for _ in range(300):  # these die in its receive ring
        s.sendto(b"lost", (B, dead.port))
    until("frames in the ring", lambda: dead.stats()["rx_ring"] == 300)
    dead.kill()
    echo(s, alive.port, 100)
    until("takeover", lambda: alive.stats()["server"] == 1)
    until("the death to be noticed", lambda: alive.stats()["members"] == 1)
    third = net.peer(7003, 2)
    assert third.first["event"] == "ready", third.first
    echo(s, 7003, 50)
    echo(s, alive.port, 100)

    def found():
        echo(s, alive.port, 10)
        echo(s, 7003, 10)
        return not alive.stats()["sweeping"]

    until("the sweep", found, 20)
    st = alive.stats()
    assert st["recovered"] == 300, st
    st3 = third.stats()
    assert st["rx_fill"] + st["rx_held"] + st3["rx_held"] == st["rx_total"], (st, st3)
    assert st["members"] == 2


def test_members_come_and_go(net):
    """Slots and transmit frames are used again; nothing gets lost over 12 deaths of 3."""
    keeper = net.peer(7000, 0)
    s = net.socket()
    for round_ in range(4):
        some = [net.peer(7001 + i, 1 + i) for i in range(3)]
        for p in some:
            assert p.first["event"] == "ready", p.first
            echo(s, p.port, 600)
        for i, p in enumerate(some):
            if i == 1:
                p.quit()
            else:
                p.kill()
        echo(s, 7000, 100)

    def found():
        echo(s, 7000, 20)
        st_ = keeper.stats()
        return st_["members"] == 1 and not st_["sweeping"]

    until("the sweep", found, 30)
    st = keeper.stats()
    assert st["rx_fill"] + st["rx_held"] == st["rx_total"], st


def test_server_killed_among_three(net):
    peers = [net.peer(7001 + i, i) for i in range(3)]
    s = net.socket()
    peers[0].kill()
    until("one server", lambda: peers[1].stats()["server"] + peers[2].stats()["server"] == 1)
    for p in peers[1:]:
        echo(s, p.port, 100)

    def found():
        for p in peers[1:]:
            echo(s, p.port, 40)
        return not peers[1].stats()["sweeping"] and peers[1].stats()["members"] == 2

    until("the sweep", found, 30)
    fourth = net.peer(7004, 3)
    assert fourth.first["event"] == "ready", fourth.first
    echo(s, 7004, 100)

    def complete():  # they are asked one after the other, and one may just be giving frames back
        st = [p.stats() for p in peers[1:] + [fourth]]
        return st[0]["rx_fill"] + sum(x["rx_held"] for x in st) == st[0]["rx_total"]

    until("every frame to be found", complete)


def test_newcomer_while_the_server_changes(net):
    """The server dies, and one who comes then is faster than the member that is about to take its place."""
    server, member = net.peer(7001, 0), net.peer(7002, 1)
    os.kill(member.p.pid, signal.SIGSTOP)
    server.kill()
    third = net.peer_later(7003, 2)
    until("the newcomer to have the name", lambda: net.name_sockets(member))
    until("the newcomer to give it back", lambda: not net.name_sockets(member))
    os.kill(member.p.pid, signal.SIGCONT)
    third = third()
    assert third.first["event"] == "ready" and ", shared" in third.first["mode"], third.first
    assert member.stats()["server"] == 1
    s = net.socket()
    for p in (member, third):
        echo(s, p.port)


def test_newcomer_while_a_server_that_gave_up_root_ends(net):
    """It looks like a stranger, but only its memory would tell: it ends before it has answered. Who asked it is the
    next server, for others to join."""
    server, member = net.peer(7001, 0), net.peer(7002, 1, user=65534)
    server.kill()
    until("takeover", lambda: member.stats()["server"] == 1)
    os.kill(member.p.pid, signal.SIGSTOP)
    third = net.peer_later(7003, 2)
    until("the newcomer to ask", lambda: net.name_sockets(member) > 1)
    member.kill()
    third = third()
    assert third.first["event"] == "ready" and "somebody else" not in third.first["why"], third.first
    fourth = net.peer(7004, 3)
    assert fourth.first["event"] == "ready" and ", shared" in fourth.first["mode"], fourth.first
    s = net.socket()
    for p in (third, fourth):
        echo(s, p.port)


def test_killed_under_load(net):
    """Deaths at any instruction, the shared locks included: the survivor keeps every frame."""
    keeper = net.peer(7000, 0)
    s = net.socket()
    stop = threading.Event()

    def flood(port):
        f = net.socket()
        f.setblocking(False)
        while not stop.is_set():
            with contextlib.suppress(BlockingIOError):
                for _ in range(50):
                    f.sendto(b"x" * 64, (B, port))
            with contextlib.suppress(BlockingIOError):
                while True:
                    f.recv(100)

    threads = [threading.Thread(target=flood, args=(port,)) for port in (7000, 7001)]
    for t in threads:
        t.start()
    try:
        for i in range(12):
            p = net.peer(7001, 1)
            assert p.first["event"] == "ready", p.first
            time.sleep(0.01 * i)  # the moment of death varies
            p.kill()
            until("the death to be noticed", lambda: keeper.stats()["members"] == 1)
        until("the sweep", lambda: not keeper.stats()["sweeping"], 30)
    finally:
        stop.set()
        for t in threads:
            t.join()
    echo(s, 7000, 100)
    st = keeper.stats()
    assert st["rx_fill"] + st["rx_held"] == st["rx_total"], st
    assert st["rx_fill"] <= st["rx_total"] and st["tx_free"] + st["tx_sent"] == st["tx_total"]


def test_stopped_server_is_named(net):
    p1 = net.peer(7001, 0)
    pid = p1.first["pid"]
    os.kill(pid, 19)
    try:
        p2 = net.peer(7002, 1)
        assert p2.first["event"] == "error" and f"process {pid}" in p2.first["why"], p2.first
    finally:
        os.kill(pid, 18)
    echo(net.socket(), 7001)


def test_fork_forget(net):
    """A child that forgets the port neither disturbs it nor keeps it alive."""
    p = net.peer(7001, 0)
    s = net.socket()
    echo(s, 7001)
    child = p.ask("fork")["pid"]
    echo(s, 7001, 100)
    p.p.kill()
    p.p.wait()
    os.kill(child, 0)  # lives
    p2 = net.peer(7001, 0)
    assert p2.first["event"] == "ready", p2.first
    assert p2.first["server"] == 1
    echo(s, 7001)
    os.kill(child, 9)


# --- wrappers ------------------------------------------------------------------------------


def test_capture_is_readable(net, tmp_path):
    path = tmp_path / "x.pcapng"
    p, s = net.peer(7000, 0, capture=path), net.socket()
    echo(s, 7000, 25, 200)
    s.setsockopt(socket.IPPROTO_UDP, 103, 1472)
    s.sendto(bytes(20 * 1472), (B, 7000))
    until("the big one", lambda: p.stats()["echoed"] == 26)
    p.quit()
    out = sh(f"tshark -r {path} -T fields -e frame.len -e frame.packet_flags_direction "
             f"-e frame.interface_name -e udp.dstport -e frame.time_epoch").splitlines()
    rows = [x.split("\t") for x in out]
    assert len(rows) == 51
    assert [r[0] for r in rows[:50]] == ["242"] * 50
    assert rows[50][0] == str(20 * 1472 + 42)
    assert all(r[2] == "vb" for r in rows)
    assert {int(r[1], 0) for r in rows[0:50:2]} == {1} and {int(r[1], 0) for r in rows[1:50:2]} == {2}
    assert all(abs(float(r[4]) - time.time()) < 60 for r in rows)


def test_capture_snaplen(net, tmp_path):
    path = tmp_path / "x.pcapng"
    p, s = net.peer(7000, 0, capture=path, snaplen=60), net.socket()
    echo(s, 7000, 3, 1000)
    p.quit()
    out = sh(f"tshark -r {path} -T fields -e frame.len -e frame.cap_len")
    assert out.split() == ["1042", "60"] * 6


def test_faults(net):
    p = net.peer(7000, 0, faults="loss=20%,seed=3")
    back = echo_some(net.socket(), 7000, 300)
    assert 300 * 0.64 - 50 < back < 300 * 0.64 + 50  # lost neither way: 0.8 * 0.8
    st = p.stats()
    assert st["rx_fill"] + st["rx_held"] == st["rx_total"], st


def test_faults_delay_and_duplicates(net):
    net.peer(7000, 0, faults="rx.delay=5ms,tx.delay=5ms,tx.dup=100%")
    s = net.socket()
    t = time.monotonic()
    s.sendto(b"hello", (B, 7000))
    assert s.recv(100) == b"hello"
    assert time.monotonic() - t >= 0.01
    assert s.recv(100) == b"hello"


def test_corruption_is_noticed(net):
    """Every packet we send is damaged, and the kernel drops it all: no checksum covers damage."""
    net.peer(7000, 0, faults="tx.corrupt=100%")
    s = net.socket()
    s.settimeout(0.05)
    for i in range(100):
        s.sendto(bytes(500), (B, 7000))
        with contextlib.suppress(TimeoutError):
            assert s.recv(1000) == bytes(500)  # only bits that don't matter may differ
