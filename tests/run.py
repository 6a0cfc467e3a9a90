#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make test: every stage one after the other, progress as it goes, one sum at the end.

Stages: build (warnings are errors), unit (C programs), pytest, asan (unit programs and the
application tests' smoke part under AddressSanitizer and UBSan), tsan (what threads share), fuzz, with the
soak (tests/soak) beside it: fuzzers have a time, not a number of runs.
A unit program, a pytest test and a fuzzer's run each count as one test; exit status 77 skips.
"""
import argparse
import concurrent.futures
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as xml

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHON = "/usr/bin/python3"
STAGES = ["build", "unit", "pytest", "asan", "tsan", "fuzz"]
# programs of tests/unit whose threads or processes share memory
TSAN = re.compile(r"shm|ring|fifo|notify|file|ev|worker|wait|log|rules|rcu|ctl|shared")
UNIT_TIMEOUT = 180
RERUN_MAX = 5  # failures of the whole run
PYTESTS = 3  # files at once, on two processors: most of the time a test waits
LONGEST = ["tests/oracle/test_oracle.py", "tests/ns/test_bulk.py", "tests/apps/test_nginx_stock.py", "tests/ns/test_iperf.py",
           "tests/apps/test_cpython.py", "tests/hal/test_hal_xdp.py"]  # they start first
NO_TESTS = 5  # pytest's exit status: every one of the file is deselected
START = time.monotonic()


class Result:
    def __init__(self):
        self.passed, self.failed, self.skipped, self.names = 0, 0, 0, []

    def add(self, name, ok, skipped=False):
        if skipped:
            self.skipped += 1
        elif ok:
            self.passed += 1
        else:
            self.failed += 1
            self.names.append(name)


total = Result()


def say(text):
    print(f"[{time.monotonic() - START:4.0f} s] {text}", flush=True)


def sh(argv, timeout=None, env=None, quiet=False):
    """Run in the project's root; (exit status, output). A time-out kills the whole group."""
    full = dict(os.environ)
    full.update(env or {})
    p = subprocess.Popen(argv, cwd=ROOT, env=full, stdin=subprocess.DEVNULL, start_new_session=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    try:
        out, _ = p.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGTERM)
        try:
            out, _ = p.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            out, _ = p.communicate()
        return 124, out + f"\ntimed out after {timeout} s"
    except BaseException:
        os.killpg(p.pid, signal.SIGTERM)
        p.wait()
        raise
    if p.returncode and not quiet:
        print(out[-6000:])
    return p.returncode, out


class Runner:
    def __init__(self, args):
        self.make, self.out, self.args = args.make.split(), args.out, args
        self.running = set()  # pytest processes
        self.reruns = RERUN_MAX
        self.printing = threading.Lock()

    def stop(self):
        """Whatever ends the run, ends them."""
        for p in list(self.running):
            if p.poll() is None:
                p.terminate()
                p.wait()

    def build(self, what, out, *variables):
        rc, _ = sh([*self.make, "--no-print-directory", f"-j{os.cpu_count()}", "-k", f"O={out}",
                    *variables, *what], timeout=1200)
        return rc == 0

    def unit_names(self):
        rc, text = sh([*self.make, "--no-print-directory", "-s", "print-unit-tests"])
        return sorted(set(text.split())) if rc == 0 else []

    def unit_programs(self, out, label, names, env=None):
        for name in names:
            path = os.path.join(out, name)
            title = f"{label} {os.path.basename(name)}"
            if not os.path.exists(os.path.join(ROOT, path)):
                say(f"FAIL {title}: was not built")
                total.add(title, False)
                continue
            rc, text = sh([os.path.abspath(os.path.join(ROOT, path))], timeout=UNIT_TIMEOUT, env=env,
                          quiet=True)
            total.add(title, rc == 0, rc == 77)
            say(f"{'ok  ' if rc == 0 else 'skip' if rc == 77 else 'FAIL'} {title}"
                + (f" (exit status {rc})" if rc not in (0, 77) else ""))
            if rc not in (0, 77):
                print(text[-4000:])

    def pytest_once(self, label, argv, env, output=None):
        """Run it; (exit status, [(node id, ok, skipped)]). output: a file, else ours."""
        fd, report = tempfile.mkstemp(suffix=".xml")
        os.close(fd)
        p = subprocess.Popen([PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short",
                              "-o", "faulthandler_timeout=400", "-o", "junit_family=xunit2",
                              f"--junitxml={report}", *argv], cwd=ROOT, env={**os.environ, **env}, stdout=output)
        self.running.add(p)
        try:
            rc = p.wait(self.args.pytest_timeout)
        except subprocess.TimeoutExpired:
            p.terminate()
            rc = p.wait()
            total.add(f"{label}: in time", False)
        cases = []
        try:
            for case in xml.parse(report).getroot().iter("testcase"):
                bad = case.find("failure") is not None or case.find("error") is not None
                node = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
                cases.append((node, not bad, case.find("skipped") is not None))
        except xml.ParseError:
            pass
        os.unlink(report)
        return rc, cases

    def pytest(self, label, argv, out, env=None, output=None):
        full = {"NSTACK_BUILD": os.path.abspath(os.path.join(ROOT, out)), **(env or {})}
        rc, cases = self.pytest_once(label, argv, full, output)
        again = [node for node, ok, _ in cases if not ok]
        good = set()
        # Real servers on a shared machine: a few failures are looked at twice, and said.
        if 0 < len(again) <= self.reruns:
            self.reruns -= len(again)
            say(f"{label}: again: {' '.join(again)}")
            # by name, so both models are collected: alone, a test's variants are shared out in another way
            if full.get("NSTACK_TEST_MODES") == "shared":
                full["NSTACK_TEST_MODES"] = "in_process,daemon"
            good = {node for node, ok, skipped in self.pytest_once(label, again, full, output)[1]
                    if ok and not skipped}
            for node in sorted(good):
                say(f"UNSTABLE {label} {node}: failed, then passed")
        for node, ok, skipped in cases:
            total.add(f"{label} {node}", ok or node in good, skipped)
        if rc not in (0, 1, NO_TESTS) or (not cases and rc != NO_TESTS):
            say(f"FAIL {label}: pytest ended with {rc}, {len(cases)} tests")
            total.add(label, False)

    # --- the stages ------------------------------------------------------------------------

    def stage_build(self):
        ok = self.build(["all"], self.out, "WERROR=1")
        total.add("build", ok)
        if not ok:
            say("building again with warnings as warnings, for the tests that follow")
            self.build(["all"], self.out)

    def stage_unit(self):
        self.unit_programs(self.out, "unit", self.unit_names())

    def stage_pytest(self):
        if self.args.pytest:
            self.pytest("pytest", self.args.pytest, self.out)
            return
        files = sorted(os.path.relpath(f, ROOT) for f in glob.glob(ROOT + "/tests/*/test_*.py"))
        with concurrent.futures.ThreadPoolExecutor(PYTESTS) as pool:
            runs = [pool.submit(self.pytest_file, f) for f in sorted(files, key=lambda f: f not in LONGEST)]
            try:
                for run in concurrent.futures.as_completed(runs):
                    run.result()
            except BaseException:
                self.reruns = 0
                pool.shutdown(wait=False, cancel_futures=True)
                self.stop()
                raise

    def pytest_file(self, path):
        start = time.monotonic()
        both = {"NSTACK_TEST_MODES": os.environ.get("NSTACK_TEST_MODES", "shared")}
        with tempfile.TemporaryFile("w+", errors="replace") as text:
            self.pytest("pytest", [path], self.out, both, text)
            text.seek(0)
            with self.printing:
                say(f"{path}: {time.monotonic() - start:.0f} s")
                print(text.read(), end="", flush=True)

    def stage_asan(self):
        out = self.out + "-address"
        ok = self.build(["all"], out, "SAN=address,undefined")
        total.add("asan build", ok)
        names = self.unit_names()
        self.unit_programs(out, "asan", names, {
            "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"})
        if ok and os.geteuid() == 0:
            self.pytest("asan", ["-m", "smoke", "tests/ns"], out,
                        {"NSTACK_TEST_SAN": "1", "NSTACK_TEST_SLOW": "4", "NSTACK_TEST_MODES": "shared"})

    def stage_tsan(self):
        out = self.out + "-thread"
        names = [n for n in self.unit_names() if TSAN.search(os.path.basename(n))]
        self.build([f"{out}/{n}" for n in names], out, "SAN=thread")
        self.unit_programs(out, "tsan", names, {"TSAN_OPTIONS": "halt_on_error=1"})

    def stage_fuzz(self):
        seconds = int(os.environ.get("FUZZ_SECONDS", "60"))
        names = [os.path.basename(f)[:-2] for f in sorted(glob.glob(ROOT + "/tests/fuzz/fuzz_*.c"))]
        workers = max(1, os.cpu_count() or 1)
        with (concurrent.futures.ThreadPoolExecutor(workers) as pool,
              concurrent.futures.ThreadPoolExecutor(1) as other):
            soak = other.submit(self.soak, 5 * seconds)
            total.add("fuzz build", self.build(["fuzz-build"], self.out))
            list(pool.map(lambda n: self.fuzz(n, seconds), names))
            soak.result()

    def soak(self, seconds):
        """As long as the fuzzers take, from their build on; SOAK_SECONDS says otherwise."""
        if os.geteuid() != 0:
            return
        seconds = float(os.environ.get("SOAK_SECONDS", seconds))
        env = {"NSTACK_BUILD": os.path.abspath(os.path.join(ROOT, self.out)), "NSTACK_TEST_SLOW": "2"}
        argv = [PYTHON, "tests/soak/soak.py", "--seconds", str(seconds)]
        rc, text = sh(argv, timeout=seconds + 300, env=env)
        if rc and self.reruns: # a second look, as tests have it; what was found is printed
            self.reruns -= 1
            say("soak: again")
            rc, text = sh(argv, timeout=seconds + 300, env=env)
            if not rc:
                say("UNSTABLE soak: failed, then passed")
        total.add("soak", rc == 0)
        say(f"{'ok  ' if rc == 0 else 'FAIL'} soak of {seconds:g} s: " + "; ".join(text.split("\n")[:2]))

    def fuzz(self, name, seconds):
        """One fuzzer, from its seeds; what it finds is left in the build folder."""
        prog = os.path.abspath(os.path.join(ROOT, self.out, "fuzz", name))
        if not os.path.exists(prog):
            say(f"FAIL {name}: was not built")
            total.add(name, False)
            return
        seeds = os.path.join(ROOT, "tests/fuzz/corpus", name.removeprefix("fuzz_"))
        work = tempfile.mkdtemp(prefix=name + "-")
        found = os.path.join(os.path.dirname(prog), name + "-")
        rc, text = sh([prog, f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=4096",
                       "-max_len=4096", "-verbosity=1", f"-artifact_prefix={found}", work, seeds],
                      timeout=seconds + 120, quiet=True)
        runs = re.search(r"Done (\d+) runs", text)
        shutil.rmtree(work, ignore_errors=True)
        ok = rc == 0 and runs is not None and int(runs[1]) > 0
        total.add(name, ok)
        say(f"{'ok  ' if ok else 'FAIL'} {name}: {runs[1] if runs else '?'} runs in {seconds} s")
        if not ok:
            print(text[-4000:])


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    ap.add_argument("--make", default="make")
    ap.add_argument("--out", default="build")
    ap.add_argument("--only", default=",".join(STAGES), help="stages, separated by commas")
    ap.add_argument("--pytest-timeout", type=float, default=1200)
    ap.add_argument("pytest", nargs="*", help="what pytest runs (default: all of tests/)")
    args = ap.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    runner = Runner(args)
    for stage in args.only.split(","):
        say(f"--- {stage}")
        try:
            getattr(runner, "stage_" + stage)()
        except KeyboardInterrupt:
            sys.exit("interrupted")
        finally:
            runner.stop()
    if total.names:
        print("failed:")
        for n in total.names:
            print("  " + n)
    more = f", {total.skipped} skipped" if total.skipped else ""
    print(f"took {(time.monotonic() - START) / 60:.1f} minutes{more}")
    print(f"{total.passed} passed, {total.failed} failed", flush=True)
    sys.exit(total.failed != 0 or total.passed == 0)


if __name__ == "__main__":
    main()
