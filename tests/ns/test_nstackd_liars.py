# SPDX-License-Identifier: Apache-2.0
"""nstackd and programs that know how it works: each of these once stopped it, or took what is another's."""
import fcntl
import mmap
import os
import signal
import socket
import struct

import pytest

from lib import nstack
from lib.liar import (ACCEPT, BIND, CLAIM, LISTEN, OPEN, PARK, QUIET, TAKE, TO_KERNEL, V4TOO, address, alloc, attach,
                      call, dial, listener, result, show)
from lib.wait import until
from test_nstackd import ask, server

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstack")
PROTO, RX = 9, 256 # where in a session it says its protocol, and its receive FIFO is described
SO_SNDBUFFORCE = 32


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


def put_in_queue(fds, sizes, listening, session):
    """As if the session were a connection that waits for accept()."""
    n, rx, _ = sizes
    part = mmap.mmap(fds[0], os.fstat(fds[0]).st_size)
    slots = (n * 512 + 4095) & ~4095
    struct.pack_into("=I", part, 4096 + slots + listening * rx, session)
    struct.pack_into("=QQ", part, 4096 + listening * 512 + RX, 4, 0)


def test_a_listener_is_nothing_to_accept(net):
    """Two programs have two listeners together; one says that its other one waits in the queue of the first."""
    server(net, 7000)
    a, b = create_server(net, 7100), create_server(net, 7101)
    s, fds, sizes = attach(net)
    t, _, _ = attach(net)
    first = listener(s, net.s4, 7100, a)
    taker = listener(t, net.s4, 7100, a)
    host = listener(t, net.s4, 7101, b)
    put_in_queue(fds, sizes, first, listener(s, net.s4, 7101, b))
    assert result(t, call(ACCEPT, session=taker)) == -11
    assert result(t, call(ACCEPT, session=host)) == -11
    assert ask(net, 7000) == "HELLO"


def test_ports_of_the_other_family(net):
    """An IPv6 socket that takes no IPv4 shows nothing of the IPv4 port of that number, which may be another's."""
    server(net, 7000)
    s, _, _ = attach(net)
    for kind, proto in ((socket.SOCK_STREAM, socket.IPPROTO_TCP), (socket.SOCK_DGRAM, socket.IPPROTO_UDP)):
        other = socket_in(net, socket.AF_INET, kind)
        other.bind(("0.0.0.0", 7200))
        mine = socket_in(net, socket.AF_INET6, kind)
        mine.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        mine.bind(("::", 7200))
        for ip in ("0.0.0.0", net.s4):
            assert show(s, call(CLAIM, arg=proto, local=address(ip, 7200)), mine) == -13
        assert show(s, call(CLAIM, arg=proto, arg2=V4TOO, local=address("::", 7200)), mine) == -13
        assert show(s, call(CLAIM, arg=proto, local=address("::", 7200)), mine) == 0
        both = socket_in(net, socket.AF_INET6, kind)
        both.bind(("::", 7201))
        assert show(s, call(CLAIM, arg=proto, arg2=V4TOO, local=address("::", 7201)), both) == 0
        assert show(s, call(CLAIM, arg=proto, local=address(net.s4, 7201)), both) == 0
        one = socket_in(net, socket.AF_INET6, kind)
        one.bind((net.s6, 7203))
        assert show(s, call(CLAIM, arg=proto, arg2=V4TOO, local=address(net.s6, 7203)), one) == 0
        device = socket_in(net, socket.AF_INET, kind)
        device.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        device.bind(("0.0.0.0", 7202))
        assert show(s, call(CLAIM, arg=proto, local=address("0.0.0.0", 7202)), device) == -13


def test_a_listener_that_is_parked(net):
    """What is parked of an ended program is given back, also what was no connection."""
    server(net, 7000)
    before = nstack.accounts(net.server)
    s, fds, _ = attach(net)
    sock = create_server(net, 7100)
    session = listener(s, net.s4, 7100, sock)
    with socket_in(net) as other:
        show(s, call(PARK, session=session), other)
    s.close()
    until(lambda: nstack.accounts(net.server)["parts"] == before["parts"], "its memory to be given back")
    until(lambda: nstack.accounts(net.server)["parked"] == 0, "what is parked to be given back")
    for key in ("descriptors", "sessions", "ports"):
        assert nstack.accounts(net.server)[key] == before[key]
    assert ask(net, 7000) == "HELLO"


def watched(pid):
    """What the process waits for by epoll."""
    n = 0
    for fd in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as f:
                n += f.read().count("tfd:")
        except FileNotFoundError:
            pass
    return n


def test_bells_of_the_past(net):
    """Whoever keeps the bell of a connection that has ended can't wake the daemon by it."""
    d = net.daemon(net.server)
    parts = nstack.accounts(net.server)["parts"]
    before = watched(d.pid)
    for _ in range(8):
        s, _, _ = attach(net)
        s.close()
    until(lambda: nstack.accounts(net.server)["parts"] == parts, "their memory to be given back")
    # the tool that asks is waited for as well, and may have been when that was counted
    until(lambda: watched(d.pid) <= before, "nothing of them to be waited for")


def flood(s, message, sock):
    """In a process of its own, until it is killed."""
    pid = os.fork()
    if pid:
        return pid
    try:
        while True:
            socket.send_fds(s, [message], [sock.fileno()])
    finally:
        os._exit(0)


def parked(net, s):
    """A socket that other programs may show to take a session of s."""
    sock = socket_in(net)
    assert show(s, call(PARK, session=alloc(s)), sock) == 0
    return sock


def test_a_look_at_one_who_never_stops(net):
    """Who asks for what another program has makes the daemon hear that one out, but not for ever."""
    server(net, 7000)
    s, _, _ = attach(net)
    t, _, _ = attach(net)
    sock = parked(net, t)
    datagrams = socket_in(net, socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((net.s4, 0))
    child = flood(t, call(TO_KERNEL, QUIET, session=alloc(t, socket.IPPROTO_UDP)), datagrams) # takes the daemon long
    try:
        for _ in range(5):
            assert show(s, call(TAKE), sock) == -11
        assert ask(net, 7000) == "HELLO"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_two_who_look_at_each_other(net):
    """Each of their messages is a reason to hear the other one first."""
    d = net.daemon(net.server)
    s, _, _ = attach(net)
    t, _, _ = attach(net)
    mine, yours = parked(net, s), parked(net, t)
    os.kill(d.pid, signal.SIGSTOP)
    for x, sock in ((s, yours), (t, mine)):
        x.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20) # more of them than fit at first
        for _ in range(2000):
            socket.send_fds(x, [call(TAKE, QUIET)], [sock.fileno()])
    os.kill(d.pid, signal.SIGCONT)
    assert show(s, call(TAKE), yours) == -11
    server(net, 7000)
    assert ask(net, 7000) == "HELLO"


def lingering(net, room=None):
    """A connection of the kernel's, the last close() of which takes a minute; and its other end. room: for what is
    under way."""
    with net.server.inside(), socket.create_server(("127.0.0.1", 0)) as sink:
        if room:
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        s = socket.create_connection(sink.getsockname())
        peer, _ = sink.accept()
    if room:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
    s.setblocking(False)
    try:
        while True:
            s.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    return s, peer


def in_a_unix_socket(s):
    one, other = socket.socketpair()
    socket.send_fds(one, [b"x"], [s.fileno()])
    one.close()
    return other


@pytest.mark.parametrize("how", ["shown", "many", "in_a_unix_socket", "too_long", "unread", "after_empty_ones", "at_the_door"])
def test_a_socket_that_lingers(net, how):
    """The daemon is the last to close it, and waits for nobody."""
    server(net, 7000)
    d = net.daemon(net.server)
    s = dial(net) if how == "at_the_door" else attach(net)[0]
    mine, peer = lingering(net)
    carrier = in_a_unix_socket(mine) if how == "in_a_unix_socket" else mine
    nothing = call(0, QUIET)
    os.kill(d.pid, signal.SIGSTOP)
    if how == "unread":
        s.send(b"this ends it")
    if how == "after_empty_ones": # the first ends it, the next ones look like the end of the connection
        s.send(b""), s.send(b"")
    socket.send_fds(s, [nothing * (40 if how == "too_long" else 1)], [carrier.fileno()] * (200 if how == "many" else 1))
    for x in (mine, carrier):
        x.close()
    os.kill(d.pid, signal.SIGCONT)
    assert ask(net, 7000) == "HELLO"
    s.close()
    assert ask(net, 7000) == "HELLO"
    peer.close() # nobody waits any more


def test_more_than_there_are_threads_for(net):
    """A hundred at once that take a minute each: they are closed all the same, when they can be."""
    server(net, 7000)
    before = nstack.accounts(net.server)["descriptors"]
    s, _, _ = attach(net)
    pairs = [lingering(net, room=4096) for _ in range(100)]
    pid = net.daemon(net.server).pid
    s.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20)
    os.kill(pid, signal.SIGSTOP) # the last close() shall not be here
    for mine, _ in pairs:
        with mine, in_a_unix_socket(mine) as carrier:
            socket.send_fds(s, [call(0, QUIET)], [carrier.fileno()])
    os.kill(pid, signal.SIGCONT)
    assert ask(net, 7000) == "HELLO"
    s.close()
    for _, peer in pairs:
        peer.close()
    until(lambda: nstack.accounts(net.server)["descriptors"] <= before, "all of them to be closed")


def test_a_port_that_is_closed_and_kept(net):
    """The kernel lets the next program have the port, and so does the daemon."""
    net.daemon(net.server)
    s, _, _ = attach(net)
    with create_server(net, 7100) as mine:
        listener(s, net.s4, 7100, mine)
    server(net, 7100)
    assert ask(net, 7100) == "HELLO"


def test_a_session_of_another_protocol(net):
    """To have a port of UDP's is not to have that of TCP's, whatever the session says that it is."""
    server(net, 7000)
    s, fds, _ = attach(net)
    udp = socket_in(net, socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((net.s4, 7000))
    there = address(net.s4, 7000)
    assert show(s, call(CLAIM, arg=socket.IPPROTO_UDP, local=there), udp) == 0
    session = alloc(s)
    assert result(s, call(OPEN, session=session)) == 0
    mmap.mmap(fds[0], 1 << 20)[4096 + session * 512 + PROTO] = socket.IPPROTO_UDP
    assert result(s, call(BIND, session=session, local=there)) == -13


def test_a_listener_a_thousand_times(net):
    """One program has a few sessions for it: each is looked at for every connection, and at the end."""
    server(net, 7000)
    s, _, _ = attach(net)
    sock, there = create_server(net, 7100), address(net.s4, 7100)
    listener(s, net.s4, 7100, sock)
    results = []
    for _ in range(30):
        session = alloc(s)
        results.append(show(s, call(OPEN, QUIET, session) + call(BIND, QUIET, session, local=there) +
                            call(LISTEN, session=session), sock))
    assert results == [0] * 15 + [-12] * 15
    with net.client.inside():
        socket.create_connection((net.s4, 7100), 5).close()
    assert ask(net, 7000) == "HELLO"
