# SPDX-License-Identifier: Apache-2.0
"""The nstack tool by itself: usage, exit codes, messages, JSON, and answers it can't trust."""
import json
import os
import re
import subprocess

import pytest

from lib import nstack, wait

VERBS = ["run", "load", "unload", "status", "sockets", "stats", "top", "alarms", "rules", "set", "dump", "ping", "log",
         "doctor"]
MAN = os.path.join(nstack.ROOT, "docs", "man")

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="nothing of ours to test")


def plain(*args, **kw):
    """Verbs that touch no interface, run as they are."""
    return subprocess.run([nstack.TOOL, *args], capture_output=True, text=True, timeout=20, **kw)


def read(path):
    with open(path, encoding="utf8") as f:
        return f.read()


def write(net, name, text):
    path = os.path.join(net.workdir, name)
    with open(path, "w", encoding="utf8") as f:
        f.write(text)
    return path


# --- usage ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb):
    r = plain(verb, "--help")
    assert r.returncode == 0 and r.stdout.startswith(f"usage: nstack {verb}") and not r.stderr


def test_version_is_the_packages():
    version = re.search(r"^VERSION := (\S+)$", read(os.path.join(nstack.ROOT, "Makefile")), re.M)[1]
    for program in (nstack.TOOL, nstack.DAEMON, os.path.join(nstack.BUILD, "nstack-host")):
        for option in ("--version", "-V"):
            r = subprocess.run([program, option], capture_output=True, text=True, timeout=20, check=True)
            assert r.stdout == f"{os.path.basename(program)} {version}\n"


def test_help_lists_the_verbs():
    assert all(re.search(rf"^  {v} ", plain("--help").stdout, re.M) for v in VERBS)


@pytest.mark.parametrize("args,words", [
    ([], ["usage"]),
    (["stat"], ["unknown verb", "stats"]),
    (["lod"], ["load"]),
    (["xyzzyx"], ["unknown verb", "--help"]),
    (["status", "--jsn"], ["--json"]),
    (["status", "extra"], ["extra"]),
    (["load", "--mode", "fast"], ["generic", "native"]),
    (["load", "--mode"], ["--mode", "value"]),
    (["sockets", "--port", "65536"], ["65535"]),
    (["sockets", "--pid", "-5"], ["pid"]),
    (["stats", "x1"], ["pid", "class"]),
    (["stats", "1", "2"], ["one pid"]),
    (["stats", "--rate", "0"], ["--rate"]),
    (["dump"], ["-w"]),
    (["dump", "-w", "f", "port", "0"], ["port"]),
    (["dump", "-w", "f", "-c", "none"], ["-c"]),
    (["dump", "-w", "f", "host", "198.18.0"], ["IP address"]),
    (["dump", "-w", "f", "-t", "soon"], ["-t"]),
    (["ping"], ["host"]),
    (["ping", "198.18.0.1", "198.18.0.2"], ["one host"]),
    (["ping", "-c", "0", "198.18.0.1"], ["-c"]),
    (["ping", "-s", "7", "198.18.0.1"], ["-s"]),
    (["ping", "-i", "0", "198.18.0.1"], ["-i"]),
    (["ping", "-W", "1x", "198.18.0.1"], ["-W"]),
    (["ping", "-4", "-6", "localhost"], ["-4", "-6"]),
    (["ping", "-6", "-I", "198.18.0.1", "::1"], ["other family"]),
    (["ping", "-I", "an interface of no such name", "::1"], ["neither"]),
    (["run"], ["program"]),
    (["run", "--config", "", "true"], ["--config"]),
    (["status", "--json=1"], ["--json takes no value"]),
    (["help", "statu"], ["unknown verb", "status"]),
    (["run", "--confg", "x", "true"], ["--config"]),
    (["rules", "sett", "x"], ["set FILE"]),
    (["rules", "explain", "tcp"], ["explain"]),
    (["rules", "explain", "icmp", "1.2.3.4"], ["explain"]),
    (["rules", "explain", "tcp", "1.2.3.4:99999"], ["explain"]),
    (["top", "--delay", "0"], ["--delay"]),
    (["log", "--module", "kernel"], ["module", "kernel"]),
    (["log", "--severity", "LOUD"], ["level", "LOUD"]),
    (["top", "--delay", "1x"], ["--delay"]),
    (["top", "--view", "stack"], ["stacks"]),
    (["set", "1", "spin_us"], ["KEY=VALUE"]),
    (["set", "--all"], ["--all"]),
    (["set", "--all", "--json", "spin_us=1"], ["--all"]),
], ids=lambda v: " ".join(v) if isinstance(v, list) else None)
def test_wrong_usage(args, words):
    r = plain(*args)
    assert r.returncode == 2 and not r.stdout, r
    for w in words:
        assert w in r.stderr, r.stderr


@pytest.mark.parametrize("args", [["set"], ["log"], ["dump", "-w", "/dev/null"], ["stats"], ["rules", "reload"]], ids=" ".join)
def test_a_process_that_is_none_of_ours(args):
    r = plain(*args, str(os.getpid()))
    assert r.returncode == 1 and "does not run under nstack" in r.stderr, r


def test_host_usage():
    """nstack-host."""
    def host(*args):
        return subprocess.run([os.path.join(nstack.BUILD, "nstack-host"), *args], capture_output=True, text=True, timeout=20)
    assert host("-h").stdout.startswith("usage: nstack-host") and host("--help").returncode == 0
    for args in ([], ["--no"], ["--ready-fd"], ["--ready-fd", "1"], ["--ready-fd", "x", "loop"], ["--ready-fd", "-1", "loop"],
                 ["a", "b"]):
        r = host(*args)
        assert r.returncode == 2 and "usage: nstack-host" in r.stderr, (args, r)
    r = host("loop")
    assert r.returncode == 1 and 'no stack "loop"' in r.stderr and "NSTACK_CONFIG" in r.stderr, r


def test_manual_pages_are_complete():
    keys = re.findall(r"^  ([a-z_.]+) {2,}", plain("run", "--help").stdout.split("Keys of")[1], re.M)
    assert len(keys) > 20
    page = read(os.path.join(MAN, "nstack.conf.5"))
    assert [k for k in keys if f".B {k}\n" not in page] == []
    documented = re.findall(r"^\.B ([a-z_]+\.[a-z_]+)$", page, re.M)
    assert [k for k in documented if k not in keys] == []
    page = read(os.path.join(MAN, "nstack.1"))
    assert [v for v in VERBS if not re.search(rf"^\.BR? {v}\b", page, re.M)] == []


# --- interfaces ------------------------------------------------------------------------------------

def test_load_status_unload(net):
    assert nstack.interface(net.server, net.sif)["attached"] is False
    for _ in range(2):
        r = net.tool("load", net.sif)
        assert r.stdout.startswith("s0: attached (") and "XDP" in r.stdout
    i = nstack.interface(net.server, net.sif)
    assert i["attached"] and i["mode"] in ("generic", "native") and i["mode_why"] and i["claims"] == []
    assert set(i["verdicts"]) > {"pass_unclaimed", "stack_claim", "drop_rule"}
    assert "s0: attached" in net.tool("status").stdout
    for _ in range(2):
        assert net.tool("unload", net.sif).stdout == "s0: detached\n"
    assert nstack.interface(net.server, net.sif)["attached"] is False
    assert "not attached (nstack load s0)" in net.tool("status").stdout


def test_load_without_names_takes_usable_interfaces(net):
    net.server.run(["ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1"])  # down, no address
    got = json.loads(net.tool("load", "--json").stdout)
    assert [(i["name"], i["ok"]) for i in got] == [("s0", True)]
    got = json.loads(net.tool("unload", "--json").stdout)
    assert [(i["name"], i["ok"]) for i in got] == [("s0", True)]


def test_load_unknown_interface(net):
    r = net.tool("load", "s1", check=False)
    assert r.returncode == 1 and 's1: no such interface; did you mean "s0"?' in r.stderr
    got = net.tool("load", "s1", net.sif, "--json", check=False)
    assert got.returncode == 1 and [i["ok"] for i in json.loads(got.stdout)] == [False, True]


def test_load_without_privilege(net):
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    r = net.server.run([*drop, nstack.TOOL, "load", net.sif], check=False)
    assert r.returncode == 1 and "s0:" in r.stderr and len(r.stderr.splitlines()) == 1, r.stderr
    net.tool("load", net.sif)
    r = net.server.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", nstack.TOOL,
                        "status"], check=False)
    assert r.returncode == 0 and "s0:" in r.stdout, r


def test_counters_count(net):
    net.tool("load", net.sif)
    before = nstack.verdicts(net.server)
    net.client.run(["ping", "-c3", "-i0.2", net.s4])
    after = nstack.verdicts(net.server)
    assert after["pass_icmp_other"] - before["pass_icmp_other"] >= 3
    assert nstack.redirected(net.server) == 0


# --- rules --------------------------------------------------------------------------------------------

RULES = """{ "rules": [ // sorted by the reader
  { "port": "80-90", "remote": "198.18.0.0/15", "action": "kernel" },
  { "remote": "198.18.7.77/24", "action": "drop" },
  { "local": "2001:db8::1", "proto": "udp", "action": "stack", "priority": 1 },
], "default": "kernel" }"""


def test_rules_round(net):
    net.tool("load", net.sif)
    path = write(net, "r.json", RULES)
    assert "3 rule(s) on 1 interface(s)" in net.tool("rules", "set", path).stdout
    shown = net.tool("rules").stdout.splitlines()
    assert [x.split(None, 1)[1] for x in shown[1:4]] == [
        "udp local 2001:db8::1/128 -> tcpip", "remote 198.18.7.0/24 -> drop",
        "remote 198.18.0.0/15 port 80-90 -> kernel"]
    assert shown[4] == "  else kernel"
    (got,) = json.loads(net.tool("rules", "--json").stdout)
    assert got["default"] == "kernel" and len(got["rules"]) == 3 and got["interface"] == "s0"
    again = write(net, "again.json", json.dumps({k: got[k] for k in ("rules", "default")}))
    net.tool("rules", "set", again)
    assert net.tool("rules").stdout.splitlines() == shown
    net.tool("rules", "clear")
    assert "0 rule(s)" in net.tool("rules").stdout


@pytest.mark.parametrize("query,want", [
    ("tcp 198.18.0.1:85 from 198.18.9.9", "kernel (rule 3"),
    ("tcp 198.18.0.1:85 from 198.18.7.9:1000", "drop (rule 2"),
    ("udp [2001:db8::1]:53 from 2001:db8::9", "tcpip (rule 1"),
    ("tcp 2001:db8::1 from 2001:db8::9", "kernel (no rule"),
    ("tcp 127.0.0.1:85 from 127.0.0.1", "kernel (built in"),
    ("tcp 198.18.0.1:99 to 198.18.9.9:80", "kernel (no rule"),
])
def test_rules_explain(tmp_path, query, want):
    path = tmp_path / "r.json"
    path.write_text(RULES)
    r = plain("rules", "explain", *query.split(), "--file", str(path))
    assert r.returncode == 0 and want in r.stdout, r
    r = plain("rules", "explain", *query.split(), "--file", str(path), "--json")
    assert json.loads(r.stdout)["action"] == want.split()[0]


def test_rules_errors(net):
    bad = write(net, "bad.json", '[\n { "remot": "1.2.3.4", "action": "drop" } ]')
    for verb in ("check", "set"):
        r = net.tool("rules", verb, bad, check=False)
        assert r.returncode == 1 and f'{bad}:2:4: unknown key "remot"; did you mean "remote"?' in r.stderr
    good = write(net, "good.json", "[]")
    r = net.tool("rules", "set", good, check=False)
    assert r.returncode == 1 and "nstack load" in r.stderr
    assert net.tool("rules", "check", good).returncode == 0
    many = write(net, "many.json", json.dumps([{"port": p, "action": "drop"} for p in range(300)]))
    r = net.tool("rules", "check", many, check=False)
    assert r.returncode == 1 and "more than 256 rules" in r.stderr


# --- run -----------------------------------------------------------------------------------------------

def test_run_passes_the_exit_code(net):
    for code in (0, 3):
        assert net.tool("run", "--", "sh", "-c", f"exit {code}", check=False).returncode == code
    assert net.tool("run", "/nonexistent/prog", check=False).returncode == 127
    assert net.tool("run", "/etc/passwd", check=False).returncode == 126
    assert nstack.interface(net.server, net.sif)["attached"], "it stays attached"


def test_run_environment(net):
    env = dict(x.split("=", 1) for x in net.tool("run", "--", "env").stdout.splitlines() if "=" in x)
    assert env["LD_PRELOAD"] == nstack.LIB and "NSTACK_CONFIG" not in env
    path = write(net, "c.json", '{ "spin_us": 1, "rules": "r.json" }')
    write(net, "r.json", "[]")
    r = net.server.run([nstack.TOOL, "run", "--config", "c.json", "env"], env={"LD_PRELOAD": "libm.so.6"})
    env = dict(x.split("=", 1) for x in r.stdout.splitlines() if "=" in x)
    assert env["LD_PRELOAD"] == nstack.LIB + ":libm.so.6"
    assert os.path.samefile(env["NSTACK_CONFIG"], path), "an absolute name"
    r = net.tool("run", "-c", path, "--set", "tcp.syn_cookies=false", "--set", "congestion=reno", "--spin", "9", "env")
    env = dict(x.split("=", 1) for x in r.stdout.splitlines() if "=" in x)
    assert json.loads(env["NSTACK_CONFIG"]) == {
        "spin_us": 9, "rules": os.path.join(net.workdir, "r.json"), "tcp": {"syn_cookies": False},
        "congestion": "reno"}


@pytest.mark.parametrize("args,words", [
    (["--set", "spin=3"], ["spin", "spin_us"]),
    (["--set", "spin_us"], ["KEY=VALUE"]),
    (["--spin", "2000000"], ["1000000"]),
    (["--log", "LOUD"], ["LOUD"]),
    (["--set", "hal=dpdk"], ["dpdk", "devices"]),
])
def test_run_wrong_settings(net, args, words):
    r = net.tool("run", *args, "--", "echo", "ran", check=False)
    assert r.returncode == 1 and "ran" not in r.stdout
    for w in words:
        assert w in r.stderr, r.stderr


def test_run_without_privilege_runs(net):
    r = net.server.run(["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", nstack.TOOL, "run",
                        "--", "echo", "ran"])
    assert r.stdout == "ran\n" and len(r.stderr.splitlines()) == 1
    assert "running on the kernel: CAP_NET_ADMIN" in r.stderr
    r = net.server.run(["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", nstack.TOOL, "run",
                        "-q", "--", "echo", "ran"])
    assert (r.stdout, r.stderr) == ("ran\n", "")


def test_run_static_program(net):
    src = write(net, "s.c", '#include <stdio.h>\nint main(void) { puts("ran"); return 0; }\n')
    exe = os.path.join(net.workdir, "static")
    if subprocess.run(["gcc", "-static", "-o", exe, src], capture_output=True).returncode:
        pytest.skip("no static C library")
    r = net.tool("run", exe)
    assert r.stdout == "ran\n" and "statically linked" in r.stderr


def test_run_missing_configuration_runs(net):
    r = net.tool("run", "--config", "/nonexistent/c.json", "--", "echo", "ran")
    assert r.stdout == "ran\n" and r.stderr == (
        "nstack: running on the kernel: configuration /nonexistent/c.json: No such file or directory\n")


def test_a_process_without_a_stack_says_why(net):
    """Its start failed: it lives on the kernel, and still answers."""
    prog = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5000));"
            " print('up', flush=True); s.recv(1)")
    p = net.server.spawn([nstack.TOOL, "run", "-q", "--set", 'interfaces=["nosuch0"]', "--", nstack.PYTHON,
                          "-c", prog], "prog", env={"NSTACK_APP_LOG_PATH": net.workdir})
    p.wait_output("up")
    wait.until(lambda: nstack.processes(net.server), "its control socket")
    (got,) = nstack.processes(net.server)
    assert got["running"] is False and "no such interface" in got["fallback"], got
    assert [x["in_use"] for x in got["ports"]] == [False]
    for verb in ("sockets", "stats", "log", "rules"):
        net.tool(verb)
    checks = json.loads(net.tool("doctor", "--json", check=False).stdout)["checks"]
    found = [c for c in checks if c["check"].startswith("process")]
    assert any(c["verdict"] == "fail" and "no such interface" in c["detail"] for c in found), found
    assert p.running()


# --- processes that can't be trusted -----------------------------------------------------------------------

FAKE = r"""
import os, socket, sys
open("/proc/self/comm", "w").write("\x1b[31mfake")
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind("\0nstack/%d" % (int(sys.argv[2]) if len(sys.argv) > 2 else os.getpid()))
s.listen()
print("ready", flush=True)
while True:
    c, _ = s.accept()
    while c.recv(70000):
        if sys.argv[1] == "silent":
            continue
        if sys.argv[1] == "close":
            break
        c.send(sys.argv[1].encode())
    c.close()
"""


def fake(net, answer, *pid):
    p = net.server.spawn([nstack.PYTHON, "-c", FAKE, answer, *pid], "fake")
    p.wait_output("ready")
    return p


@pytest.mark.parametrize("answer", [
    "no json", "[]", "7", '{"ok": 1}', '{"ok": true}', '{"ok": true, "ports": 7, "kernel_reasons": "x"}',
    '{"ok": true, "program": 5, "ports": [7, {"stats": []}], "kernel_reasons": [[], {"count": "x"}]}',
    '{"ok": true, "sockets": [1, "x", {}], "more": "x", "counters": [1, 2]}',
    '{"ok": true, "counters": {"\\u001b[2Jx": 1, "y\\u009b2J": 2}}',
    '{"ok": false, "error": "\\u001b[2J"}', '{"ok": true, "program": "\\u001b[2J\\u0007"}', "close",
])
def test_odd_answers(net, answer):
    fake(net, answer)
    for verb in ("status", "sockets", "stats", "doctor"):
        for more in ([], ["--json"]):
            r = net.tool(verb, *more, check=False)
            assert r.returncode in (0, 1), r
            assert not re.search("[\x07\x1b\x80-\x9f]", r.stdout + r.stderr), r
            if more:
                json.loads(r.stdout)


def test_a_silent_process_is_told(net):
    p = fake(net, "silent")
    got = nstack.processes(net.server)
    assert [x["error"] for x in got] == ["it does not answer"]
    r = net.tool("log", check=False)
    assert r.returncode == 1 and "does not answer" in r.stderr
    net.tool("load", net.sif)
    r = net.tool("rules", "set", write(net, "r.json", "[]"), check=False)
    assert r.returncode == 1 and "nothing was changed" in r.stderr, r
    p.stop()
    wait.until(lambda: nstack.processes(net.server) == [], "it to be gone")
    net.tool("rules", "set", write(net, "r.json", "[]"))


def test_a_process_that_claims_another_pid(net):
    fake(net, '{"ok": true, "program": "liar"}', "1")
    got = nstack.processes(net.server)
    assert "liar" not in json.dumps(got) and got[0]["error"], got


# --- doctor ---------------------------------------------------------------------------------------------------

def test_doctor(net):
    found = nstack.findings(net.server)
    assert {"kernel", "capabilities", "af_xdp", "bpf", "bpffs", "library", "configuration"} <= set(found)
    assert found["interface s0"][0] == "warn"
    net.tool("load", net.sif)
    assert nstack.findings(net.server)["interface s0"][0] == "ok"
    assert "interface lo" not in found
    net.server.run(["ip", "link", "set", "s0", "down"])
    r = net.tool("doctor", check=False)
    assert r.returncode == 1 and "none is up and has an address" in r.stdout


NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.mark.parametrize("prefix,fails,says", [
    (NOBODY, {"capabilities", "af_xdp", "bpf", "bpffs"}, "run as root, or with these"),
    (["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
     {"capabilities", "af_xdp", "bpf", "bpffs"}, "this root lacks them"),
    (["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"], {"capabilities", "af_xdp"},
     "CAP_NET_RAW missing"),
    (["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"], {"bpffs"},
     "then nstack load"),
], ids=["nobody", "no-capabilities", "no-net_raw", "no-sys_admin"])
def test_doctor_without_privileges(net, prefix, fails, says):
    """Each finding that fails is one that keeps programs on the kernel, and comes with a way out."""
    # (a mount namespace of its own, so that a bpffs of this machine makes no difference)
    there = ["unshare", "-m", "sh", "-c", "umount -l /sys/fs/bpf 2>/dev/null; exec \"$@\"", "-", *prefix]
    found = nstack.findings(net.server, there)
    assert {c for c, f in found.items() if f[0] == "fail"} == fails, found
    text = net.server.run([*there, nstack.TOOL, "doctor"], check=False).stdout
    assert says in text and "as root: nstack load s0" in text or says == "CAP_NET_RAW missing", text


def test_doctor_finds_tables_by_pins(net):
    """Who may not look at programs finds what root attached, where there is a bpffs."""
    there = ["unshare", "-m", "sh", "-c", "mount -t bpf bpf /sys/fs/bpf && \"$0\" load s0 && "
             "exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin \"$0\" doctor", nstack.TOOL]
    r = net.server.run(there, check=False)
    assert "attached (its tables are found by their pins)" in r.stdout, r.stdout + r.stderr


def test_doctor_names_a_wrong_configuration(net):
    bad = write(net, "bad.json", "{\n \"spin\": 1 }")
    r = net.server.run([nstack.TOOL, "doctor"], env={"NSTACK_CONFIG": bad}, check=False)
    assert r.returncode == 1 and f"{bad}:2:2: unknown key" in r.stdout
