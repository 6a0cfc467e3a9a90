# SPDX-License-Identifier: Apache-2.0
"""hal_dpdk on devices that need no hardware, against the kernel and against itself.

    namespace A (the kernel's side)          namespace B (hal_peer's side)
      va 198.18.77.1/24  ------ veth ------  vb, net_af_packet on it
      tb 198.18.77.1/24  ------------------  net_tap
"""
import contextlib
import errno
import os
import re
import shutil
import socket
import struct
import subprocess

import pytest

from test_hal_xdp import A, B, BUILD, PEER, CAP_MULTIBUF, CAP_PARTIAL, CAP_SUPER, CAP_TX_CSUM, Net, Peer, echo, sh, until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not os.path.exists(os.path.join(BUILD, "libnstack_dpdk.so")), reason="built without DPDK"),
]
AF_PACKET = "net_af_packet0,iface=vb"
AF_XDP = "net_af_xdp0,iface=vb,busy_budget=0"
PCAP = "net_pcap0,rx_iface_in=vb,tx_iface=vb"


class DpdkPeer(Peer):
    def __init__(self, net, device, port, keys):
        argv = ["ip", "netns", "exec", net.b, PEER, device, str(port), "0", "hal=dpdk"]
        argv += [f"{k}={v}" for k, v in keys.items()]
        self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.buf, self.port = b"", port
        self.first = self.answer()

    def cpu(self):
        """Seconds of processor time."""
        with open(f"/proc/{self.p.pid}/stat", encoding="utf8") as f:
            return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")


class DpdkNet(Net):
    def __init__(self):
        super().__init__()
        # packets as a wire has them: of the MTU's size, their checksums done
        sh(f"ip netns exec {self.a} ethtool -K va tx off tso off gso off; ip -n {self.b} addr flush dev vb")

    def dpdk(self, device, port=7000, **keys):
        p = DpdkPeer(self, device, port, keys)
        self.peers.append(p)
        return p

    def tap(self, port=7000, **keys):
        """net_tap; its kernel side takes va's place in A."""
        p = self.dpdk("net_tap0,iface=tb", port, **keys)
        assert p.first["event"] == "ready", p.first
        sh(f"ip -n {self.a} link del va; ip -n {self.b} link set tb netns {self.a};"
           f"ip -n {self.a} addr add {A}/24 dev tb; ip -n {self.a} link set tb up")
        mac = sh(f"ip netns exec {self.a} cat /sys/class/net/tb/address").strip()
        sh(f"ip -n {self.a} neigh replace {B} lladdr {mac} dev tb")
        return p


@pytest.fixture
def net():
    n = DpdkNet()
    yield n
    n.close()


@pytest.mark.parametrize("device", [AF_PACKET, AF_XDP, PCAP])
def test_echo_by_interface(net, device):
    for _ in range(2):  # a closed port leaves the device as it was
        p = net.dpdk(device)
        assert p.first["event"] == "ready" and device.split(",")[0] in p.first["mode"], p.first
        want = {AF_PACKET: CAP_PARTIAL | CAP_MULTIBUF, AF_XDP: CAP_PARTIAL, PCAP: p.first["caps"] & CAP_MULTIBUF}[device]
        assert p.first["caps"] & (CAP_MULTIBUF | CAP_PARTIAL | CAP_TX_CSUM) == want
        for size in (1, 100, 1472):
            echo(net.socket(), 7000, 50, size)
        st = p.stats()
        assert st["echoed"] == 150 and st["tx_packets"] >= 150 and st["tx_errors"] == 0
        p.quit()


def test_echo_tap(net):
    p = net.tap()
    assert p.first["caps"] & CAP_TX_CSUM, "net_tap finishes checksums"
    for size in (1, 100, 1472):
        echo(net.socket(), 7000, 50, size)
    assert p.stats()["echoed"] == 150


def test_super_frame_tap(net):
    """net_tap cuts them, if not into frames of the full MTU."""
    p = net.tap()
    assert p.first["caps"] & CAP_SUPER
    s = net.socket(socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    s.listen()
    mac = sh(f"ip netns exec {net.a} cat /sys/class/net/tb/address").strip()
    assert p.ask(f"tcp {mac} {A} {s.getsockname()[1]} {B} 60000 1400")["result"] == 0
    c, _ = s.accept()
    c.settimeout(5)
    got = b""
    while chunk := c.recv(65536):
        got += chunk
    assert got == bytes((i * 7) & 255 for i in range(60000))
    assert p.stats()["tx_super"] == 1
    assert p.ask(f"super {mac} {A} 7001 {B} 4000 1000")["result"] == -errno.EOPNOTSUPP, "trains are not cut"


@pytest.mark.parametrize("device", [AF_PACKET, AF_XDP])
def test_many_more_packets_than_buffers(net, device):
    """They come back, of both directions, wherever in memory they are: 20000 packets through 4096."""
    p, s = net.dpdk(device), net.socket()
    for _ in range(200):
        for _ in range(100):
            s.sendto(b"x" * 64, (B, 7000))
        for _ in range(100):
            s.recv(100)
    st = p.stats()
    assert st["echoed"] == 20000 and st["fill_empty"] == 0


def test_queues(net):
    """Flows are spread by the device; whichever queue, the answer comes."""
    p = net.dpdk(AF_PACKET + ",qpairs=2", queues=2)
    assert p.first["queues"] == 2
    for _ in range(8):
        echo(net.socket(), 7000, 5)
    assert p.stats()["echoed"] == 40


def test_mtu_that_the_device_refuses(net):
    p = net.dpdk(AF_PACKET, mtu=9000)
    assert p.first["event"] == "error" and "max frame size" in p.first["why"], p.first


@pytest.mark.parametrize("kind", ["af_packet", "tap"])
def test_idle_sleeps_and_wakes(net, kind):
    p = net.tap() if kind == "tap" else net.dpdk(AF_PACKET)
    assert re.match("woken by", p.first["why"]), p.first
    s = net.socket()
    echo(s, 7000)
    before = p.cpu()
    for _ in range(5):
        s.settimeout(0.2)
        with pytest.raises(TimeoutError):
            s.recv(1)
        s.settimeout(5)
        echo(s, 7000, 1)
    assert p.cpu() - before <= 0.05, "a second of sleep"


def test_memif_between_two_processes(net, tmp_path):
    """Without interrupts, and side by side: DPDK twice in one namespace."""
    memif = f"id=0,socket={tmp_path}/memif,socket-abstract=no"
    server = net.dpdk("net_memif0,role=server," + memif)
    client = net.dpdk("net_memif0,role=client," + memif, 7001)
    assert server.first["event"] == client.first["event"] == "ready"
    assert client.ask(f"burst 02:00:00:00:00:01 {B} 7000 {A} 200 1000")["result"] == 0
    # each answers the other's answers
    until("20000 echoes", lambda: min(client.stats()["echoed"], server.stats()["echoed"]) >= 20000)
    assert client.quit()["tx_errors"] == server.quit()["tx_errors"] == 0


def datagrams(path, count):
    """A capture of so many to port 7000 of B (pcap, LINKTYPE_ETHERNET), no checksum of UDP."""
    with open(path, "wb") as f:
        f.write(struct.pack("=IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for i in range(count):
            body = struct.pack("!I", i) * 16
            head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(body), i, 0, 64, 17, 0, socket.inet_aton(A),
                               socket.inet_aton(B))
            total = sum(struct.unpack("!10H", head))
            total = ~(total + (total >> 16)) & 0xffff
            frame = (b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0" + head[:10] + struct.pack("!H", total) + head[12:]
                     + struct.pack("!HHHH", 5000, 7000, 8 + len(body), 0) + body)
            f.write(struct.pack("=IIII", i, 0, len(frame), len(frame)) + frame)


def captured(path):
    """The frames of a capture."""
    with open(path, "rb") as f:
        data = f.read()[24:]
    while data:
        n = struct.unpack("=I", data[8:12])[0]
        yield data[16:16 + n]
        data = data[16 + n:]


def test_pcap_files(net, tmp_path):
    """Packets of one file are answered into another."""
    datagrams(tmp_path / "in", 200)
    p = net.dpdk(f"net_pcap0,rx_pcap={tmp_path}/in,tx_pcap={tmp_path}/out")
    assert p.first["event"] == "ready", p.first
    until("200 answers", lambda: p.stats()["tx_packets"] >= 200)
    assert p.quit()["tx_errors"] == 0
    answers = list(captured(tmp_path / "out"))
    assert [struct.unpack("!I", x[42:46])[0] for x in answers] == list(range(200))
    assert all(x[26:34] == socket.inet_aton(B) + socket.inet_aton(A) for x in answers)


@contextlib.contextmanager
def debians_testpmd(path, mode, device="net_memif0,role=server,id=0,socket={},socket-abstract=no"):
    """Debian's, the server of a memif, say."""
    device = device.format(path)
    argv = ["dpdk-testpmd", "--no-huge", "-m", "128", "--no-shconf", "--no-pci", "--no-telemetry",
            f"--file-prefix=nstack-test-{os.getpid()}", "--lcores", "0@(0-1),1@(0-1)", "--vdev", device, "--",
            f"--forward-mode={mode}", "--total-num-mbufs=4096", "--no-mlockall"]
    p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        until("testpmd's socket", lambda: os.path.exists(path))
        yield p
    finally:
        p.kill()
        p.communicate()


@pytest.mark.skipif(not shutil.which("dpdk-testpmd"), reason="no testpmd")
@pytest.mark.parametrize("mode", ["macswap", "flowgen"])
def test_memif_with_testpmd(net, tmp_path, mode):
    """macswap sends back every packet; flowgen sends its own, of 1024 flows, as fast as they are taken."""
    with debians_testpmd(f"{tmp_path}/memif", mode):
        p = net.dpdk(f"net_memif0,role=client,id=0,socket={tmp_path}/memif,socket-abstract=no", 7001)
        if mode == "macswap":
            assert p.ask(f"burst 02:00:00:00:00:01 {B} 7000 {A} 200 1000")["result"] == 0
            until("200 packets", lambda: p.stats()["rx_packets"] >= 200)
            assert p.stats()["rx_packets"] == 200
        else:
            until("50000 packets", lambda: p.stats()["rx_packets"] > 50000)
        assert p.quit()["rx_dropped"] == 0


@pytest.mark.skipif(not shutil.which("dpdk-testpmd"), reason="no testpmd")
def test_virtio_user(net, tmp_path):
    """By vhost-user, whose other side is testpmd's: it has interrupts, and what was sent comes back."""
    with debians_testpmd(f"{tmp_path}/vhost", "macswap", "net_vhost0,iface={},queues=1"):
        p = net.dpdk(f"net_virtio_user0,path={tmp_path}/vhost,queues=1,mac=02:00:00:00:00:02", 7001)
        assert p.first["event"] == "ready" and p.first["why"].startswith("woken by interrupts"), p.first
        assert p.first["caps"] & CAP_TX_CSUM, "negotiated with the other side"
        for n in (200, 400):  # the second time it has slept
            assert p.ask(f"burst 02:00:00:00:00:01 {B} 7000 {A} 200 1000")["result"] == 0
            until(f"{n} packets", lambda n=n: p.stats()["rx_packets"] >= n)
        assert p.quit()["tx_errors"] == 0


def test_ring(net):
    """net_ring: what is sent is received."""
    p = net.dpdk("net_ring0", 7001)
    assert p.ask(f"burst 02:00:00:00:00:01 {B} 7000 {A} 200 1000")["result"] == 0
    until("200 packets", lambda: p.stats()["rx_packets"] == 200)


def test_interface_down_and_up(net):
    """Meanwhile it neither fails nor turns round and round."""
    p, s = net.dpdk(AF_PACKET), net.socket()
    echo(s, 7000)
    sh(f"ip -n {net.b} link set vb down")
    before = p.cpu()
    p.stats()
    s.settimeout(0.5)
    s.sendto(b"lost", (B, 7000))
    with pytest.raises(TimeoutError):
        s.recv(1)
    assert p.cpu() - before <= 0.05
    sh(f"ip -n {net.b} link set vb up; ip -n {net.a} neigh replace {B} lladdr {net.bmac} dev va")

    def answers():
        s.settimeout(0.1)
        s.sendto(b"x", (B, 7000))
        try:
            return s.recv(10)
        except TimeoutError:
            return None
    until("an answer", answers)


def test_forked_child(net):
    """It leaves the parent's device alone, also when it ends."""
    p, s = net.dpdk(AF_PACKET), net.socket()
    child = p.ask("fork")["pid"]
    echo(s, 7000)
    os.kill(child, 15)
    echo(s, 7000)


@pytest.mark.parametrize("device, why", [
    ("net_nosuch0", "net_nosuch0"),
    ("net_af_packet0,iface=nosuch", "nosuch"),
    ("0000:7f:1f.7", "0000:7f:1f.7"),
    ("not a device", "not a device"),
    ("", "DPDK has no device"),
])
def test_bad_device(net, device, why):
    p = net.dpdk(device)
    assert p.first["event"] == "error" and why in p.first["why"], p.first
