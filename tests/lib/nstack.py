# SPDX-License-Identifier: Apache-2.0
"""nstack as the tests see it: where it was built, how a server starts under it, what it says.

Modes: "kernel" runs everything plainly (to test the tests), "in_process" runs servers by
`nstack run`, "daemon" too, beside an nstackd; the tests only know `net.serve()`. "shared": the two
models of nstack share the variants of each test (conftest.py).
"""
import json
import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("NSTACK_BUILD", os.path.join(ROOT, "build")))
TOOL = os.path.join(BUILD, "nstack")
DAEMON = os.path.join(BUILD, "nstackd")
LIB = os.path.join(BUILD, "libnsocket.so")
PYTHON = "/usr/bin/python3"
MODES = os.environ.get("NSTACK_TEST_MODES", "in_process").split(",")
SHARED = MODES == ["shared"]
if SHARED:
    MODES = ["in_process", "daemon"]
SAN = os.environ.get("NSTACK_TEST_SAN")

#: another user, no capability, no way to get one
NOBODY = 65534
BARE = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", "--bounding-set=-all",
        "--inh-caps=-all"]


def sanitizer_env(workdir):
    """For a library built with -fsanitize=address: its runtime is preloaded too. The program
    itself is not instrumented, so leaks at its exit are not looked for."""
    libs = [subprocess.run(["gcc", f"-print-file-name={x}"], capture_output=True, text=True,
                           check=True).stdout.strip() for x in ("libasan.so", "libubsan.so")]
    opts = f"log_path={workdir}/sanitizer:detect_leaks=0"
    return {"LD_PRELOAD": ":".join(libs), "ASAN_OPTIONS": opts + ":verify_asan_link_order=0",
            "UBSAN_OPTIONS": opts + ":print_stacktrace=1"}


def sanitizer_reports(workdir):
    out = ""
    for name in sorted(os.listdir(workdir)):
        if name.startswith("sanitizer."):
            with open(os.path.join(workdir, name), errors="replace", encoding="utf8") as f:
                out += f.read()[:6000]
    return out


def run_argv(cmd, config_file=None):
    argv = [TOOL, "run"]
    if config_file:
        argv += ["--config", config_file]
    return argv + ["--", *cmd]


def tool(ns, *args, check=True, timeout=30):
    return ns.run([TOOL, *args], check=check, timeout=timeout)


def tool_json(ns, *args):
    return json.loads(tool(ns, *args, "--json").stdout)


def daemon_ready(ns):
    """Does it accept programs? Its socket is in the list of the namespace."""
    return "@nstackd" in ns.run(["cat", "/proc/net/unix"]).stdout and \
        any(p.get("program") == "nstackd" for p in processes(ns))


def walk(node):
    """Every dict inside a JSON value."""
    if isinstance(node, dict):
        yield node
        for v in node.values():
            yield from walk(v)
    elif isinstance(node, list):
        for v in node:
            yield from walk(v)


def claims(ns):
    """{(proto, port)} that living processes own on the interfaces of ns."""
    out = set()
    for d in walk(tool_json(ns, "status")):
        for c in d.get("claims", []):
            out.add((c["proto"], int(c["port"])))
    return out


def claimed_addresses(ns, proto, port):
    """The local addresses that living processes have the port of: "*" is all of both families, "0.0.0.0" and "::" of
    one."""
    return {c["local"] for d in walk(tool_json(ns, "status")) for c in d.get("claims", [])
            if (c["proto"], int(c["port"])) == (proto, port)}


def owners(ns, proto, port):
    """Pids of the processes that have the port."""
    return {pid for d in walk(tool_json(ns, "status")) for c in d.get("claims", [])
            if (c["proto"], int(c["port"])) == (proto, port) for pid in c["programs"]}


def verdicts(ns):
    """Verdict counters of the steering program, summed over interfaces: {name: packets}."""
    out = {}
    for d in walk(tool_json(ns, "status")):
        for k, v in d.get("verdicts", {}).items():
            out[k] = out.get(k, 0) + v
    return out


def redirected_by(ns):
    """Packets that each steering program sent into AF_XDP: {its id: packets}. One that is attached anew counts from
    zero."""
    return {i["prog_id"]: sum(n for verdict, n in i["verdicts"].items() if verdict.startswith("stack_"))
            for i in tool_json(ns, "status")["interfaces"] if "verdicts" in i}


def redirected(ns):
    """Packets that the attached steering programs sent into AF_XDP."""
    return sum(redirected_by(ns).values())


def stack_counters(ns):
    """Counters of all stacks in ns, summed over processes: {name: value}."""
    out = {}
    for d in walk(tool_json(ns, "stats")):
        for k, v in d.get("counters", {}).items():
            if isinstance(v, int):
                out[k] = out.get(k, 0) + v
    return out


def processes(ns):
    """Status of every process under nstack in ns."""
    return tool_json(ns, "status")["processes"]


def accounts(ns):
    """What the nstackd of ns has given out and taken: {name: count}."""
    (d,) = [p for p in processes(ns) if p.get("program") == "nstackd"]
    return d["accounts"]


def interface(ns, name):
    """Status of one interface, {} if nstack has nothing to say about it."""
    return next((i for i in tool_json(ns, "status")["interfaces"] if i["name"] == name), {})


def bpftool(*args):
    return json.loads(subprocess.run(["bpftool", "-j", *map(str, args)], capture_output=True, text=True,
                                     check=True).stdout)


def table(ns, ifname, name):
    """Entries of a hash table of the interface's steering program: "pins", "claims_addr", ..."""
    prog = bpftool("prog", "show", "id", interface(ns, ifname)["prog_id"])
    (number,) = [m for m in prog["map_ids"] if bpftool("map", "show", "id", m)["name"] == name]
    return bpftool("map", "dump", "id", number)


def alarms(ns):
    """{name: is it raised?} of all processes in ns, also those that were cleared."""
    return {a["name"]: a["raised"] for a in json.loads(tool(ns, "alarms", "--all", "--json").stdout)}


def findings(ns, prefix=()):
    """nstack doctor: {check: (verdict, detail)}; prefix runs it in other circumstances."""
    r = ns.run([*prefix, TOOL, "doctor", "--json"], check=False)
    return {f["check"]: (f["verdict"], f["detail"]) for d in walk(json.loads(r.stdout))
            for f in d.get("checks", [])}


def sockets(ns):
    """The list of `nstack sockets`."""
    return tool_json(ns, "sockets")["sockets"]


def diagnostics(ns):
    """Everything that helps to understand a failure, as text."""
    parts = []
    for args in (["status"], ["sockets"], ["stats"], ["doctor"]):
        try:
            r = tool(ns, *args, check=False, timeout=10)
            parts.append(f"--- nstack {' '.join(args)} in {ns.name} ({r.returncode})\n"
                         f"{r.stdout[-4000:]}{r.stderr[-1000:]}")
        except Exception as e:  # noqa: BLE001 - a report must not fail
            parts.append(f"--- nstack {' '.join(args)} in {ns.name}: {e}")
    for cmd in (["ip", "-br", "addr"], ["ss", "-Htanu"], ["nstat", "-s"]):
        try:
            parts.append(f"--- {' '.join(cmd)}\n" + ns.run(cmd, check=False, timeout=10).stdout[-3000:])
        except Exception as e:  # noqa: BLE001
            parts.append(str(e))
    return "\n".join(parts)


class Proof:
    """Which path did the traffic take? Made before the traffic, asked after it.

    The kernel's own counters are the witness: /proc/net/snmp of the namespace, in which no TCP
    segment (UDP datagram) may appear, and the counters of our stack, which must have grown.
    """

    def __init__(self, ns, mode):
        self.ns, self.mode = ns, mode
        self.tcp = ns.kernel_tcp_segments()
        self.udp = ns.kernel_udp_datagrams()
        self.ours = self._ours()

    def _ours(self):
        if self.mode == "kernel":
            return {"redirected": 0, "tcp_in": 0, "tcp_out": 0, "udp_in": 0, "udp_out": 0}
        c = stack_counters(self.ns)
        got = {k: c.get(k, 0) for k in ("tcp_in", "tcp_out", "udp_in", "udp_out")}
        got["tcp_out"] += c.get("tcp_out_super", 0)
        return {"redirected": redirected(self.ns), **got}

    def delta(self):
        tcp, udp, ours = self.ns.kernel_tcp_segments(), self.ns.kernel_udp_datagrams(), self._ours()
        d = {k: ours[k] - self.ours[k] for k in ours}
        d["kernel_tcp_in"], d["kernel_tcp_out"] = (a - b for a, b in zip(tcp, self.tcp))
        d["kernel_udp_in"], d["kernel_udp_out"] = (a - b for a, b in zip(udp, self.udp))
        return d

    def user_stack(self, tcp=0, udp=0):
        """At least so many segments/datagrams each way by our stack, none by the kernel."""
        d = self.delta()
        if self.mode == "kernel":
            if tcp:
                assert d["kernel_tcp_in"] >= tcp / 50, d  # super-segments count once
            if udp:
                assert d["kernel_udp_in"] >= udp, d
            return d
        if tcp:
            assert (d["kernel_tcp_in"], d["kernel_tcp_out"]) == (0, 0), \
                f"the kernel's TCP handled segments: {d}"
            assert d["tcp_in"] >= tcp and d["tcp_out"] >= tcp, f"too few segments by our stack: {d}"
        if udp:
            assert (d["kernel_udp_in"], d["kernel_udp_out"]) == (0, 0), \
                f"the kernel's UDP handled datagrams: {d}"
            assert d["udp_in"] >= udp and d["udp_out"] >= udp, f"too few datagrams: {d}"
        return d

    def kernel(self, tcp=1):
        """The kernel did it, and nothing was redirected."""
        d = self.delta()
        assert d["kernel_tcp_in"] >= tcp, f"the kernel's TCP did not see the traffic: {d}"
        assert d["tcp_in"] == 0, f"our stack handled segments: {d}"
        return d
