# SPDX-License-Identifier: Apache-2.0
"""Programs whose packets come by DPDK, in both models: the stack's go to the stack, all others to the
kernel, and whatever is missing leaves the program to the kernel."""
import json
import os
import random
import shutil
import socket

import pytest

from lib import apps, nstack, proc, wait
from lib.dpdk import PLUGIN, AfXdpNet, DpdkNet, SteeredNet

TAP = "s0"
WIRE = DpdkNet.wire_of(TAP)
pytestmark = [
    pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstack"),
    pytest.mark.skipif(not os.path.exists(PLUGIN), reason="built without DPDK"),
]


@pytest.fixture(params=["in_process", "daemon"])
def net(request, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    model, _, kind = request.param.partition(".")
    n = {"": DpdkNet, "af_xdp": AfXdpNet, "steered": SteeredNet}[kind](str(tmp_path), model)
    try:
        if kind != "steered":
            n.wire(n.server)
        yield n
    finally:
        n.close()


def kernel_echo(net, port=7005):
    """A server of the kernel's, in the server's namespace."""
    p = net.server.spawn(["socat", f"TCP6-LISTEN:{port},fork,reuseaddr,ipv6only=0", "EXEC:tr a-z A-Z"], "plain")
    wait.until(lambda: net.server.listening(port), "the plain server")
    return p


def ask(net, addr, port, text="hello"):
    return net.client.run(["nc", "-N", "-w5", addr, str(port)], input=text, check=False).stdout


@pytest.mark.parametrize("net", ["in_process", "daemon", "daemon.af_xdp", "in_process.steered", "daemon.steered"],
                         indirect=True)
def test_redis(net):
    apps.redis(net)
    assert "dpdk, net_af_" in net.tool("status").stdout
    proof = net.proof()
    value = random.Random(1).randbytes(200_000).hex()
    for addr in (net.s4, net.s6):
        assert apps.redis_cli(net.client, addr, "-x", "set", "big", input=value) == "OK"
        assert apps.redis_cli(net.client, addr, "get", "big") == value
    apps.redis_benchmark(net.client, net.s4, 5000, 1)
    proof.user_stack(tcp=5000)


def test_bulk(net):
    net.serve([*apps.prog("bulk.py"), "server", net.s4, 9100], "bulk", tcp=[9100])
    proof = net.proof()
    for what in ("put", "get"):
        out = net.client.run([*apps.prog("bulk.py"), "client", net.s4, 9100, what, 64 << 20], timeout=60)
        assert out.stdout.startswith("same ")
    proof.user_stack(tcp=20000)


def test_udp(net, family):
    addr = net.saddr(family)
    net.serve([*apps.prog("echo.py"), "udp", addr, 9200], "udp", udp=[9200])
    proof = net.proof()
    with net.client.inside():
        s = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    s.settimeout(5)
    for i in range(50):
        data = bytes([i]) * (1 + i * 28)
        s.sendto(data, (addr, 9200))
        assert s.recv(2000) == data
    s.close()
    proof.user_stack(udp=50)


@pytest.mark.parametrize("net", ["in_process", "daemon", "daemon.af_xdp", "in_process.steered"], indirect=True)
def test_what_is_the_kernels(net):
    """Ping, servers and clients that have nothing to do with nstack, on the same address: by the TAP, or because
    the steering program is DPDK's. Also packets whose checksum the sender left to a device that there is not."""
    net.client.run(["ethtool", "-K", net.cif, "tx", "on", "tso", "off", "gso", "off"])
    apps.redis(net)
    kernel_echo(net)
    for addr in (net.s4, net.s6):
        net.client.run(["ping", "-c2", "-i0.1", "-W2", addr])
        before = net.server.kernel_tcp_segments()
        assert ask(net, addr, 7005) == "HELLO"
        assert net.server.kernel_tcp_segments()[0] - before[0] >= 4
    data = random.Random(2).randbytes(4 << 20).hex()
    assert ask(net, net.s4, 7005, data) == data.upper()
    net.client.spawn(["socat", "TCP-LISTEN:7006,fork,reuseaddr", "PIPE"], "echo")
    wait.until(lambda: net.client.listening(7006), "the client's server")
    assert net.server.run(["nc", "-N", "-w5", net.c4, "7006"], input="out").stdout == "out"
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    # refused, not silent: the kernel's answer to a closed port
    assert apps.redis_cli(net.client, net.s4, "ping", port=7007, check=False, timeout=3) == ""


@pytest.mark.parametrize("net", ["in_process", "daemon", "daemon.steered"], indirect=True)
def test_rules(net):
    """They are changed from outside, and hold for packets that never see XDP."""
    apps.redis(net)
    proof = net.proof()
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    proof.user_stack(tcp=3)
    path = os.path.join(net.workdir, "rules.json")
    with open(path, "w", encoding="utf8") as f:
        json.dump({"rules": [{"remote": net.c4 + "/32", "action": "kernel"},
                             {"remote": net.c6 + "/128", "action": "drop"}]}, f)
    net.tool("rules", "set", path)
    proof = net.proof()
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    proof.kernel(tcp=3)
    net.client.run(["timeout", "0.5", "redis-cli", "-h", net.s6, "ping"], check=False)
    assert nstack.verdicts(net.server)["drop_rule"] > 0


@pytest.mark.parametrize("net", ["in_process.steered", "daemon.steered"], indirect=True)
def test_the_steering_program_is_attached_again(net):
    """What a killed one left is no obstacle to the next, nor what `nstack load` attached."""
    net.tool("load", net.sif)
    for _ in range(2):
        p = apps.redis(net)
        assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
        net.daemons.pop(net.server, p).kill9()
        p.stop()
        net.client.run(["ping", "-c1", "-W2", net.s4])


@pytest.mark.parametrize("net", ["in_process.steered"], indirect=True)
def test_programs_that_start_together(net):
    """One has the device, and keeps the steering program that its driver attached; the others are the kernel's."""
    digest = apps.blob(f"{net.workdir}/data", 2 << 20)
    net.client.spawn(["socat", "-U", "TCP-LISTEN:7006,fork,reuseaddr", "OPEN:data,rdonly"], "source")
    wait.until(lambda: net.client.listening(7006), "the client's server")
    procs = [net.server.spawn(net.argv(["socat", "-u", f"TCP:{net.c4}:7006", f"CREATE:got{i}"]), f"program-{i}",
                              env=net.env()) for i in range(4)]
    for i, p in enumerate(procs):
        p.ok(30)
        assert apps.sha256(f"{net.workdir}/got{i}") == digest
    assert nstack.redirected(net.server) > 0


@pytest.mark.parametrize("net", ["in_process.steered"], indirect=True)
def test_a_foreign_program_stays(net):
    net.server.run(["ip", "link", "set", "dev", net.sif, "xdpgeneric", "object",
                    os.path.join(nstack.BUILD, "tests/bpf/foreign.bpf.o"), "section", "xdp"])
    apps.redis(net, owned=False)
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    assert "foreign_guard" in net.logs() and "foreign_guard" in net.tool("status").stdout


def test_killed_and_started_again(net):
    """The TAP keeps its addresses; who comes next has the device."""
    for _ in range(2):
        p = apps.redis(net)
        assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
        victim = net.daemons.pop(net.server, p)
        victim.kill9()
        p.stop()
        wire, tap = (net.server.run(["cat", f"/sys/class/net/{x}/address"]).stdout for x in (WIRE, TAP))
        assert wire == tap and net.s4 in net.server.run(["ip", "addr", "show", TAP]).stdout


@pytest.mark.skipif(not shutil.which("dpdk-testpmd"), reason="no testpmd")
@pytest.mark.parametrize("net", ["daemon"], indirect=True)
def test_link(net):
    """The TAP has a carrier as long as the device has a link: a memif, while somebody is at its other end."""
    path = os.path.join(net.workdir, "memif")
    device = f"net_memif0,role={{}},id=0,socket={path},socket-abstract=no"
    config = {**net.keys(), "dpdk": {"devices": [device.format("server")]}}
    net.daemon(net.server, net.config(**config))

    def carrier():
        return "LOWER_UP" in net.server.run(["ip", "link", "show", TAP]).stdout
    wait.until(lambda: not carrier(), "no carrier")
    peer = net.client.spawn(["dpdk-testpmd", "--no-huge", "-m", "128", "--no-shconf", "--no-pci", "--no-telemetry",
                             "--lcores", "0@(0-1),1@(0-1)", "--vdev", device.format("client"), "--", "--no-mlockall",
                             "--total-num-mbufs=4096", "--forward-mode=icmpecho"], "testpmd", stdin="pipe")
    wait.until(carrier, "a carrier")
    peer.kill9()
    wait.until(lambda: not carrier(), "no carrier again")


def test_idle(net):
    p = apps.redis(net)
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    who = [p, *net.daemons.values()]
    before, start = sum(x.cpu_seconds() for x in who), proc.elapsed()
    wait.until(lambda: proc.elapsed() > start + 2, "2 s of idling")
    assert sum(x.cpu_seconds() for x in who) - before < 0.1


@pytest.mark.parametrize("net", ["in_process"], indirect=True)
def test_a_second_program_is_the_kernels(net):
    """The device is the first one's, through which the second is reached."""
    apps.redis(net)
    proof = net.proof()
    apps.redis(net, port=6380, owned=False)
    for addr in (net.s4, net.s6):
        assert apps.redis_cli(net.client, addr, "ping", port=6380) == "PONG"
    assert proof.delta()["kernel_tcp_in"] > 4
    assert "another process has it" in net.logs()
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"


@pytest.mark.parametrize("net", ["in_process"], indirect=True)
def test_without_a_tap_one_is_made(net):
    """With the device's MAC address; it ends with the program."""
    net.server.run(["ip", "link", "del", TAP])
    p = net.server.spawn(net.argv([nstack.PYTHON, *apps.prog("echo.py")[1:], "tcp", "0.0.0.0", 9200]), "echo",
                         env=net.env())
    wait.until(lambda: p.must_run() or f" {TAP}: " in net.server.run(["ip", "link"]).stdout, "the TAP")
    net.server.run(["ip", "addr", "add", net.s4 + "/24", "dev", TAP])
    wait.until(lambda: ask(net, net.s4, 9200) == "hello", "an answer")
    proof = net.proof()
    assert ask(net, net.s4, 9200) == "hello"
    proof.user_stack(tcp=3)
    p.stop()
    wait.until(lambda: f" {TAP}: " not in net.server.run(["ip", "link"]).stdout, "the TAP to go")


def runs_on_the_kernel(net, words, keys=None, prefix=(), env=None, logs=None):
    """The program does, and these words say why, in the folder of logs."""
    config = net.keys()
    config["dpdk"].update(keys or {})
    r = net.server.run([*prefix, *nstack.run_argv([nstack.PYTHON, "-c", """
import socket
s = socket.create_server(("0.0.0.0", 7000))
c = socket.create_connection(("127.0.0.1", 7000))
s.accept()[0].sendall(b"by the kernel")
print(c.recv(100).decode())
"""], net.config(**config))], env={**net.env(), **(env or {}), **({"NSTACK_APP_LOG_PATH": logs} if logs else {})})
    assert r.stdout == "by the kernel\n", r
    said = net.logs() + r.stderr
    for name in os.listdir(logs) if logs else ():
        with open(os.path.join(logs, name), encoding="utf8") as f:
            said += f.read()
    assert words in said, said[-2000:]


@pytest.mark.parametrize("net", ["in_process"], indirect=True)
@pytest.mark.parametrize("prepare, keys, words", [
    (None, {"devices": ["net_nosuch0"]}, "no device"),
    (None, {"devices": ["net_af_packet0,iface=nosuch"]}, "no interface nosuch"),
    (None, {"devices": ["0000:7f:1f.7"]}, "no PCI device 0000:7f:1f.7"),
    (None, {"mtu": 9000}, "max frame size"),
    (None, {"eal": "-m 1"}, "DPDK"),
    (None, {"eal": "--in-memory --huge-unlink"}, "huge"),
    (f"ip addr add 198.18.200.1/24 dev {WIRE}", {}, f"ip addr flush dev {WIRE}"),
    (f"sysctl -w net.ipv4.conf.{WIRE}.rp_filter=0", {}, f"net.ipv4.conf.{WIRE}.rp_filter=1"),
    (f"sysctl -w net.ipv6.conf.{WIRE}.disable_ipv6=0", {}, f"net.ipv6.conf.{WIRE}.disable_ipv6=1"),
    (f"ethtool -K {WIRE} gro on", {}, "gro off"),
    (f"ip link del {TAP}; ip link add {TAP} type veth", {}, "can't be opened as a TAP"),
])
def test_what_is_missing_is_said(net, prepare, keys, words):
    if prepare:
        net.server.run(["sh", "-c", prepare])
    runs_on_the_kernel(net, words, keys)


@pytest.mark.parametrize("net", ["in_process"], indirect=True)
def test_without_the_plugin(net, tmp_path):
    lib = tmp_path / "not" / "installed" / "here" / "libnsocket.so"
    lib.parent.mkdir(parents=True)
    shutil.copy(nstack.LIB, lib)
    runs_on_the_kernel(net, "libnstack_dpdk.so", env={"NSTACK_LIB": str(lib)})
    found = nstack.findings(net.server, ["env", f"NSTACK_LIB={lib}", "NSTACK_CONFIG=" + net.config(**net.keys())])
    assert found["dpdk"][0] == "fail" and "libnstack_dpdk.so" in found["dpdk"][1]


@pytest.mark.parametrize("net, words", [("in_process", "open AF_PACKET socket"),
                                        ("in_process.steered", "Permission denied")], indirect=["net"])
def test_without_permission(net, words):
    """Logs of the user's own say what was refused."""
    logs = os.path.join(net.public, "logs")
    os.mkdir(logs)
    os.chmod(logs, 0o777)
    runs_on_the_kernel(net, words, prefix=nstack.BARE, logs=logs)


@pytest.mark.parametrize("net", ["in_process.steered"], indirect=True)
def test_queues_without_a_socket(net):
    """What they receive would be the kernel's."""
    net.server.run(["ethtool", "-L", net.sif, "rx", "2"])
    runs_on_the_kernel(net, "ethtool -L s0 rx 1")


@pytest.mark.parametrize("net", ["in_process.steered"], indirect=True)
def test_busy_queue(net):
    hog = net.server.spawn([*apps.prog("xsk_hog.py"), net.sif, "0"], "hog", stdin="pipe")
    hog.wait_output("^bound")
    runs_on_the_kernel(net, "queue 0: Invalid argument xsk_configure(): Failed to create xsk socket")


@pytest.mark.parametrize("net", ["in_process"], indirect=True)
def test_doctor(net):
    """Says the same before a program runs."""
    config = net.keys()
    config["dpdk"]["devices"] += ["0000:7f:1f.7", "net_ring0"]
    prefix = ["env", "NSTACK_CONFIG=" + net.config(**config)]
    found = nstack.findings(net.server, prefix)
    assert found["dpdk"][0] == "ok" and found[f"dpdk net_af_packet0,iface={WIRE}"][0] == "ok", found
    assert found["dpdk 0000:7f:1f.7"][0] == "fail" and found["dpdk net_ring0"][0] == "warn", found
    net.server.run(["ethtool", "-K", WIRE, "gro", "on"])
    verdict, detail = nstack.findings(net.server, prefix)[f"dpdk net_af_packet0,iface={WIRE}"]
    assert verdict == "fail" and f"ethtool -K {WIRE} gro off" in detail
