# SPDX-License-Identifier: Apache-2.0
"""A process that a test starts: output in files, killed with its children whatever happens."""
import ctypes
import os
import re
import resource
import signal
import subprocess
import time

from . import wait

_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


def child_setup(nofile=None):
    """Runs in the child before exec: dies with us; its file limit, as far as allowed; no signal ignored that
    a shell ignores for what it starts in the background."""
    def setup():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if nofile:
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            n = min(nofile, hard) if hard != resource.RLIM_INFINITY else nofile
            resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))
    return setup


class Process:
    """Started at once. `out` and `err` are paths."""
    count = 0

    def __init__(self, argv, workdir, name, env=None, nofile=None, stdin=None):
        Process.count += 1
        self.name = name
        self.argv = [str(a) for a in argv]
        base = os.path.join(workdir, f"{Process.count:02d}-{name}")
        self.out, self.err = base + ".out", base + ".err"
        full = dict(os.environ)
        full.update(env or {})
        with open(self.out, "wb") as o, open(self.err, "wb") as e:
            self.popen = subprocess.Popen(
                self.argv, stdout=o, stderr=e, env=full, cwd=workdir, start_new_session=True,
                stdin=subprocess.PIPE if stdin == "pipe" else subprocess.DEVNULL,
                preexec_fn=child_setup(nofile))

    @property
    def pid(self):
        return self.popen.pid

    def stdout(self):
        with open(self.out, "rb") as f:
            return f.read().decode(errors="replace")

    def stderr(self):
        with open(self.err, "rb") as f:
            return f.read().decode(errors="replace")

    def running(self):
        return self.popen.poll() is None

    def must_run(self):
        if not self.running():
            raise RuntimeError(f"{self.name} ended with {self.popen.returncode}:\n"
                               + self.stdout()[-2000:] + self.stderr()[-2000:])

    def wait_output(self, pattern, timeout=15.0, which="both"):
        """Until stdout or stderr matches; returns the match."""
        def look():
            text = self.stdout() + self.stderr()
            m = re.search(pattern, text, re.M)
            if not m:
                self.must_run()
            return m
        return wait.until(look, f"{self.name} to print {pattern!r}", timeout)

    def wait(self, timeout=60.0):
        """Until it ends by itself; returns the exit status."""
        try:
            return self.popen.wait(timeout * wait.SLOW)
        except subprocess.TimeoutExpired:
            raise wait.Timeout(f"{self.name} did not end in {timeout} s; output:\n"
                               + self.stdout()[-2000:] + self.stderr()[-2000:]) from None

    def ok(self, timeout=60.0):
        """Until it ends, and it must have succeeded; returns stdout."""
        rc = self.wait(timeout)
        assert rc == 0, (f"{self.name} ended with {rc}\n{self.stdout()[-3000:]}"
                         f"{self.stderr()[-3000:]}")
        return self.stdout()

    def signal(self, sig):
        self.popen.send_signal(sig)

    def _killpg(self, sig):
        try:
            os.killpg(self.popen.pid, sig)
        except (ProcessLookupError, PermissionError):
            pass

    def stop(self, timeout=5.0):
        """SIGTERM, then SIGKILL, to the whole group. Returns the exit status."""
        if self.running():
            self._killpg(signal.SIGTERM)
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                pass
        self._killpg(signal.SIGKILL)
        return self.popen.wait()

    def kill9(self):
        self._killpg(signal.SIGKILL)
        return self.popen.wait()

    def children(self):
        """Pids of the direct children."""
        try:
            with open(f"/proc/{self.pid}/task/{self.pid}/children") as f:
                return [int(x) for x in f.read().split()]
        except OSError:
            return []

    def cpu_seconds(self):
        return sum(cpu_seconds(p) for p in [self.pid] + self.children())


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def switches(pid):
    """How often the process's threads were given a processor: exact, whatever else runs on the machine."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="utf8") as f:
            total += sum(int(x.split()[1]) for x in f if "ctxt_switches" in x)
    return total


def sleeps(pids):
    """Is nobody of them woken in a second?"""
    before = sum(map(switches, pids))
    time.sleep(1)  # a span to count over
    return sum(map(switches, pids)) == before


def threads_of(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def elapsed():
    return time.monotonic()
