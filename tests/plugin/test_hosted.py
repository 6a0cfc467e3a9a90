# SPDX-License-Identifier: Apache-2.0
"""Stacks of deploy type 3: in a process of their own, which serves other programs by nstack's link.

The stack process is progs/stackd.c, written from the DMM manual.
"""
import errno
import json
import mmap
import os
import pathlib
import random
import select
import signal
import socket
import struct
import subprocess

import pytest

from lib import faults, netns, nstack, wait
from test_plugin import SEEN, build

HERE = pathlib.Path(__file__).parent
PROGS = HERE / "progs"
LOOP = os.path.join(nstack.BUILD, "libnstack_loop.so")
KERNEL = os.path.join(nstack.BUILD, "libnstack_kernel.so")
NETS = ["198.18.77.0/24", "2001:db8:77::/48"]
MAIN, APP, CTRL, TOOLS, ALARM = range(1, 6)

pytestmark = pytest.mark.skipif("in_process" not in nstack.MODES or bool(nstack.SAN),
                                reason="once is enough; the stacks are not instrumented")


def stack(name, library, **kw):
    return {"name": name, "library": library, "deploy": 3, **kw}


LOOP3 = stack("loop", LOOP)
KERNEL3 = stack("k3", KERNEL, register="kernel_stack_register")


def environment(*stacks):
    rules = [{side: net, "action": s["name"]} for s in stacks for net in NETS for side in ("remote", "local")]
    return {"NSTACK_CONFIG": json.dumps({"interfaces": ["none0"], "load": False, "stacks": stacks, "rules": rules}),
            "NSTACK_LOG_ON": "INF", "NSTACK_LOG_FILE_FLAG": "0"}


@pytest.fixture(scope="session")
def stackd(tmp_path_factory):
    """The stack process, built as the manual's readers build theirs."""
    out = tmp_path_factory.mktemp("stackd") / "stackd"
    subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-o", out,
                    f"-I{nstack.ROOT}/include", f"-I{nstack.BUILD}/include", PROGS / "stackd.c",
                    f"-L{nstack.BUILD}", "-lnStackAdapt", f"-Wl,-rpath,{nstack.BUILD}"], check=True)
    return out


class Place:
    """A network namespace with a stack process in it."""

    def __init__(self, ns, stackd):
        self.ns, self.stackd = ns, stackd

    def start(self, env, *args, prefix=()):
        p = self.ns.spawn([*prefix, self.stackd, *(args or (MAIN, 3, 0, 0))], "stackd", env=env, stdin="pipe")
        p.wait_output(r"^-?\d+ \S+\n(?!.*again)" if len(args) < 5 else r"^-?\d+ \S+\n-?\d+ \S+\n", which="out")
        return p

    def python(self, source, env, *args, prefix=(), check=True):
        preload = {**env, "LD_PRELOAD": nstack.LIB}
        return self.ns.run([*prefix, "env", *(f"{k}={v}" for k, v in preload.items()), nstack.PYTHON, "-c", source,
                            *args], check=check)

    def spawn(self, source, env):
        return self.ns.spawn([nstack.PYTHON, "-u", "-c", source], "program",
                             env={**env, "LD_PRELOAD": nstack.LIB}, stdin="pipe")

    def open_files(self, p):
        return len(os.listdir(f"/proc/{p.pid}/fd"))


@pytest.fixture
def place(stackd, tmp_path):
    ns = netns.Namespace(f"{netns.PREFIX}{os.getpid()}-h", str(tmp_path))
    try:
        ns.run(["sh", "-c", "ip addr add 198.18.77.1/24 dev lo; ip addr add 2001:db8:77::1/48 dev lo nodad"])
        yield Place(ns, stackd)
    finally:
        ns.close()


@pytest.mark.parametrize("which", [LOOP3, KERNEL3], ids=["loop", "kernel"])
def test_same_calls_as_in_the_program(place, which):
    """All of progs/sockets.py; forks too, since the sockets are not the program's memory. By an ordinary user."""
    env = environment(which)
    host = place.start(env)
    before = place.open_files(host)
    r = place.python((PROGS / "sockets.py").read_text(), env, "follows", prefix=nstack.BARE)
    assert r.stdout == "all well\n", r.stderr
    assert f'stack "{which["name"]}" is in process {host.pid}' in r.stderr, r.stderr
    wait.until(lambda: place.open_files(host) <= before, "the host to have nothing of it left")


def test_run_to_completion(place, tmp_path):
    """A stack that works only when it is called, and can't be asked what is ready."""
    env = environment(stack("rtc", build(tmp_path, "rtc.c", flags=["-Wno-unused-function"])))
    place.start(env)
    r = place.python((PROGS / "sockets.py").read_text(), env, "follows")
    assert r.stdout == "all well\n", r.stderr


def test_sockets_are_shown(place):
    """The program's helper thread asks the host."""
    env = environment(LOOP3)
    place.start(env)
    r = place.python(SEEN, env, nstack.TOOL, "loop")
    assert r.stdout == "all well\n", r.stderr


# --- roles -----------------------------------------------------------------------------------------

def status(text):
    return [tuple(line.split()) for line in text.splitlines()]


@pytest.mark.parametrize("args,answer", [
    ((0, 3, 0, 0), "EINVAL"), ((16, 3, 0, 0), "EINVAL"), ((6, 3, 0, 0), "EINVAL"), ((MAIN, 0, 0, 0), "EINVAL"),
    ((MAIN, 5, 0, 0), "EINVAL"), ((MAIN, 1, 0, 0), "-"), ((MAIN, 2, 0, 0), "-"), ((APP, 3, 0, 0), "-"),
    ((CTRL, 3, 0, 0), "-"), ((TOOLS, 3, 0, 0), "-"), ((ALARM, 3, 0, 0), "-"),
])
def test_roles(place, args, answer):
    r = place.ns.run([place.stackd, *args], env=environment(LOOP3), check=False)
    assert status(r.stdout) == [("0" if answer == "-" else "-1", answer)], r
    assert "serves programs" not in r.stderr


def test_one_process_has_a_stack(place):
    env = environment(LOOP3)
    first = place.start(env)
    second = place.ns.run([place.stackd, MAIN, 3, 0, 0], env=env, check=False)
    assert second.stdout == "-1 EADDRINUSE\n" and f"process {first.pid} has it already" in second.stderr, second
    first.signal(signal.SIGKILL)
    first.wait()
    assert "0 -" in place.start(env).stdout()


def test_scheduling(place):
    """attr is of the thread that serves."""
    if subprocess.run(["chrt", "-f", "7", "true"], check=False).returncode:
        pytest.skip("no real-time scheduling here")
    host = place.start(environment(LOOP3), MAIN, 3, os.SCHED_FIFO, 7)
    tasks = pathlib.Path(f"/proc/{host.pid}/task")
    tid, = (int(t.name) for t in tasks.iterdir() if (t / "comm").read_text() == "nstack-host\n")
    assert os.sched_getscheduler(tid) == os.SCHED_FIFO and os.sched_getparam(tid).sched_priority == 7
    assert os.sched_getscheduler(host.pid) == os.SCHED_OTHER


@pytest.fixture(scope="session")
def counting(tmp_path_factory):
    return build(tmp_path_factory.mktemp("counting"), "counting.c",
                 flags=["-D_GNU_SOURCE", f"-L{nstack.BUILD}", "-lnStackAdapt"])


def test_what_failed_is_undone(place, counting):
    """At the thread, the last step: the next call in the same process finds nothing of the first one."""
    env = environment(LOOP3)
    host = place.start(env, MAIN, 3, 99, 0, "again")
    assert status(host.stdout()) == [("-1", "EINVAL"), ("0", "-")]
    r = place.python("import socket; print(socket.create_server(('198.18.77.1', 5)).getsockname())", env)
    assert "is in process" in r.stderr and "198.18.77.1" in r.stdout
    host.popen.stdin.close()
    host.wait()
    for bad, answer in ((stack("silent", counting), "ENODEV"), (stack("gone", "/nowhere.so"), "ENODEV"),
                        ({**LOOP3, "deploy": 1}, "ENOENT")):
        r = place.ns.run([place.stackd, MAIN, 3, 0, 0, "again"], env=environment(bad), check=False)
        assert status(r.stdout) == [("-1", answer)] * 2, r


# --- ends ---------------------------------------------------------------------------------------------

LIVES = """
import errno, select, socket, sys, threading, time
def connect(port):
    c = socket.create_connection(("198.18.77.1", port))
    return c, ls.accept()[0]
ls = socket.create_server(("198.18.77.1", 0))
port = ls.getsockname()[1]
c, s = connect(port)
ep = select.epoll()
ep.register(c, select.EPOLLIN)
blocked = []
def block():
    try: blocked.append(s.recv(1))
    except OSError as e: blocked.append(e.errno)
t = threading.Thread(target=block)
t.start()
print("up")
got = ep.poll(20)
assert got and got[0][1] & select.EPOLLERR and got[0][1] & select.EPOLLHUP, got
t.join()
assert blocked == [errno.ECONNRESET], blocked
for call in (lambda: c.send(b"x"), lambda: c.recv(1), c.getpeername):
    try: call(); raise AssertionError
    except OSError as e: assert e.errno == errno.ECONNRESET, e
assert not ep.poll(0)[1:]
ep.unregister(c)
ep.register(ls, select.EPOLLIN)
assert ep.poll(0.05) == []
print("reset")
k = socket.create_server(("198.18.77.1", 7))  # the kernel's meanwhile
socket.create_connection(("198.18.77.1", 7)).close()
k.close()
print("kernel")
sys.stdin.readline()
def again():
    try: return connect(port)
    except ConnectionRefusedError: return None  # not yet
while not (pair := again()): time.sleep(0.01)
c, s = pair
assert ls.getsockname()[1] == port
c.send(b"again")
assert s.recv(9) == b"again"
print("back")
sys.stdin.readline()
"""


def test_host_dies(place):
    """Its connections are reset, at once; the kernel serves; the next host serves the same program, and its
    listener again."""
    env = environment(LOOP3)
    host = place.start(env)
    p = place.spawn(LIVES, env)
    p.wait_output("^up")
    host.signal(signal.SIGKILL)
    p.wait_output("^kernel")
    host = place.start(env)
    p.popen.stdin.write(b"\n")
    p.popen.stdin.flush()
    p.wait_output("^back")
    assert f"is in process {host.pid}" in p.stderr()


LOAD = """
import os, socket, threading
ls = socket.create_server(("198.18.77.1", 0))
def echo(s):
    while data := s.recv(1000): s.send(data)
def serve():
    while True: threading.Thread(target=echo, args=(ls.accept()[0],), daemon=True).start()
threading.Thread(target=serve, daemon=True).start()
held = []
print("up")
for i in range(100000):
    c = socket.create_connection(ls.getsockname())
    held = held[-20:] + [c]
    if i % 50 == 49 and os.fork() == 0:
        held[-1].send(b"by a child")
        os._exit(0)
    for _ in range(5):
        c.send(b"x" * 100)
        c.recv(1000)
"""


def test_programs_die(place):
    """At load, with children; the host has nothing of them afterwards, and serves others all the while."""
    env = environment(KERNEL3)
    host = place.start(env)
    before = place.open_files(host)
    for _ in range(4):
        victims = [place.spawn(LOAD, env) for _ in range(2)]
        for v in victims:
            v.wait_output("^up")
        wait.until(lambda: place.open_files(host) > before + 20, "them to be busy")
        for v in victims:
            v.signal(signal.SIGKILL)
        for v in victims:
            v.stop()
        place.python((PROGS / "sockets.py").read_text(), env, "follows")
        wait.until(lambda: place.open_files(host) <= before, "their sockets to be closed")
    assert host.running() and "ESTAB" not in place.ns.run(["ss", "-tan"]).stdout


@pytest.mark.parametrize("point", ["sbr.host.call", "sbr.host.answer"])
def test_host_dies_at_a_step(place, point):
    env = environment(LOOP3)
    host = place.start(env)
    faults.arm(host.pid, nstack.LIB, point)
    r = place.python("import socket; s = socket.create_server(('198.18.77.1', 0)); print(s.getsockname()[0])", env)
    assert r.stdout == "198.18.77.1\n" and host.wait() == faults.DIED, r


@pytest.mark.parametrize("point", ["sbr.link.hello", "sbr.link.asked"])
def test_program_dies_at_a_step(place, point):
    env = environment(KERNEL3)
    host = place.start(env)
    before = place.open_files(host)
    p = place.spawn("print('up'); input(); import socket; socket.create_server(('198.18.77.1', 0))", env)
    p.wait_output("^up")
    faults.arm(p.pid, nstack.LIB, point)
    p.popen.stdin.write(b"\n")
    p.popen.stdin.flush()
    assert p.wait() == faults.DIED
    wait.until(lambda: place.open_files(host) <= before, "the host to have nothing of it left")
    place.python((PROGS / "sockets.py").read_text(), env, "follows")


FORKS = """
import os, select, socket
ls = socket.create_server(("198.18.77.1", 0))
ep = select.epoll()
ep.register(ls, select.EPOLLIN)
c = socket.create_connection(ls.getsockname())
os.set_inheritable(c.fileno(), True)
r, w = os.pipe()
child = os.fork()
if child == 0:
    ls.close()
    c.send(b"child")
    os.write(w, b"x")
    os.kill(os.getpid(), 9)
os.waitpid(child, 0)
assert os.read(r, 1) == b"x"
s = ls.accept()[0]
assert s.recv(9) == b"child"
c.send(b"parent")
assert s.recv(9) == b"parent"
print(os.getpid(), child)
input()
os.kill(os.getpid(), 9)
"""


def test_hooks_of_forks_and_recycling(place, counting):
    """References are the stack's where it counts them; what an ended program had is cleaned up in order."""
    env = environment(stack("counting", counting, ep_free_ref=True))
    host = place.start(env)
    p = place.spawn(FORKS, env)
    parent, child = map(int, p.wait_output(r"^(\d+) (\d+)\n", which="out").groups())
    said = lambda: [line[5:] for line in host.stderr().splitlines() if line.startswith("hook ")]
    wait.until(lambda: f"quick {child} 1 1 used 3" in said(), "the child's end")
    p.popen.stdin.write(b"\n")
    p.popen.stdin.flush()
    wait.until(lambda: f"quick {parent} 1 1 used 0" in said(), "the parent's end")
    h = said()
    assert [x for x in h if "fork_parent" in x] == [f"fork_parent_fd {s} {parent}" for s in (5000, 5001)], h
    assert [x for x in h if "fork_child" in x] == [f"fork_child_fd {s} {parent} {child}" for s in (5000, 5001)], h
    assert f"fork_free_fd 5000 {parent} {child}" in h, h
    assert "free early 0" in h and "free 5000 1 again 0" in h, h
    # the child: what it had left is closed between the two kinds of objects, and not the parent's
    at = [h.index(x) for x in (f"slow {child} 1 1", "resumed 1", f"quick {child} 1 1 used 3")]
    assert at == sorted(at) and not any(x.startswith("end") for x in h[:at[2]]), h
    assert sorted(x for x in h if x.startswith("end")) == [f"end {s}" for s in (5000, 5001, 5002)], h


def test_a_stack_from_the_manual(place, tmp_path):
    """What test_from_manual.py shows for the program's own process: every hook is called, references balance."""
    lib = build(tmp_path, "from_manual.c", flags=["-Wno-missing-prototypes", f"-L{nstack.BUILD}", "-lnStackAdapt"])
    env = environment(stack("stackx", lib, ep_free_ref=True))
    host = place.start({**env, "STACKX_HOSTED": "1"})
    p = place.ns.spawn([nstack.PYTHON, PROGS / "from_manual.py"], "program", env={**env, "LD_PRELOAD": nstack.LIB})
    p.ok()

    def calls():
        return [line.split()[2:] for line in host.stderr().splitlines() if line.startswith("hook 0 ")]
    wait.until(lambda: sum(c[0] == "close" and c[3] == "0" for c in calls()) == 5, "the last references to go")
    names = {c[0] for c in calls()}
    assert names == {"register", "module_init", "ep_ctl", "ep_getevt", "event", "ep_prewait_proc", "peak",
                     "fork_parent_fd", "fork_child_fd", "fork_free_fd", "close"}, names
    numbers = {c[1] for c in calls() if c[0] in ("ep_ctl", "ep_prewait_proc")}
    assert numbers == {"-1"}, "a program's descriptor would be taken for one of the stack's process"
    for hook in ("fork_parent_fd", "fork_child_fd"):
        assert len({c[1] for c in calls() if c[0] == hook}) == 5
    freed = [c[1] for c in calls() if c[0] == "fork_free_fd"]
    assert len(freed) == 3, "the child's by FD_CLOEXEC"
    told = {c[2] for c in calls() if c[0] == "ep_ctl"}
    assert all(c[5] == str(int(c[1] in told)) for c in calls() if c[0] == "close" and c[3] == "0"), calls()


# --- programs are not believed ----------------------------------------------------------------------------

CALL = struct.Struct("=IIiiiIIIQ128s")


def dial(place, name="k3"):
    with place.ns.inside():
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(f"\0nstack-stack-{name}")
    s.settimeout(5)
    return s


def call(op, s=0, arg=0, arg2=0, arg3=0, n=0, extra=0, name=b"", token=0, name_len=None):
    return CALL.pack(op, s, arg, arg2, arg3, n, extra, len(name) if name_len is None else name_len, token, name)


def hello(s):
    """(memory, events) that the host gives."""
    s.send(call(1, s=0x6e736272, arg=1))
    answer, fds, _, _ = socket.recv_fds(s, 4096, 8)
    assert struct.unpack_from("=i", answer)[0] == 0 and len(fds) == 2, answer
    return fds


def ask(s, *args, **kw):
    s.send(call(*args, **kw))
    return struct.unpack_from("=i", s.recv(4096))[0]


SOCKET, EP_CTL, OPS = 3, 18, 22
ADD = 0


def test_garbage(place):
    """Random messages, before and after the first word, from programs that scribble over their area all the while:
    these may lose their channel, and nobody else notices."""
    env = environment(KERNEL3)
    host = place.start(env)
    before = place.open_files(host)
    rnd = random.Random(7)
    for turn in range(120):
        s = dial(place)
        fds = hello(s) if turn % 4 else []
        if fds:
            with mmap.mmap(fds[0], 0) as area:
                assert ask(s, SOCKET, arg=socket.AF_INET, arg2=socket.SOCK_DGRAM) == 0
                with pytest.raises(PermissionError):
                    area.resize(4096)
                for _ in range(40):
                    area[:] = rnd.randbytes(64) * (len(area) // 64)
                    big = lambda: rnd.choice([0, 1, 8, 1 << 13, (1 << 13) + 1, 1 << 17, 1 << 31, (1 << 32) - 1])
                    s.send(call(rnd.randrange(OPS), s=rnd.choice([0, 0, 0, 1, 65535, 1 << 31]),
                                arg=rnd.choice([0, 1, 2, 41, -1]), arg2=rnd.choice([0, 1, 9, 26, 35, 64, -1]),
                                arg3=rnd.choice([0, 1, -1]), n=big(), extra=big(), name=rnd.randbytes(128),
                                name_len=big(), token=rnd.choice([0, 0x541b, 0x8912, rnd.getrandbits(64)])))
                    try:
                        fds += socket.recv_fds(s, 4096, 8)[1]
                    except ConnectionError:
                        break
            for fd in fds:
                os.close(fd)
        try:
            # the last word: of any length, with a descriptor that nobody asked for
            socket.send_fds(s, [rnd.randbytes(rnd.choice([1, 167, 169, 4000]))], [0])
            s.recv(4096)
        except ConnectionError:
            pass
        s.close()
    assert host.running()
    place.python((PROGS / "sockets.py").read_text(), env, "follows")
    wait.until(lambda: place.open_files(host) <= before, "the host to have nothing of them left")


def test_who_never_speaks(place):
    """Connections that say nothing, or take no answers, keep nobody out."""
    env = environment(KERNEL3)
    place.start(env)
    mute = [dial(place) for _ in range(300)]
    deaf = dial(place)
    hello(deaf)
    with pytest.raises(OSError):
        while True:
            deaf.send(call(SOCKET, arg=99), socket.MSG_DONTWAIT)
    blind = dial(place)
    for fd in hello(blind):  # the end of the socket for events
        os.close(fd)
    assert blind.recv(1) == b""
    turned = dial(place)  # away from the events, which it has open still
    fds = hello(turned)
    events = socket.socket(fileno=fds[1])
    events.shutdown(socket.SHUT_RD)
    assert ask(turned, SOCKET, arg=socket.AF_INET, arg2=socket.SOCK_STREAM) == 0
    ask(turned, EP_CTL, arg2=ADD, arg3=select.EPOLLOUT)
    assert turned.recv(1) == b""
    events.close()
    os.close(fds[0])
    place.python((PROGS / "sockets.py").read_text(), env, "follows")
    for s in mute:
        s.close()


def test_a_limit_for_each(place):
    """max_sockets; and when the host has no descriptors left, it turns programs away instead of spinning."""
    env = environment(KERNEL3)
    config = json.loads(env["NSTACK_CONFIG"])
    place.start({**env, "NSTACK_CONFIG": json.dumps({**config, "max_sockets": 64})}, prefix=["prlimit", "--nofile=100"])
    many = dial(place)
    fds = hello(many)
    got = [ask(many, SOCKET, arg=socket.AF_INET, arg2=socket.SOCK_STREAM) for _ in range(66)]
    assert got == [*range(64), -errno.EMFILE, -errno.EMFILE]
    more = [dial(place) for _ in range(40)]
    with pytest.raises((ConnectionError, AssertionError)):
        for s in more:
            fds += hello(s)
    for s in (many, *more):
        s.close()
    place.python((PROGS / "sockets.py").read_text(), environment(KERNEL3), "follows")
    for fd in fds:
        os.close(fd)


MANY_GROUPS = ["setpriv", "--reuid", "65534", "--regid", "1", "--inh-caps=-all", "--groups",
               ",".join(str(g) for g in [*range(1000, 1400), 65534])]


@pytest.mark.parametrize("who,prefix", [({"user": "nobody"}, nstack.BARE), ({"group": "nogroup"}, nstack.BARE),
                                        ({"group": "nogroup"}, MANY_GROUPS), ({}, nstack.BARE)],
                         ids=["user", "group", "one of many", "all"])
def test_who_may_come(place, who, prefix):
    """daemon.access; root always may. Who may not is the kernel's."""
    env = environment(LOOP3)
    config = {**json.loads(env["NSTACK_CONFIG"]), "daemon": {"access": [{**who, "allow": False}]}}
    host = place.start({**env, "NSTACK_CONFIG": json.dumps(config)})
    one = "import socket; socket.create_server(('198.18.77.1', 0))"
    assert "is in process" not in place.python(one, env, prefix=prefix).stderr
    assert "may not come in" in host.stderr()
    assert "is in process" in place.python(one, env).stderr


LINGERS = """
import socket, struct, time
ls = socket.create_server(("198.18.77.1", 0))
c = socket.create_connection(ls.getsockname())
s, _ = ls.accept()
c.setblocking(False)
try:
    while True: c.send(bytes(65536))
except BlockingIOError: pass
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
start = time.monotonic()
c.close()
assert s.recv(9) == bytes(9)
assert time.monotonic() - start < 3
c = socket.create_connection(ls.getsockname())
t, _ = ls.accept()
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
c.close()
try: t.recv(9)
except ConnectionResetError: print("all well")
"""


def test_close_holds_up_nobody(place):
    """SO_LINGER is not waited for by the host's one thread; an abort is one."""
    env = environment(KERNEL3)
    place.start(env)
    r = place.python(LINGERS, env)
    assert r.stdout == "all well\n", r.stderr


FAILS = """
import errno, select, socket, struct
ls = socket.create_server(("198.18.77.1", 0))
c = socket.create_connection(ls.getsockname())
s, _ = ls.accept()
try: c.listen(); raise AssertionError
except OSError as e: assert e.errno == errno.EINVAL, e
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
s.close()
p = select.poll()
p.register(c, select.POLLIN)
assert p.poll(5000)[0][1] & select.POLLHUP
print("all well")
"""


def test_listen_that_fails(place):
    """The socket stays what it was: one whose end is to be seen."""
    env = environment(KERNEL3)
    place.start(env)
    r = place.python(FAILS, env)
    assert r.stdout == "all well\n", r.stderr


ASKS = """
import errno, os, socket
s, low = socket.socket(), socket.socket()
s.bind(("198.18.77.1", 0))
six, u = socket.socket(socket.AF_INET6), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
six.bind(("2001:db8:77::1", 0))
u.bind(("2001:db8:77::1", 0))
hop = bytes([0, 0, 1, 4, 0, 0, 0, 0])
def code(f, *a):
    try: f(*a)
    except OSError as e: return errno.errorcode[e.errno]
print(code(s.setsockopt, 1, 36, 5), code(s.setsockopt, 1, 26, bytes(16)), code(s.setsockopt, 0, 64, bytes(84)),
      code(low.bind, ("198.18.77.1", 80)), code(s.setsockopt, 6, 1, 1), code(six.setsockopt, 41, 54, hop),
      code(u.sendmsg, [b"x"], [(41, 54, hop)], 0, u.getsockname()), code(s.setsockopt, 6, 13, b"nosuch"),
      code(s.setsockopt, 6, 13, b"reno"))
"""


@pytest.mark.parametrize("prefix,answers", [
    (nstack.BARE, "EPERM ENOTSUP ENOPROTOOPT EACCES None EPERM EPERM ENOENT None"),
    ([], "None ENOTSUP ENOPROTOOPT None None None None ENOENT None")], ids=["nobody", "root"])
def test_not_with_the_hosts_privilege(place, prefix, answers):
    """SO_MARK, SO_ATTACH_FILTER, a table of netfilter's, port 80, and TCP_NODELAY; a header of options, as an option
    and with a message; congestion control that is not there, and one that is."""
    env = environment(KERNEL3)
    place.start(env)
    assert place.python(ASKS, env, prefix=prefix).stdout.strip() == answers
