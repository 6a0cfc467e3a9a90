#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A long run of everything at once under nstackd, and afterwards nothing is left.

    soak.py [--seconds N] [--seed S]

Stock programs (redis, nginx, iperf3, a prefork server, a program that does all that sockets are for) serve
real clients without a pause, while programs and their workers are killed, stopped and started, nginx is
reloaded, redis forks, rules change, and nstackd itself is killed, stopped and started. Requests may fail
when what serves them dies; but every program has to answer again within a bounded time, none may crash,
and in the end the daemon's accounts are what they were before the first program came, no claim is left and
(after a long run) no pin, and its memory does not grow. The seed makes the order of disturbances the same
again.
"""
import argparse
import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import apps, netns, nstack, wait  # noqa: E402
from lib.net import Net  # noqa: E402

ANSWER_S = 25     # how long after a disturbance a program may be without an answer
LONG_S = 600      # of a run that may wait for a minute in the end
LEAK_KB = 2048    # how much the daemon's memory may differ after the same again
BALANCE = ("programs", "programs_ended", "parts", "sessions", "ports", "parked", "recycle_waiting")
PROGS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "ns", "progs")


def say(text):
    print(f"[{time.monotonic() - START:5.1f} s] {text}", flush=True)


START = time.monotonic()


# --- programs ---------------------------------------------------------------------------------------

class App:
    """A program under nstack: how it starts, whether it answers, one piece of work for its clients. None has
    a privilege: one that has would make a stack of its own when it starts while there is no daemon."""
    name, ports = "", ()

    def __init__(self, net, folder):
        self.net, self.folder, self.proc = net, folder, None

    def argv(self):
        raise NotImplementedError

    def answers(self):
        raise NotImplementedError

    def work(self):
        """By a thread of its own, again and again; what fails, fails."""
        self.answers()

    def start(self):
        argv = nstack.run_argv(self.argv())
        self.proc = self.net.server.spawn(nstack.BARE + argv, self.name, env=self.net.env())

    def kill(self):
        self.proc.kill9()

    def workers(self):
        """Its children that live."""
        return [p for p in self.proc.children() if self.state(p) != "Z"]

    @staticmethod
    def state(pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf8") as f:
                return f.read().rsplit(")", 1)[1].split()[0]
        except OSError:
            return "Z"

    def check(self):
        """It has to run, and to answer before long."""
        self.proc.must_run()
        wait.until(self.answers, f"{self.name} to answer", ANSWER_S, every=0.1)


class Redis(App):
    name, ports = "redis", (6379,)

    def argv(self):
        return ["redis-server", "--bind", self.net.s4, "--protected-mode", "no", "--save", "",
                "--dir", self.folder, "--dbfilename", "soak.rdb"]

    def cli(self, *args):
        return apps.redis_cli(self.net.client, self.net.s4, *args, check=False, timeout=10)

    def answers(self):
        return self.cli("ping") == "PONG"

    def work(self):
        self.net.client.run(["timeout", "20", "redis-benchmark", "-h", self.net.s4, "-c", "20", "-n", "20000", "-q",
                             "-t", "get,set"], check=False)


class Nginx(App):
    name, ports = "nginx", (8080,)
    conf = """
worker_processes 2; error_log {d}/nginx-error.log warn; pid {d}/nginx.pid; daemon off;
events {{ worker_connections 512; }}
http {{ access_log off; client_body_temp_path {d}; proxy_temp_path {d}; fastcgi_temp_path {d}; uwsgi_temp_path {d};
  scgi_temp_path {d}; server {{ listen 8080; location / {{ root {d}/www; }} }} }}
"""

    def argv(self):
        d = self.folder
        if not os.path.isdir(d + "/www"):
            os.makedirs(d + "/www")
            self.sum = apps.blob(d + "/www/file", 3 << 20)
            os.chmod(d + "/www", 0o755)
            with open(d + "/nginx.conf", "w", encoding="ascii") as f:
                f.write(self.conf.format(d=d))
        return ["nginx", "-c", d + "/nginx.conf", "-e", d + "/nginx-error.log"]

    def fetch(self):
        out = f"{self.folder}/fetched-{threading.get_ident()}"
        r = self.net.client.run(["curl", "-sS", "-m", "8", "-o", out, apps.url(self.net.s4, 8080, "/file")], check=False)
        return r.returncode == 0 and apps.sha256(out) == self.sum

    def answers(self):
        return self.fetch()

    def work(self):
        self.net.client.run(["timeout", "10", "wrk", "-t1", "-c16", "-d2s", apps.url(self.net.s4, 8080, "/file")],
                            check=False)

    def reload(self):
        if self.workers(): # before it has any, nobody may have told it yet what SIGHUP means
            self.proc.signal(signal.SIGHUP)

    def crashes(self):
        """Lines about workers that ended by a signal that nobody sent."""
        with contextlib.suppress(FileNotFoundError), open(self.folder + "/nginx-error.log", encoding="utf8") as f:
            return [x for x in f if "exited on signal" in x and "signal 9" not in x]
        return []


class Iperf(App):
    name, ports = "iperf3", (5201,)

    def argv(self):
        return ["iperf3", "-s", "-B", self.net.s4]

    def client(self, *args):
        return self.net.client.run(["timeout", "10", "iperf3", "-c", self.net.s4, *args], check=False)

    def answers(self):
        # one client at a time: another one's turn is an answer, too
        r = self.client("-n", "64K")
        return r.returncode == 0 or "busy" in r.stdout + r.stderr

    def work(self):
        # not -u: the server waits for a first datagram for ever, and that one may meet a daemon's end
        self.client("-t", "1", *random.choice((["-P", "3"], ["-R"])))

    def check(self):
        if not self.proc.running(): # it gives up when a control connection is cut: as without us
            self.start()
        super().check()


class Prefork(App):
    name, ports = "prefork", (9000,)

    def argv(self):
        return [nstack.PYTHON, os.path.join(PROGS, "echo.py"), "fork", self.net.s4, "9000", "3", "10"]

    def answers(self):
        return "PID" in self.net.client.run(["nc", "-N", "-w3", self.net.s4, "9000"], input="", check=False).stdout

    def check(self):
        if not self.workers(): # all were killed
            self.kill()
            self.start()
        super().check()


class Mill(App):
    """It has its partner on the other side, which asks it all the time."""
    name, ports = "mill", (7000,)

    def __init__(self, net, folder):
        super().__init__(net, folder)
        self.path = os.path.join(folder, "mill")
        subprocess.run(["gcc", "-O2", "-pthread", "-o", self.path, os.path.join(PROGS, "mill.c")], check=True)
        net.client.spawn([self.path, "partner", net.c4, net.s4], "partner").wait_output("up")

    def start(self):
        argv = nstack.run_argv([self.path, "serve", self.net.s4, self.net.c4])
        self.proc = self.net.server.spawn(nstack.BARE + argv, self.name, env=self.net.env(), stdin="pipe")
        self.proc.wait_output("up")
        self.proc.popen.stdin.write(b"go\n")
        self.proc.popen.stdin.flush()

    def check(self):
        self.proc.must_run()
        done = self.proc.stdout().count("round")
        wait.until(lambda: self.proc.stdout().count("round") > done, "a round of the mill", ANSWER_S)

    def work(self):
        time.sleep(0.2) # its partner works


# --- disturbances -------------------------------------------------------------------------------------

class Soak:
    def __init__(self, net, folder, seed):
        self.net, self.rnd, self.over = net, random.Random(seed), threading.Event()
        net.daemon(net.server)
        self.fresh, self.fresh_open = nstack.accounts(net.server), len(self.open())
        self.apps = [c(net, folder) for c in (Redis, Nginx, Iperf, Prefork, Mill)]
        self.counts = {}
        self.threads = [threading.Thread(target=self.traffic, args=(a,), daemon=True) for a in self.apps]

    def traffic(self, app):
        while not self.over.is_set():
            with contextlib.suppress(OSError, AssertionError, subprocess.TimeoutExpired):
                app.work()

    def app(self):
        return self.rnd.choice(self.apps)

    def kill_program(self):
        a = self.app()
        a.kill()
        a.start()

    def kill_worker(self):
        a = self.rnd.choice([x for x in self.apps if x.name in ("nginx", "prefork")])
        if a.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.rnd.choice(a.workers()), signal.SIGKILL)

    def pause_program(self):
        a = self.app()
        a.proc.signal(signal.SIGSTOP)
        time.sleep(self.rnd.uniform(0, 0.5))
        a.proc.signal(signal.SIGCONT)

    def reload_nginx(self):
        self.apps[1].reload()

    def fork_redis(self):
        self.apps[0].cli("bgsave")

    def change_rules(self):
        rules = self.rnd.choice(([], [{"port": "6379", "action": "kernel"}], [{"remote": self.net.c4, "action": "kernel"}],
                                 [{"port": "8080", "action": "kernel"}, {"port": "9000", "action": "stack"}]))
        self.set_rules(rules)

    def set_rules(self, rules):
        path = os.path.join(self.net.workdir, "rules.json")
        with open(path, "w", encoding="ascii") as f:
            json.dump({"rules": rules, "default": "tcpip"}, f)
        return self.net.tool("rules", "set", path, check=False).returncode == 0

    def end_daemon(self, sig):
        d = self.net.daemons[self.net.server]
        d.signal(sig)
        wait.until(lambda: not d.running(), "the end of nstackd", 10)
        time.sleep(self.rnd.uniform(0, 0.7))
        self.net.daemon(self.net.server)

    def kill_daemon(self):
        self.end_daemon(signal.SIGKILL)

    def stop_daemon(self):
        self.end_daemon(signal.SIGTERM)

    def pause_daemon(self):
        d = self.net.daemons[self.net.server]
        d.signal(signal.SIGSTOP)
        time.sleep(self.rnd.uniform(0, 0.5))
        d.signal(signal.SIGCONT)

    def disturb(self):
        what = self.rnd.choices(
            (self.kill_program, self.kill_worker, self.pause_program, self.reload_nginx, self.fork_redis,
             self.change_rules, self.kill_daemon, self.stop_daemon, self.pause_daemon),
            (6, 4, 2, 2, 2, 3, 2, 2, 1))[0]
        self.counts[what.__name__] = self.counts.get(what.__name__, 0) + 1
        what()

    def check(self):
        self.net.daemons[self.net.server].must_run()
        for a in self.apps:
            a.check()
        assert not self.apps[1].crashes(), self.apps[1].crashes()

    # --- the end ------------------------------------------------------------------------------------

    def served_by_the_stack(self):
        self.set_rules([])
        want = {("tcp", p) for a in self.apps if not isinstance(a, Mill) for p in a.ports}

        def all_there():
            missing = want - nstack.claims(self.net.server)
            assert not missing, missing
            return True
        wait.until(all_there, "all ports to be the stack's again", ANSWER_S)
        self.check()

    def balanced(self):
        now = nstack.accounts(self.net.server)
        wrong = {k: (now[k], self.fresh[k]) for k in BALANCE if now[k] != self.fresh[k]}
        assert not wrong, f"now, and at first: {wrong}"
        assert len(self.open()) == self.fresh_open, sorted(self.open())
        assert now["rx_frames"] == now["rx_frames_kernel"] + now["rx_frames_received"] + now["rx_frames_held"], now
        assert now["session_double_frees"] == 0, now
        assert not nstack.claims(self.net.server), nstack.claims(self.net.server)
        return self.empty("claims_addr")

    def empty(self, table):
        entries = nstack.table(self.net.server, self.net.sif, table)
        assert not entries, (table, entries[:10])
        return True

    def open(self):
        """What the daemon has open, but for logs, which it opens when it has something to say."""
        folder = f"/proc/{self.net.daemons[self.net.server].pid}/fd"
        names = [os.readlink(os.path.join(folder, x)) for x in os.listdir(folder)]
        return [x for x in names if not x.endswith(".log")]

    def stop_all(self):
        for a in self.apps:
            a.proc.stop()
        wait.until(self.balanced, "the accounts to balance", 90)

    def memory_kb(self):
        """What is the daemon's alone."""
        with open(f"/proc/{self.net.daemons[self.net.server].pid}/smaps_rollup", encoding="ascii") as f:
            return sum(int(x.split()[1]) for x in f if x.startswith(("Private_Dirty", "Private_Clean")))

    def leaks(self):
        """The same again costs no memory."""
        sizes = []
        for _ in range(3):
            for a in self.apps:
                a.start()
            self.check()
            for a in self.apps:
                a.kill()
            wait.until(self.balanced, "the accounts to balance", 90)
            sizes.append(self.memory_kb())
        say(f"memory of nstackd after each of three rounds: {sizes} kB")
        assert sizes[-1] - sizes[-2] < LEAK_KB, sizes

    def run(self, seconds):
        end = time.monotonic() + seconds
        for a in self.apps:
            a.start()
        self.check()
        for t in self.threads:
            t.start()
        while time.monotonic() < end:
            for _ in range(self.rnd.randrange(1, 4)):
                self.disturb()
                time.sleep(self.rnd.uniform(0, 0.3))
            self.check()
        self.over.set()
        for t in self.threads:
            t.join(60)
            assert not t.is_alive(), "a client hangs"
        say("disturbances: " + ", ".join(f"{k} {n}" for k, n in sorted(self.counts.items())))
        self.served_by_the_stack()
        self.stop_all()
        self.leaks()
        if seconds >= LONG_S:
            wait.until(lambda: self.empty("pins"), "the end of TIME_WAIT, and of its pins", 90)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    ap.add_argument("--seconds", type=float, default=300)
    ap.add_argument("--seed", type=int, default=int(time.time()))
    args = ap.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    say(f"soak of {args.seconds:g} s, seed {args.seed}")
    with tempfile.TemporaryDirectory(prefix="nstack-soak-") as folder:
        os.chmod(folder, 0o777)
        net = Net(folder, "daemon", tag="soak")
        try:
            Soak(net, folder, args.seed).run(args.seconds)
        except BaseException:
            print("\n".join(x for x in net.diagnostics().splitlines() if x != "round"))
            raise
        finally:
            net.close()
    say("nothing is left")


if __name__ == "__main__":
    main()
