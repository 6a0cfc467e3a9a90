# SPDX-License-Identifier: Apache-2.0
"""Servers of several processes under nstackd, without privilege: one listener, one queue."""
import contextlib
import os
import re
import signal
import socket
import tempfile
import threading

import pytest

from lib import apps, nstack
from lib.wait import until

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="about nstack")

PORT = 7000
PREFORK = os.path.join(os.path.dirname(__file__), "progs", "prefork.py")


@pytest.fixture
def mode():
    return "daemon"


@pytest.fixture
def net(net):
    net.daemon(net.server)
    return net


def listening(net):
    """Pids of the programs that the daemon has the port for."""
    pids = {p for d in nstack.walk(nstack.tool_json(net.server, "status")) for c in d.get("claims", [])
            if (c["proto"], int(c["port"])) == ("tcp", PORT) for p in c["programs"]}
    return pids - {net.daemon(net.server).pid}


class Server:
    """prefork.py, all workers of which listen."""

    def __init__(self, net, workers, how, addr=None, backlog=100):
        self.net, self.addr = net, addr or net.s4
        argv = [nstack.PYTHON, PREFORK, self.addr, str(PORT), str(workers), how, str(backlog)]
        self.proc = net.server.spawn(nstack.BARE + nstack.run_argv(argv), "prefork", env=net.env(), stdin="pipe")
        self.workers = self.started(workers)

    def started(self, n):
        """Wait until n workers have been started, and serve; all of their pids."""
        def pids():
            self.proc.must_run()
            return set(map(int, re.findall(r"worker (\d+)", self.proc.stdout())))
        until(lambda: len(pids()) >= n, f"{n} workers")
        until(lambda: pids() - {p for p in pids() if gone(p)} <= listening(self.net), "them to listen")
        return pids()

    def replace(self):
        """A new worker for one that has ended."""
        n = len(self.workers)
        self.proc.popen.stdin.write(b"\n")
        self.proc.popen.stdin.flush()
        new = self.started(n + 1) - self.workers
        self.workers |= new
        return new

    def connect(self):
        with self.net.client.inside():
            return socket.create_connection((self.addr, PORT), 5)


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def who(c, timeout=5):
    """The worker that has the connection."""
    c.settimeout(timeout)
    return int(c.recv(100) or 0)


def kernel_opens(net):
    return net.server.kernel_tcp_opens()


def stack_opens(net):
    return nstack.stack_counters(net.server).get("tcp_passive_opens", 0)


@pytest.mark.parametrize("how", ["accept", "epoll", "exclusive"])
def test_whoever_is_free_gets_the_next(net, family, how):
    srv, opens = Server(net, 3, how, net.saddr(family)), kernel_opens(net)
    with contextlib.ExitStack() as stack:
        held = {}
        for _ in range(3):
            c = stack.enter_context(srv.connect())
            held[who(c)] = c
        assert held.keys() == srv.workers # each is busy with one
        assert [s["state"] for s in nstack.sockets(net.server)].count("LISTEN") == 3
        waiting = [stack.enter_context(srv.connect()) for _ in range(3)]
        for pid, c in held.items():
            c.close()
            assert who(waiting.pop(0)) == pid # in the order in which they came
    assert kernel_opens(net) == opens


LOCAL = """
import socket, sys, threading
def ask():
    for _ in range(400):
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as c: assert int(c.recv(100))
threads = [threading.Thread(target=ask) for _ in range(3)]
for t in threads: t.start()
for t in threads: t.join()
"""


def test_nobody_waits_for_the_kernel_alone(net):
    """Many connections that the kernel has, several processes that take them; then one of ours for each."""
    srv = Server(net, 3, "accept")
    for _ in range(3):
        net.server.run([nstack.PYTHON, "-c", LOCAL, net.s4, PORT], timeout=60)
        with contextlib.ExitStack() as stack:
            assert {who(stack.enter_context(srv.connect())) for _ in range(3)} == srv.workers


def test_the_queue_is_one(net):
    """As long as listen() allowed, however many wait on it."""
    srv = Server(net, 3, "accept", backlog=4)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            who(stack.enter_context(srv.connect()))
        waiting = [stack.enter_context(srv.connect()) for _ in range(5)] # one more, as in Linux
        with pytest.raises(TimeoutError), net.client.inside():
            stack.enter_context(socket.create_connection((net.s4, PORT), 0.5))
        assert waiting


@pytest.mark.parametrize("how", ["accept", "epoll"])
def test_members_are_killed(net, how):
    """Whoever is killed, nothing that waits is lost: nor while the parent alone has the listener."""
    srv, opens = Server(net, 3, how), kernel_opens(net)
    with contextlib.ExitStack() as stack:
        held = {}
        for _ in range(3):
            c = stack.enter_context(srv.connect())
            held[who(c)] = c
        waiting = [stack.enter_context(srv.connect()) for _ in range(4)]
        for i, c in enumerate(waiting):
            c.sendall(b"early %d" % i)
        for pid in list(held)[:2]:
            os.kill(pid, signal.SIGKILL)
        last = list(held)[2]
        until(lambda: listening(net) == {last}, "the others to be gone")
        held[last].close()
        c = waiting.pop(0)
        assert who(c) == last
        os.kill(last, signal.SIGKILL)
        until(lambda: not listening(net), "the last one to be gone")
        srv.replace()
        for c in waiting:
            assert who(c) not in held
            c.close()
    assert kernel_opens(net) == opens


class Callers:
    """Threads that connect again and again, and count how it went."""

    def __init__(self, srv, n):
        self.srv, self.over, self.ended = srv, threading.Event(), []
        self.threads = [threading.Thread(target=self.run) for _ in range(n)]
        for t in self.threads:
            t.start()

    def run(self):
        with self.srv.net.client.inside():
            while not self.over.is_set():
                self.ended.append(self.call())

    def call(self):
        try:
            with socket.create_connection((self.srv.addr, PORT), 5) as c:
                c.sendall(b"early")
                return "served" if who(c) else "lost"
        except ConnectionResetError:
            return "lost"
        except OSError as e:
            return str(e)

    def served(self):
        return self.ended.count("served")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.over.set()
        for t in self.threads:
            t.join()


@pytest.mark.parametrize("how", ["accept", "exclusive"])
def test_members_are_killed_under_load(net, how):
    """A worker that is killed takes the connection along that it has, and no other."""
    kills = 12
    srv, opens = Server(net, 3, how), kernel_opens(net)
    with Callers(srv, 4) as callers:
        for i in range(kills):
            at = callers.served()
            until(lambda: callers.served() > at + 20, "connections")
            os.kill(sorted(p for p in srv.workers if not gone(p))[i % 3], signal.SIGKILL)
            srv.replace()
    assert set(callers.ended) <= {"served", "lost"} and callers.ended.count("lost") <= kills, callers.ended
    assert kernel_opens(net) == opens
    srv.proc.stop()
    until(lambda: nstack.processes(net.server)[0]["accounts"]["sessions"] == 0, "every session to be given back")


@pytest.mark.parametrize("workers", [1, 3])
def test_members_exec(net, workers):
    """What waits, waits for the new image, too."""
    srv, opens = Server(net, workers, "accept"), kernel_opens(net)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(srv.connect()) for _ in range(workers)]
        for c in held:
            who(c)
        waiting = [stack.enter_context(srv.connect()) for _ in range(4)]
        for c in held:
            c.sendall(b"exec")
        for c in waiting:
            assert who(c) in srv.workers
            c.close()
    assert kernel_opens(net) == opens


@pytest.mark.parametrize("how", ["accept", "exclusive"])
def test_a_member_is_stopped(net, how):
    """It may be the one that is woken; the others are, then."""
    srv = Server(net, 2, how)
    stopped, goes_on = sorted(srv.workers)
    os.kill(stopped, signal.SIGSTOP)
    for _ in range(10):
        with srv.connect() as c:
            assert who(c) == goes_on
    os.kill(stopped, signal.SIGCONT)
    with srv.connect() as a, srv.connect() as b:
        assert {who(a), who(b)} == srv.workers


def test_listeners_of_one_port(net):
    """SO_REUSEPORT: each worker has a socket and a queue of its own, and its share of the connections."""
    srv, opens = Server(net, 3, "reuseport"), kernel_opens(net)
    seen = set()
    for _ in range(200):
        with srv.connect() as c:
            seen.add(who(c))
        if seen == srv.workers:
            break
    assert seen == srv.workers
    pid = seen.pop()
    os.kill(pid, signal.SIGKILL)
    until(lambda: listening(net) == seen, "it to be gone")
    for _ in range(20):
        with srv.connect() as c:
            assert who(c) in seen
    assert kernel_opens(net) == opens


# --- servers as they are ------------------------------------------------------------------------

APACHE = """
ServerRoot {dir}
ServerName test
PidFile {dir}/apache.pid
ErrorLog {dir}/error.log
Mutex fcntl:{dir}
Listen {port}
LoadModule mpm_prefork_module {modules}/mod_mpm_prefork.so
LoadModule authz_core_module {modules}/mod_authz_core.so
DocumentRoot {dir}
<Directory {dir}>
  Require all granted
</Directory>
StartServers 4
MinSpareServers 4
MaxRequestWorkers 8
MaxConnectionsPerChild 200
"""
WSGI = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "1024")])
    with open({file!r}, "rb") as f:
        return [f.read()]
"""


@pytest.fixture
def site():
    """A folder that every user may write to, with a file; the file's sum."""
    with tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o777)
        sha = apps.blob(f"{d}/1k", 1024)
        yield d, sha


def daemon_of(net, name, argv):
    p = net.server.spawn(nstack.BARE + nstack.run_argv(argv), name, env=net.env())
    until(lambda: p.must_run() or listening(net), f"{name} to serve")
    return p


def check(load):
    got = load.end()
    assert got["requests"] > 100 and not got["failures"], got


def test_apache_prefork(net, site):
    """Children come and go all the time; a graceful restart changes all of them."""
    folder, sha = site
    with open(f"{folder}/apache.conf", "w", encoding="ascii") as f:
        f.write(APACHE.format(dir=folder, port=PORT, modules="/usr/lib/apache2/modules"))
    p = daemon_of(net, "apache", ["/usr/sbin/apache2", "-f", f"{folder}/apache.conf", "-DFOREGROUND"])
    load = apps.HttpLoad(net, PORT, "/1k", sha, 6, "close")
    load.go_on()
    for _ in range(2):
        before = listening(net)
        p.signal(signal.SIGUSR1)
        until(lambda: listening(net) and not before & listening(net), "other children to serve")
        opens = stack_opens(net)  # between the old ones and the new ones the port may be the kernel's
        load.go_on()
        assert stack_opens(net) > opens + 200
    check(load)


def test_gunicorn_reload(net, site):
    folder, sha = site
    with open(f"{folder}/hello.py", "w", encoding="ascii") as f:
        f.write(WSGI.format(file=f"{folder}/1k"))
    opens = kernel_opens(net)
    p = daemon_of(net, "gunicorn", ["env", "-C", folder, nstack.PYTHON, "/usr/bin/gunicorn", "-w", "3", "-b",
                                    f"{net.s4}:{PORT}", "hello:app"])
    load = apps.HttpLoad(net, PORT, "/1k", sha, 6, "close")
    load.go_on()
    before = listening(net)
    p.signal(signal.SIGHUP)
    until(lambda: listening(net) and not before & listening(net), "other workers to serve")
    load.go_on()
    check(load)
    assert kernel_opens(net) == opens


def test_redis_saves_in_a_child(net, site):
    """The child that writes the file has all of redis' sockets, and uses none of them."""
    folder, _ = site
    opens = kernel_opens(net)
    daemon_of(net, "redis", ["redis-server", "--port", str(PORT), "--bind", net.s4, "--protected-mode", "no",
                             "--save", "", "--dir", folder, "--dbfilename", "dump"])
    cli = lambda *a: apps.redis_cli(net.client, net.s4, *a, port=PORT)
    load = net.client.spawn(["redis-benchmark", "-h", net.s4, "-p", str(PORT), "-c", "20", "-n", "20000", "-t", "set",
                             "-r", "1000", "--csv"], "benchmark")
    for _ in range(2):
        assert cli("bgsave") == "Background saving started"
        until(lambda: "rdb_bgsave_in_progress:0" in cli("info", "persistence"), "the file to be written")
    assert "rdb_last_bgsave_status:ok" in cli("info", "persistence")
    assert "rror" not in load.ok(60)
    assert os.path.getsize(f"{folder}/dump") > 1000 and cli("dbsize") == "1000"
    assert kernel_opens(net) == opens
