# SPDX-License-Identifier: Apache-2.0
"""nstackd: programs without privilege, several at once, the end of either side, programs that lie."""
import json
import mmap
import os
import random
import signal
import socket
import struct

import pytest

from lib import apps, nstack, proc
from lib.liar import (ACCEPT, ALLOC, BIND, CALL, CLAIM, CONNECT, HELLO, LISTEN, MAGIC, OPEN, QUIET, VERSION, address,
                      attach, call, dial, listen, result)
from lib.wait import until

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstack")
UPPER = apps.prog("upper.py")


@pytest.fixture
def mode():
    return "daemon"


def server(net, port, name="server", bare=True, addr=None):
    """A program under nstackd, up and owning its port."""
    net.daemon(net.server)
    argv = nstack.run_argv([*UPPER, addr or net.s4, port])
    p = net.server.spawn((nstack.BARE if bare else []) + argv, name, env=net.env())
    p.wait_output("up")
    until(lambda: ("tcp", port) in nstack.claims(net.server), f"port {port} to be claimed")
    return p


def ask(net, port, text="hello", addr=None):
    return net.client.run(["nc", "-N", "-w5", addr or net.s4, str(port)], input=text, check=False).stdout


def sessions(net):
    (d,) = [p for p in nstack.processes(net.server) if p["program"] == "nstackd"]
    return d["sessions_used"]


def test_without_privilege(net):
    for addr in (net.s4, net.s6):
        p = server(net, 7000, addr=addr)
        proof = net.proof()
        for i in range(5):
            assert ask(net, 7000, f"hello {i}", addr) == f"HELLO {i}"
        proof.user_stack(tcp=15)
        p.stop()
        until(lambda: ("tcp", 7000) not in nstack.claims(net.server), "the port to be free")
    until(lambda: sessions(net) == 0, "every session to be given back")


def test_a_client_without_privilege(net):
    net.daemon(net.client)
    net.server.spawn(["socat", "TCP-LISTEN:7001,fork,reuseaddr", "PIPE"], "echo")
    until(lambda: net.server.listening(7001), "the server")
    proof = net.proof(net.client)
    out = net.client.run(nstack.BARE + nstack.run_argv(["nc", "-N", "-w5", net.s4, "7001"]), input="over there").stdout
    assert out == "over there"
    proof.user_stack(tcp=3)


def test_bulk_is_intact(net):
    """Both ways, through the FIFOs that two processes share."""
    server(net, 7000)
    data = random.Random(1).randbytes(20 << 20).hex()[:20 << 20]
    assert ask(net, 7000, data) == data.upper()


#: closes its listener once a thread sleeps in accept()
CLOSE_UNDER = """
import socket, sys, threading, time
s = socket.create_server((sys.argv[1], 7000))
print("up", flush=True)
sys.stdin.readline()
def serve():
    print("accepted", s.accept()[0].recv(9), flush=True)
t = threading.Thread(target=serve)
t.start()
asleep = 0
while asleep < 10:
    time.sleep(0.01)
    with open(f"/proc/self/task/{t.native_id}/stat") as f:
        asleep = asleep + 1 if f.read().rsplit(")", 1)[1].split()[0] == "S" else 0
s.close()
print("closed", flush=True)
t.join()
"""


def test_close_under_accept_that_waits_for_the_daemon(net):
    """The thread is in accept() from the beginning: the listener stays open for it, as in the kernel."""
    d = net.daemon(net.server)
    p = net.server.spawn(nstack.BARE + nstack.run_argv([nstack.PYTHON, "-c", CLOSE_UNDER, net.s4]), "close",
                         env=net.env(), stdin="pipe")
    p.wait_output("up")
    os.kill(d.pid, signal.SIGSTOP)
    try:
        p.popen.stdin.write(b"go\n")
        p.popen.stdin.flush()
        p.wait_output("closed")
    finally:
        os.kill(d.pid, signal.SIGCONT)
    ask(net, 7000)
    assert p.wait(10) == 0
    assert "accepted b'hello'" in p.stdout()


def test_second_daemon_is_refused(net):
    d = net.daemon(net.server)
    r = net.server.run([nstack.DAEMON], check=False)
    assert r.returncode == 1 and f"process {d.pid} is the nstackd" in r.stderr, r.stderr


def test_a_daemon_of_another_namespace_is_not_found(net):
    net.daemon(net.server)
    net.client.spawn(nstack.BARE + nstack.run_argv([*UPPER, net.c4, 7000]), "server").wait_output("up")
    assert not [p for p in nstack.processes(net.server) if p["program"].startswith("python")]
    assert net.server.run(["nc", "-N", "-w5", net.c4, "7000"], input="hello").stdout == "HELLO"  # by the kernel


def test_who_may_attach(net):
    net.daemons[net.server] = net.server.spawn([nstack.DAEMON, "--user", "daemon"], "nstackd", env=net.env())
    until(lambda: nstack.daemon_ready(net.server), "nstackd")
    p = net.server.spawn(nstack.BARE + nstack.run_argv([*UPPER, net.s4, 7000]), "server")
    p.wait_output("up")
    assert ask(net, 7000) == "HELLO" # by the kernel
    assert not nstack.claims(net.server)


def test_a_port_has_one_program(net):
    server(net, 7000)
    second = net.server.spawn(nstack.BARE + nstack.run_argv([*UPPER, net.s4, 7000]), "second")
    until(lambda: not second.running(), "its end")
    assert "Address already in use" in second.stderr()
    assert ask(net, 7000) == "HELLO"


def test_program_is_killed(net):
    """Its client sees the end, its port is free, nothing of it stays."""
    p = server(net, 7000)
    with net.client.inside():
        c = socket.create_connection((net.s4, 7000), 5)
    c.sendall(b"x")
    assert c.recv(10) == b"X"
    (child,) = [q["pid"] for q in nstack.processes(net.server) if q["program"].startswith("python")]
    os.kill(child, signal.SIGKILL)
    c.settimeout(5)
    try:
        assert c.recv(10) == b""
    except ConnectionResetError:
        pass
    c.close()
    until(lambda: not p.running(), "its end")
    until(lambda: ("tcp", 7000) not in nstack.claims(net.server), "the port to be free")
    until(lambda: sessions(net) == 0, "its sessions to be given back")
    server(net, 7000, "again")
    assert ask(net, 7000) == "HELLO"


def alarms(net, *options):
    return json.loads(net.tool("alarms", "--json", *options).stdout)


def test_daemon_is_killed_and_returns(net):
    server(net, 7000)
    with net.client.inside():
        c = socket.create_connection((net.s4, 7000), 5)
    c.sendall(b"x")
    assert c.recv(10) == b"X"
    d = net.daemon(net.server)
    os.kill(d.pid, signal.SIGKILL)
    until(lambda: not d.running(), "its end")
    # what was there is reset, what comes is the kernel's
    c.settimeout(10)
    c.sendall(b"y")
    with pytest.raises(ConnectionResetError):
        c.recv(10)
    c.close()
    until(lambda: ask(net, 7000) == "HELLO", "the kernel to serve")
    until(lambda: [(a["name"], a["severity"]) for a in alarms(net)] == [("no_stack", "major")], "the program's alarm")
    net.daemon(net.server)
    until(lambda: ("tcp", 7000) in nstack.claims(net.server), "the listener to be taken up again")
    assert not alarms(net)
    (cleared,) = alarms(net, "--all")
    assert not cleared["raised"] and cleared["cleared_s"] >= cleared["raised_s"] and "nstackd" in cleared["text"]
    proof = net.proof()
    assert ask(net, 7000) == "HELLO"
    proof.user_stack(tcp=3)


def test_daemon_ends_cleanly(net):
    """What goes on without it is in test_daemon_moves.py."""
    server(net, 7000)
    d = net.daemon(net.server)
    os.kill(d.pid, signal.SIGTERM)
    until(lambda: not d.running(), "its end")
    assert d.popen.returncode == 0
    until(lambda: ask(net, 7000) == "HELLO", "the kernel to serve")


def test_idle_costs_nothing(net):
    """Without traffic neither the daemon nor its program is woken."""
    p = server(net, 7000)
    assert ask(net, 7000) == "HELLO"
    pids = [net.daemon(net.server).pid, p.pid]
    until(lambda: proc.sleeps(pids), "a second without a wake-up")


# --- programs that do not keep to the protocol --------------------------------------------------

def test_garbage_is_cut_off(net):
    server(net, 7000)
    rnd = random.Random(7)
    for i in range(200):
        s = dial(net)
        try:
            if i % 2:
                s.send(call(HELLO, session=MAGIC, arg=VERSION))
                for fd in socket.recv_fds(s, 400, 8)[1]:
                    os.close(fd)
            for _ in range(rnd.randrange(1, 20)):
                size = rnd.choice([0, 1, CALL.size, 3 * CALL.size, rnd.randrange(6000)])
                s.send(rnd.randbytes(size))
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass
        s.close()
    assert ask(net, 7000) == "HELLO"


def test_random_calls_harm_nobody(net):
    server(net, 7000)
    rnd = random.Random(11)
    s, fds, _ = attach(net)
    with net.server.inside():
        mine = socket.socket()
    for i in range(3000):
        message = call(rnd.randrange(0, 22), QUIET if i % 50 else 0, rnd.choice([0, 1, 2, 3, rnd.getrandbits(32)]),
                       rnd.choice([0, 2, 6, 10, 17, rnd.randrange(-99, 99)]),
                       rnd.choice([0, 6, 17, rnd.randrange(-99, 99)]), rnd.choice([0, 4, 64, rnd.getrandbits(32)]),
                       address(net.s4, rnd.choice([0, 7000, 7001])), address(net.c4, rnd.choice([0, 9, 7000])),
                       rnd.randbytes(64))
        if i % 10:
            s.send(message)
        else:
            socket.send_fds(s, [message], [mine.fileno()])
        if i % 50 == 0:
            s.recv(400)
    assert ask(net, 7000) == "HELLO"
    s.close()
    for fd in fds:
        os.close(fd)
    until(lambda: sessions(net) == 1, "only the listener to be left")
    until(lambda: not nstack.accounts(net.server)["parked"], "what is parked to be given back")


def test_a_port_of_another_is_refused(net):
    """Without the socket that is bound there, with one that is not, and of another namespace."""
    server(net, 7000)
    s, _, _ = attach(net)
    there = address(net.s4, 7000)
    assert result(s, call(CLAIM, arg=socket.IPPROTO_TCP, local=there)) == -13
    with net.server.inside():
        unbound = socket.socket()
        udp = socket.socket(type=socket.SOCK_DGRAM)
        udp.bind((net.s4, 7000))
    other = socket.create_server(("127.0.0.1", 0))
    for fd in (unbound.fileno(), udp.fileno(), other.fileno(), s.fileno()):
        socket.send_fds(s, [call(CLAIM, arg=socket.IPPROTO_TCP, local=there)], [fd])
        assert struct.unpack_from("=i", s.recv(400))[0] == -13
    # nor does a session get it by asking the stack past the claim
    s.send(call(ALLOC, arg=socket.AF_INET, arg2=socket.IPPROTO_TCP))
    msg = s.recv(400)
    session = struct.unpack_from("=I", msg, 4)[0]
    assert result(s, call(OPEN, session=session)) == 0
    assert result(s, call(BIND, session=session, local=there)) == -13
    assert result(s, call(LISTEN, session=session, arg=5)) == -13
    assert result(s, call(CONNECT, session=session, remote=address(net.c4, 80))) == -13
    assert ask(net, 7000) == "HELLO"


def test_memory_of_one_program_only(net):
    """What a program gets is its part, sealed: another one's sessions are not in it."""
    server(net, 7000)
    s, fds, (n, rx, tx) = attach(net)
    t, others, _ = attach(net)
    size = os.fstat(fds[0]).st_size
    assert size >= n * (rx + tx)
    for fd in fds[:2]:
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 4096)
    with pytest.raises(PermissionError):
        mmap.mmap(fds[4], 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    a = mmap.mmap(fds[0], 1 << 20)
    b = mmap.mmap(others[0], 1 << 20)
    a[5000:5005] = b"mine!"
    assert b[5000:5005] == bytes(5)
    assert not any(b[:1 << 20]), "sessions of somebody else"
    s.close()
    t.close()


def test_scribbling_harms_only_oneself(net):
    """Random bytes over all that a program can write to, with connections going on."""
    server(net, 7000)
    s, fds, (n, rx, tx) = attach(net)
    with net.server.inside():
        mine = socket.create_server((net.s4, 7100))
    rnd = random.Random(3)
    local = address(net.s4, 7100)
    socket.send_fds(s, [call(CLAIM, arg=socket.IPPROTO_TCP, local=local)], [mine.fileno()])
    assert struct.unpack_from("=i", s.recv(400))[0] == 0
    s.send(call(ALLOC, arg=socket.AF_INET, arg2=socket.IPPROTO_TCP))
    session = struct.unpack_from("=I", s.recv(400), 4)[0]
    listen(s, session, local, mine)
    # somebody who has the same listener takes from the queue that it spoils
    t, _, _ = attach(net)
    socket.send_fds(t, [call(CLAIM, arg=socket.IPPROTO_TCP, local=local)], [mine.fileno()])
    assert struct.unpack_from("=i", t.recv(400))[0] == 0
    t.send(call(ALLOC, arg=socket.AF_INET, arg2=socket.IPPROTO_TCP))
    second = struct.unpack_from("=I", t.recv(400), 4)[0]
    listen(t, second, local, mine)
    slots = mmap.mmap(fds[0], 4096 + 64 * 512)
    notify = mmap.mmap(fds[1], os.fstat(fds[1]).st_size)
    one = struct.pack("=Q", 1)
    with net.client.inside():
        clients = [socket.socket() for _ in range(8)]
        for c in clients:
            c.setblocking(False)
            c.connect_ex((net.s4, 7100))
    for i in range(4000):
        m = rnd.choice([slots, slots, notify])
        at = rnd.randrange(len(m) - 8)
        m[at:at + 8] = rnd.randbytes(8) if i % 3 else struct.pack("=Q", rnd.choice([0, 1, 2 ** 32, 2 ** 64 - 1]))
        if i % 7 == 0:
            head = struct.unpack_from("=I", notify, 0)[0]
            notify[0:4] = struct.pack("=I", (head + rnd.randrange(3)) & 0xffffffff)
            os.write(fds[2], one)
        if i % 16 == 0:
            try:
                clients[i % 8].send(b"data")
            except OSError:
                pass
        if i % 50 == 0:
            assert result(t, call(ACCEPT, session=second)) in (0, -11)
        if i % 500 == 0:
            assert ask(net, 7000) == "HELLO"
    for c in clients:
        c.close()
    s.close()
    assert result(t, call(ACCEPT, session=second)) in (0, -11)
    mine.close()
    t.close()
    assert ask(net, 7000) == "HELLO"
    until(lambda: sessions(net) == 1, "the liar's sessions to be given back")


def test_options(net):
    for args, words in ((["--programs", "0"], "--programs"), (["--programs", "4294967297"], "--programs"),
                        (["--config", ""], "--config"), (["--user", "nobody-there"], "--user"),
                        (["--group", "none-such"], "--group"), (["extra"], "extra"), (["--wrong"], "--help")):
        r = net.server.run([nstack.DAEMON, *args], check=False)
        assert r.returncode == 2 and words in r.stderr, r
    assert "SIGHUP" in net.server.run([nstack.DAEMON, "--help"]).stdout
    r = net.server.run([nstack.DAEMON, "--config", "/nowhere.json"], check=False)
    assert r.returncode == 1 and "/nowhere.json" in r.stderr, r
