# SPDX-License-Identifier: Apache-2.0
"""Socket calls, one scenario after the other, their results as JSON.

    calls.py serve ADDR PORT    the program under test: prints {scenario: result}
    calls.py peer ADDR PORT     the other side, always the plain kernel

For each scenario the peer connects, says its name in 16 bytes, and plays its part (PEER); the
server plays its own (SERVE) with the accepted socket. What differs between kernels of the same
kind (times, ports, buffer sizes) is not part of a result.
"""
import array
import ctypes
import errno
import fcntl
import json
import os
import select
import socket
import struct
import sys
import tempfile
import termios
import time

LINGER0 = struct.pack("ii", 1, 0)
TIMEVAL_50MS = struct.pack("ll", 0, 50_000)
LIBC = ctypes.CDLL(None, use_errno=True)


def attempt(f, *args):
    """The result, or the name of the error."""
    try:
        r = f(*args)
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e))
    return r.decode("latin1") if isinstance(r, bytes) else r


def readable(s, ms=5000):
    p = select.poll()
    p.register(s, select.POLLIN)
    return bool(p.poll(ms))


def mask(s, want=select.POLLIN | select.POLLOUT | select.POLLRDHUP):
    p = select.poll()
    p.register(s, want)
    return dict(p.poll(0)).get(s.fileno(), 0)


def until(cond):
    end = time.monotonic() + 10
    while not cond():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def all_of(s, n):
    out = b""
    while len(out) < n:
        b = s.recv(n - len(out))
        if not b:
            break
        out += b
    return out


# --- scenarios: server's part, peer's part -----------------------------------------------------

def s_peek(c, env):
    readable(c)
    return [attempt(c.recv, 3, socket.MSG_PEEK), attempt(all_of, c, 6)]


def s_dontwait(c, env):
    return [attempt(c.recv, 1, socket.MSG_DONTWAIT), attempt(c.recv, 0, socket.MSG_DONTWAIT)]


def s_waitall(c, env):
    return attempt(c.recv, 6, socket.MSG_WAITALL)


def p_waitall(p, env):
    p.sendall(b"abc")
    time.sleep(0.05)
    p.sendall(b"def")


def s_trunc(c, env):
    readable(c)
    return [len(c.recv(4, socket.MSG_TRUNC)), attempt(all_of, c, 6)]


def fionread(s):
    buf = array.array("i", [0])
    fcntl.ioctl(s, termios.FIONREAD, buf)
    return buf[0]


def s_fionread(c, env):
    until(lambda: fionread(c) == 5)
    return [fionread(c), attempt(c.recv, 5), fionread(c)]


def s_rcvtimeo(c, env):
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEVAL_50MS)
    return attempt(c.recv, 1)


def s_eof(c, env):
    until(lambda: mask(c) & select.POLLRDHUP)
    before = mask(c)
    return [before, attempt(c.recv, 9), attempt(c.recv, 9), attempt(c.send, b"late"), mask(c)]


def p_eof(p, env):
    p.shutdown(socket.SHUT_WR)
    return attempt(all_of, p, 4)


def s_reset(c, env):
    until(lambda: mask(c) & select.POLLHUP)
    return [mask(c), attempt(c.recv, 1), attempt(c.recv, 1),
            attempt(c.send, b"x", socket.MSG_NOSIGNAL)]


def p_reset(p, env):
    p.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER0)
    p.close()


def s_epipe(c, env):
    c.shutdown(socket.SHUT_WR)
    return [attempt(c.send, b"x", socket.MSG_NOSIGNAL), attempt(all_of, c, 3)]


def p_epipe(p, env):
    got = attempt(p.recv, 1)
    p.sendall(b"end")
    return got


def s_options(c, env):
    out = []
    for level, name, value in (
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.IPPROTO_TCP, socket.TCP_CORK, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 33), (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 7),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 9000), (socket.IPPROTO_TCP, 9999, 1)):
        out.append([name, bool(attempt(c.getsockopt, level, name)),
                    attempt(c.setsockopt, level, name, value), attempt(c.getsockopt, level, name)])
    for name in (socket.SO_TYPE, socket.SO_DOMAIN, socket.SO_PROTOCOL, socket.SO_ERROR,
                 socket.SO_ACCEPTCONN):
        out.append([name, attempt(c.getsockopt, socket.SOL_SOCKET, name)])
    out.append(env["listener"].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    return out


def s_tcp_info(c, env):
    all_of(c, 1000)
    info = c.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
    received = struct.unpack_from("Q", info, 128)[0]
    mss, = struct.unpack_from("I", info, 16)
    return [info[0], received, mss > 500, struct.unpack_from("I", info, 68)[0] > 0]


def p_tcp_info(p, env):
    p.sendall(bytes(1000))
    p.recv(1)


def s_names(c, env):
    return [c.getsockname()[0] == env["addr"], c.getsockname()[1] == env["port"],
            attempt(env["listener"].getpeername), attempt(c.listen, 1), attempt(c.bind, ("", 0))]


def s_flags(c, env):
    get = lambda: fcntl.fcntl(c, fcntl.F_GETFL) & os.O_NONBLOCK
    out = [get()]
    c.setblocking(False)
    out += [bool(get()), attempt(c.recv, 1)]
    fcntl.ioctl(c, termios.FIONBIO, struct.pack("i", 0))
    return out + [get(), os.fstat(c.fileno()).st_mode & 0o170000]


def s_vectors(c, env):
    readable(c)
    until(lambda: fionread(c) == 9)
    a, b = bytearray(4), bytearray(8)
    n = os.readv(c.fileno(), [a, b])
    return [n, a.decode(), bytes(b[:n - 4]).decode(), os.writev(c.fileno(), [b"one", b"", b"two"]),
            c.sendmsg([b"three", b"four"])]


def p_vectors(p, env):
    p.sendall(b"ninebytes")
    return attempt(all_of, p, 15)


def s_recvmsg(c, env):
    until(lambda: fionread(c) == 5)
    data, anc, flags, _ = c.recvmsg(3, 100, socket.MSG_PEEK)
    data2, *_ = c.recvmsg(99)
    return [data.decode(), anc, flags, data2.decode()]


def s_sendfile(c, env):
    with tempfile.TemporaryFile() as f:
        f.write(bytes(range(256)) * 1000)
        f.flush()
        sent, off = 0, 100
        while off < 256_000:
            n = os.sendfile(c.fileno(), f.fileno(), off, 256_000 - off)
            off += n
            sent += n
        return [sent, f.tell()]


def p_sendfile(p, env):
    return all_of(p, 255_900) == (bytes(range(256)) * 1000)[100:]


def s_dup(c, env):
    d = os.dup(c.fileno())
    c.close()
    os.write(d, b"by the duplicate")
    os.close(d)


def p_dup(p, env):
    return [attempt(all_of, p, 16), attempt(p.recv, 1)]


def s_linger(c, env):
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
    c.sendall(bytes(300_000))
    c.close()


def p_linger(p, env):
    return [len(all_of(p, 300_000)), attempt(p.recv, 1)]


def s_abort(c, env):
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER0)
    c.close()


def s_unread(c, env):
    readable(c)
    c.close()


def p_ends(p, env):
    p.sendall(b"x")
    return attempt(p.recv, 1)


def s_select(c, env):
    r, w, _ = select.select([c, env["listener"]], [c], [], 5)
    first = [c in r, env["listener"] in r, c in w]
    r, _, _ = select.select([c], [], [], 5)
    ep = select.epoll()
    ep.register(c, select.EPOLLIN | select.EPOLLET)
    out = [first, bool(r), len(ep.poll(1)), len(ep.poll(0)), c.recv(1).decode()]
    ep.close()
    return out


def p_one(p, env):
    time.sleep(0.05)
    p.sendall(b"1")


def udp(env):
    s = socket.socket(env["family"], socket.SOCK_DGRAM)
    s.bind((env["any"], env["port"]))
    return s


def s_udp(c, env):
    s = udp(env)
    c.sendall(b"!")
    out = []
    readable(s)
    data, anc, flags, peer = s.recvmsg(4, 100)
    out.append([data.decode(), flags & socket.MSG_TRUNC == socket.MSG_TRUNC, peer[0] == env["peer"]])
    readable(s)
    out.append(attempt(s.recv, 2, socket.MSG_PEEK))
    data, peer = s.recvfrom(100)
    out.append([data.decode(), s.sendto(b"answer", peer)])
    readable(s)
    out.append([len(s.recv(100)), attempt(s.recv, 1, socket.MSG_DONTWAIT)])
    s.connect(peer)
    out.append([s.send(b"connected"), s.getpeername()[0] == env["peer"]])
    s.close()
    return out


def p_udp(p, env):
    p.recv(1)
    s = socket.socket(env["family"], socket.SOCK_DGRAM)
    s.settimeout(10)
    to = (env["addr"], env["port"])
    s.sendto(b"truncated", to)
    s.sendto(b"whole", to)
    got = s.recv(100).decode()
    s.sendto(b"", to)
    return [got, s.recv(100).decode()]


def s_pktinfo(c, env):
    s = udp(env)
    v6 = env["family"] == socket.AF_INET6
    if v6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        s.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    c.sendall(b"!")
    readable(s)
    data, anc, flags, peer = s.recvmsg(100, 200)
    level, kind, raw = anc[0]
    if v6:
        to, index = socket.inet_ntop(socket.AF_INET6, raw[:16]), struct.unpack_from("i", raw, 16)[0]
    else:
        to, index = socket.inet_ntoa(raw[8:12]), struct.unpack_from("i", raw)[0]
    s.sendmsg([b"from the same"], [(level, kind, raw)], 0, peer)
    s.close()
    return [data.decode(), level, kind, to == env["addr"], index > 0, flags]


def p_pktinfo(p, env):
    p.recv(1)
    s = socket.socket(env["family"], socket.SOCK_DGRAM)
    s.settimeout(10)
    s.sendto(b"who?", (env["addr"], env["port"]))
    data, peer = s.recvfrom(100)
    return [data.decode(), peer[0] == env["addr"]]


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class Msghdr(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.POINTER(Iovec)),
                ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p),
                ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int)]


class Mmsghdr(ctypes.Structure):
    _fields_ = [("hdr", Msghdr), ("len", ctypes.c_uint)]


def mmsg(bufs):
    vec, keep = (Mmsghdr * len(bufs))(), []
    for v, b in zip(vec, bufs):
        iov = (Iovec * 1)(Iovec(ctypes.addressof(b), len(b)))
        v.hdr.iov, v.hdr.iovlen = iov, 1
        keep.append(iov)
    return vec, keep


def s_mmsg(c, env):
    s = udp(env)
    c.sendall(b"!")
    c.recv(1)  # all three are sent
    readable(s)
    until(lambda: fionread(s) >= 1)
    time.sleep(0.05)
    bufs = [ctypes.create_string_buffer(16) for _ in range(4)]
    vec, keep = mmsg(bufs)
    n = LIBC.recvmmsg(s.fileno(), vec, 4, socket.MSG_DONTWAIT, None)
    out = [n, [bufs[i].raw[:vec[i].len].decode() for i in range(max(n, 0))]]
    s.connect((env["peer"], env["peer_port"](c)))
    out += [[ctypes.create_string_buffer(b, len(b)) for b in (b"a", b"bb")]]
    vec, keep = mmsg(out.pop())
    return out + [LIBC.sendmmsg(s.fileno(), vec, 2, 0), vec[0].len, vec[1].len]


def p_mmsg(p, env):
    p.recv(1)
    s = socket.socket(env["family"], socket.SOCK_DGRAM)
    s.bind((env["any"], p.getsockname()[1]))
    s.settimeout(10)
    for b in (b"first", b"second", b"third"):
        s.sendto(b, (env["addr"], env["port"]))
    p.sendall(b"!")
    return [s.recv(9).decode(), s.recv(9).decode()]


def s_refused(c, env):
    s = socket.socket(env["family"])
    out = [attempt(s.connect, (env["peer"], 1))]
    s.close()
    u = socket.socket(env["family"], socket.SOCK_DGRAM)
    u.connect((env["peer"], 1))
    u.send(b"x")
    readable(u)
    out.append(attempt(u.recv, 1, socket.MSG_DONTWAIT))
    u.close()
    return out


def s_connect(c, env):
    port, = struct.unpack("H", all_of(c, 2))
    s = socket.socket(env["family"])
    s.setblocking(False)
    out = [s.connect_ex((env["peer"], port)) == errno.EINPROGRESS]
    p = select.poll()
    p.register(s, select.POLLOUT)
    p.poll(5000)
    out += [s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), s.connect_ex((env["peer"], port))]
    out += [s.connect_ex((env["peer"], port)), s.getpeername()[1] == port, s.send(b"called")]
    s.close()
    return out


def p_connect(p, env):
    s = socket.socket(env["family"])
    s.bind((env["any"], 0))
    s.listen()
    p.sendall(struct.pack("H", s.getsockname()[1]))
    got, _ = s.accept()
    return attempt(all_of, got, 6)


def s_reuseport(c, env):
    ls = []
    for _ in range(2):
        s = socket.socket(env["family"])
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind((env["any"], env["port"] + 1))
        s.listen()
        ls.append(s)
    readable_once = select.select(ls, [], [], 0)[0]
    c.sendall(b"!")
    seen, n = set(), 0
    while n < 32 and (r := select.select(ls, [], [], 10)[0]):
        for s in r:
            seen.add(s)
            s.accept()[0].close()
            n += 1
    for s in ls:
        s.close()
    return [readable_once, n, len(seen)]


def p_reuseport(p, env):
    p.recv(1)
    for _ in range(32):
        socket.create_connection((env["addr"], env["port"] + 1), 10).close()


PEER_SENDS = {"peek": b"abcdef", "trunc": b"0123456789", "fionread": b"12345", "recvmsg": b"hello"}


def idle(p, env):
    """Send what the scenario needs, then wait for the server's end."""
    if env["name"] in PEER_SENDS:
        p.sendall(PEER_SENDS[env["name"]])
    p.settimeout(10)
    return attempt(p.recv, 1)


SCENARIOS = {
    "peek": (s_peek, idle), "dontwait": (s_dontwait, idle), "waitall": (s_waitall, p_waitall),
    "trunc": (s_trunc, idle), "fionread": (s_fionread, idle), "rcvtimeo": (s_rcvtimeo, idle),
    "eof": (s_eof, p_eof), "reset": (s_reset, p_reset), "epipe": (s_epipe, p_epipe),
    "options": (s_options, idle), "tcp_info": (s_tcp_info, p_tcp_info), "names": (s_names, idle),
    "flags": (s_flags, idle), "vectors": (s_vectors, p_vectors), "recvmsg": (s_recvmsg, idle),
    "sendfile": (s_sendfile, p_sendfile), "dup": (s_dup, p_dup), "linger": (s_linger, p_linger),
    "abort": (s_abort, idle), "unread": (s_unread, p_ends), "select": (s_select, p_one),
    "udp": (s_udp, p_udp), "pktinfo": (s_pktinfo, p_pktinfo), "mmsg": (s_mmsg, p_mmsg),
    "refused": (s_refused, idle), "connect": (s_connect, p_connect),
    "reuseport": (s_reuseport, p_reuseport),
}


def environment(addr, port):
    v6 = ":" in addr
    return {"addr": addr, "port": port, "family": socket.AF_INET6 if v6 else socket.AF_INET,
            "any": "::" if v6 else "0.0.0.0", "peer_port": lambda c: c.getpeername()[1]}


def serve(addr, port):
    env, out = environment(addr, port), {}
    listener = env["listener"] = socket.socket(env["family"])
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((env["any"], port))
    listener.listen(64)
    print("ready", flush=True)
    for _ in SCENARIOS:
        c, peer = listener.accept()
        env["peer"] = peer[0]
        name = all_of(c, 16).decode().strip()
        out[name] = attempt(SCENARIOS[name][0], c, env)
        c.close()
    print("results " + json.dumps(out), flush=True)


def peer(addr, port):
    out = {}
    for name, (_, part) in SCENARIOS.items():
        env = {**environment(addr, port), "name": name}
        p = socket.create_connection((addr, port), 10)
        p.sendall(name.ljust(16).encode())
        out[name] = attempt(part, p, env)
        p.close()
    print("results " + json.dumps(out), flush=True)


{"serve": serve, "peer": peer}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
