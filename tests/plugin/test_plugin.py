# SPDX-License-Identifier: Apache-2.0
"""Plug-in stacks: what programs see of them, and what the stacks see of programs.

No test here needs a network: the stacks live in memory, or in the kernel's loopback.
"""
import json
import os
import pathlib
import subprocess

import pytest

from lib import nstack

HERE = pathlib.Path(__file__).parent
PROGS = HERE / "progs"
LOOP = os.path.join(nstack.BUILD, "libnstack_loop.so")
KERNEL = os.path.join(nstack.BUILD, "libnstack_kernel.so")
NETS = ["198.18.77.0/24", "2001:db8:77::/48"]
#: the kernel has the addresses, too
NAMESPACE = ["unshare", "-n", "sh", "-c", 'ip link set lo up; ip addr add 198.18.77.1/24 dev lo; '
             'ip addr add 2001:db8:77::1/48 dev lo nodad; exec "$@"', "sh"]

pytestmark = pytest.mark.skipif("in_process" not in nstack.MODES or bool(nstack.SAN),
                                reason="once is enough; the stacks are not instrumented")


def rules_for(stack, nets=None):
    return [{side: net, "action": stack} for net in nets or NETS for side in ("remote", "local")]


def config(stacks, rules, **kw):
    return {"interfaces": ["none0"], "load": False, "stacks": stacks, "rules": rules, **kw}


def run(argv, conf, check=True, env=None, prefix=(), **kw):
    """Run it with the library preloaded; the result has the log in .stderr."""
    text = conf if isinstance(conf, str) else json.dumps(conf)
    r = subprocess.run([*prefix, "env", f"LD_PRELOAD={nstack.LIB}", *map(str, argv)], capture_output=True,
                       text=True, timeout=60, env={
                           **os.environ, "NSTACK_CONFIG": text, "NSTACK_LOG_ON": "INF", "NSTACK_LOG_FILE_FLAG": "0",
                           **(env or {})}, **kw)
    assert not check or r.returncode == 0, r.stdout + r.stderr
    return r


def build(tmp_path, source, name=None, flags=()):
    out = tmp_path / f"{name or pathlib.Path(source).stem}.so"
    subprocess.run(["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread", "-o", out,
                    f"-I{nstack.ROOT}/include", f"-I{nstack.BUILD}/include", f"-I{nstack.BUILD}/include/nstack/dmm",
                    *flags, PROGS / source], check=True)
    return str(out)


def test_example_stack():
    r = run([nstack.PYTHON, PROGS / "sockets.py", "no"],
            config([{"name": "loop", "library": LOOP}], rules_for("loop")))
    assert r.stdout == "all well\n", r.stderr


def test_kernel_stack():
    r = run([nstack.PYTHON, PROGS / "sockets.py", "follows"], config(
        [{"name": "k2", "library": KERNEL, "register": "kernel_stack_register"}], rules_for("k2")), prefix=NAMESPACE)
    assert r.stdout == "all well\n", r.stderr


def test_dmm_files(tmp_path):
    """The same by module_config.json and rd_config.json, found by the environment."""
    (tmp_path / "module_config.json").write_text(
        '{ "default_stack_name": "kernel", /* else */ "module_list": [\n'
        '{ "stack_name": "kernel", "function_name": "kernel_stack_register", "libname": "./",\n'
        '  "loadtype": "static", "deploytype": "1", "stackid": "0", },\n'
        f'{{ "stack_name": "loop", "libname": "{LOOP}", "loadtype": "dynmic", "deploytype": "1",\n'
        '  "maxfd": "8192", "minfd": "5000", "priorty": "1", "stackid": "1", }, ] }')
    (tmp_path / "rd_config.json").write_text(json.dumps({"modules": [
        {"name": "kernel", "ip_route": ["127.0.0.1/24"], "type_route": [], "protocol_route": []},
        {"name": "loop", "ip_route": NETS}]}))
    r = run([nstack.PYTHON, PROGS / "sockets.py", "no"], '{ "interfaces": ["none0"], "load": false }',
            env={"NSTACK_MOD_CFG_FILE": str(tmp_path / "module_config.json"),
                 "NSTACK_MOD_CFG_RD": str(tmp_path / "rd_config.json")})
    assert r.stdout == "all well\n", r.stderr


@pytest.mark.parametrize("bad,words", [
    ({"library": "/nowhere/libgone.so"}, "cannot open"),
    ({"register": "no_such_function"}, "no function no_such_function()"),
    ({"register": "refuses"}, "refuses() answered 7"),
    ({"register": "crashes"}, "crashes() crashed (Segmentation fault)"),
    ({"register": "aborts"}, "aborts() crashed (Aborted)"),
    ({"register": "without_socket"}, "no socket()"),
    ({"register": "init_fails"}, "module_init() answered 3"),
    ({"register": "init_crashes"}, "module_init() crashed"),
])
def test_bad_plugin_disables_itself_only(tmp_path, bad, words):
    entry = {"name": "bad", "library": build(tmp_path, "bad.c"), **bad}
    rules = rules_for("loop") + rules_for("bad", ["127.0.0.0/8", "203.0.113.0/24"])
    r = run([nstack.PYTHON, PROGS / "sockets.py", "no"], config([entry, {"name": "loop", "library": LOOP}], rules))
    assert r.stdout == "all well\n"
    assert any('stack "bad" is not used' in line and words in line for line in r.stderr.splitlines()), r.stderr


def test_older_plugin(tmp_path):
    """One that was compiled when nstack had fewer calls and hooks."""
    older = build(tmp_path, "older.c")
    run([nstack.PYTHON, "-c", "import socket; s = socket.socket(); s.connect(('198.18.77.1', 5)); s.close()"],
        config([{"name": "older", "library": older}], rules_for("older")))
    newer = build(tmp_path, "older.c", "newer", ["-DVERSION=2"])
    r = run([nstack.PYTHON, "-c", "import socket; socket.socket()"],
            config([{"name": "newer", "library": newer}], rules_for("newer")))
    assert "built for a newer nstack" in r.stderr


def test_numbers_out_of_range(tmp_path):
    """A stack's socket whose number is not in its range is refused; the kernel serves."""
    r = run([nstack.PYTHON, "-c", "import socket\ns = socket.socket()\ntry: s.connect(('198.18.77.1', 5))\n"
             "except OSError as e: print(e.errno)"],
            config([{"name": "loop", "library": LOOP, "max_fd": 4999}], rules_for("loop")), prefix=NAMESPACE)
    assert r.stdout == "111\n" and "has no socket for it" in r.stderr


HOOKED = """
import os, select, socket, sys
def mark(what): os.write(2, f"mark {what}\\n".encode())
mark("socket")
ls = socket.create_server(("198.18.77.1", 0))
ep = select.epoll()
mark(f"add {ep.fileno()}")
ep.register(ls, select.EPOLLIN)
mark("mod")
ep.modify(ls, select.EPOLLIN | select.EPOLLOUT)
mark("wait")
ep.poll(0.01)
mark("del")
ep.unregister(ls)
c = socket.create_connection(ls.getsockname())
s, _ = ls.accept()
os.set_inheritable(s.fileno(), True)
mark("fork")
pid = os.fork()
if pid == 0:
    mark("child")
    c.close()  # FD_CLOEXEC, as Python has it
    mark("child cloexec closed")
    s.close()
    mark("child ends")
    os._exit(0)
os.waitpid(pid, 0)
mark("parent")
ep.register(c, select.EPOLLIN)
c.close()
mark("end")
os._exit(0)
"""


def hooks(log):
    """{mark: hooks called after it}"""
    out, at = {}, None
    for line in log.splitlines():
        if line.startswith("mark "):
            at = line[5:]
            out[at] = []
        elif line.startswith("hook ") and not line.startswith("hook ep_getevt"):
            out.setdefault(at, []).append(line[5:])
    return out


def test_hooks_at_their_moments(tmp_path):
    probe = build(tmp_path, "probe.c", flags=["-Wno-unused-function", f"-L{nstack.BUILD}", "-lnStackAdapt"])
    log = run([nstack.PYTHON, "-c", HOOKED], config(
        [{"name": "loop", "library": LOOP}, {"name": "probe", "library": probe, "ep_free_ref": True}],
        rules_for("probe"))).stderr
    h = hooks(log)
    assert h["socket"][:3] == ["register 1 1", "module_init", "recycle 1 1 0"], log
    epfd = next(m for m in h if m.startswith("add ")).split()[1]
    add = h[f"add {epfd}"]
    assert add[0].startswith(f"ep_ctl {epfd} 5000 0 ") and add[1] == "free early 0 null 0 item 0 event 0", log
    assert int(add[0].split()[4], 16) == 0x19  # IN, and ERR and HUP as always
    assert h["mod"][0].startswith(f"ep_ctl {epfd} 5000 1 1d same")
    assert f"ep_prewait_proc {epfd}" in h["wait"]
    assert h["del"][0].startswith(f"ep_ctl {epfd} 5000 2 0")
    # the references of all sockets before; then the child, from the whole to the single
    before = [x for x in h["fork"] if x.startswith("fork_parent_fd")]
    assert sorted(before) == [f"fork_parent_fd {s} 1" for s in (5000, 5001, 5002)], log
    after = [x for x in h["fork"] if x not in before]
    assert after[:2] == ["module_init_child", "fork_init_child 1 1"], log
    assert sorted(after[2:5]) == [f"fork_child_fd {s} 1 1" for s in (5000, 5001, 5002)], log
    assert h["child"] == ["fork_free_fd 5001 1 1"], log
    assert [x.split()[:2] for x in h["child cloexec closed"]] == [["close", "5002"]], log
    closed = [x for x in h["parent"] if x.startswith("close 5001")]
    assert closed == ["close 5001 free 1 again 0"], log


def run_linked(tmp_path, source, conf):
    """A program that is linked with libnStackAPI, not preloaded."""
    prog = tmp_path / pathlib.Path(source).stem
    subprocess.run(["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o", prog, f"-I{nstack.ROOT}/include",
                    f"-I{nstack.BUILD}/include", PROGS / source, f"-L{nstack.BUILD}", "-lnStackAPI"], check=True)
    return subprocess.run([prog], env={"LD_LIBRARY_PATH": nstack.BUILD, "NSTACK_CONFIG": json.dumps(conf)}, timeout=30,
                          capture_output=True, text=True, check=False)


def test_run_to_completion(tmp_path):
    """No thread of its own, no way to ask for readiness, one caller at a time; time-outs hold nevertheless."""
    rtc = build(tmp_path, "rtc.c", flags=["-Wno-unused-function"])
    conf = config([{"name": "rtc", "library": rtc}], rules_for("rtc"))
    r = run([nstack.PYTHON, PROGS / "sockets.py", "no"], conf)
    assert r.stdout == "all well\n", r.stderr
    # as the manual has it: linked with libnStackAPI, not preloaded
    r = run_linked(tmp_path, "rtc_main.c", conf)
    assert r.returncode == 0, r


def test_two_stacks_that_run_to_completion(tmp_path):
    """In one program, with the kernel's sockets: time-outs hold, in nstack_run() and without it."""
    conf = config([{"name": n, "library": build(tmp_path, "rtc.c", n, ["-Wno-unused-function"]),
                    "register": "rtc_stack_register"} for n in ("one", "two")],
                  rules_for("one", ["198.18.77.0/24"]) + rules_for("two", ["198.18.78.0/24"]))
    r = run([nstack.PYTHON, PROGS / "rtc_programs.py", "two_stacks"], conf)
    assert r.stdout == "all well\n", r.stderr


def test_two_queues(tmp_path):
    """A stack whose run() has a thread for each queue: the loop is in both."""
    queues = build(tmp_path, "rtc_queues.c", flags=["-Wno-unused-function"])
    r = run([nstack.PYTHON, PROGS / "rtc_programs.py", "two_queues"],
            config([{"name": "queues", "library": queues}], rules_for("queues")))
    assert r.stdout == "all well\n", r.stderr


def test_run_without_a_stack_that_runs():
    r = run([nstack.PYTHON, PROGS / "rtc_programs.py", "no_runner"],
            config([{"name": "loop", "library": LOOP}], rules_for("loop")))
    assert r.stdout == "all well\n", r.stderr


WHO = """
import socket
def who(kind, addr):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind((addr, 0))
        return s.getsockopt(0xff02, 0x100, 32).rstrip(b"\\0").decode() or "kernel"
print(*[who(k, a) for a in ("198.18.77.1", "198.18.78.1") for k in (socket.SOCK_STREAM, socket.SOCK_DGRAM)])
"""


@pytest.mark.parametrize("routes,want", [
    ({"prot_route": [{"proto_type": "1", "type": "one"}, {"proto_type": "2", "type": "two"}]}, "one two one two"),
    ({"prot_route": [{"proto_type": "1", "type": "one"}], "ip_route": [{"subnet": "198.18.78.0/24", "type": "two"}]},
     "one three two two"),
    ({"modules": [{"name": "one", "ip_route": ["198.18.77.9/24"], "protocol_route": [{"value": "2"}]}]},
     "one one three one"),
])
def test_protocol_routes(tmp_path, routes, want):
    """An IP route comes before a protocol's, and that before the default, which no file says: the priority does."""
    (tmp_path / "rd_config.json").write_text(json.dumps(routes))
    (tmp_path / "module_config.json").write_text(json.dumps({"module_list": [
        {"stack_name": name, "function_name": "loop_stack_register", "libname": LOOP, "loadtype": "dynamic",
         "deploytype": "1", "stackid": str(i), "priorty": str(3 - i)} for i, name in enumerate(("one", "two", "three"))]}))
    r = run([nstack.PYTHON, "-c", WHO], '{ "interfaces": ["none0"], "load": false }',
            env={"NSTACK_MOD_CFG_FILE": str(tmp_path / "module_config.json"),
                 "NSTACK_MOD_CFG_RD": str(tmp_path / "rd_config.json")})
    assert r.stdout.split() == want.split(), r.stderr


def test_routes_and_choices(tmp_path):
    """nstack_rd_*() and a socket's own stack; and that the option is no option where nstack is not."""
    r = run_linked(tmp_path, "routes.c", config([{"name": "loop", "library": LOOP}],
                                                {"rules": [], "default": "kernel"}))
    assert r.stdout == "all well\n", r
    r = subprocess.run([nstack.PYTHON, "-c", "import socket; socket.socket().setsockopt(0xff02, 0x100, b'kernel')"],
                       capture_output=True, text=True, check=False)
    assert "Protocol not available" in r.stderr


SEEN = """
import json, os, select, socket, subprocess, sys
tool, name = sys.argv[1:]
def seen(): return [s for s in json.loads(subprocess.run([tool, "sockets", "--json", "--pid", str(os.getpid())],
                    capture_output=True, check=True, env={}).stdout)["sockets"] if s["stack"] == name]
def names(s): return ["%s:%d" % x.getsockname() for x in s]
ls = socket.create_server(("198.18.77.1", 0))
wild = socket.create_server(("0.0.0.0", 0))
assert {x["local"] for x in seen()} == set(names((ls, wild)))  # though it has no stack of ours
select.select([wild], [], [], 0)  # now it asks for it
c = socket.create_connection(ls.getsockname())
s, _ = ls.accept()
u = socket.socket(type=socket.SOCK_DGRAM)
u.bind(("198.18.77.1", 0))
again = c.dup()
c.send(b"four")
got = {(x["proto"], x["state"], x["local"], x["remote"], x["recv_q"]) for x in seen()}
l, w, a, b, d = names((ls, wild, c, s, u))
assert got == {("tcp", "LISTEN", l, "*:*", 0), ("tcp", "LISTEN", w, "*:*", 0), ("tcp", "ESTAB", a, b, 0),
               ("tcp", "ESTAB", b, a, 4), ("udp", "UNCONN", d, "*:*", 0)}, got
assert len(seen()) == 5
for x in (ls, wild, c, s, u, again): x.close()
assert seen() == []
print("all well")
"""


@pytest.mark.parametrize("stack", ["loop", "rtc"])
def test_sockets_are_shown(stack, tmp_path):
    lib = LOOP if stack == "loop" else build(tmp_path, "rtc.c", flags=["-Wno-unused-function"])
    r = run([nstack.PYTHON, "-c", SEEN, nstack.TOOL, stack], config([{"name": stack, "library": lib}], rules_for(stack)),
            prefix=["unshare", "-n"])
    assert r.stdout == "all well\n", r.stderr


SEVERAL = """
import os, select, socket
ls = socket.create_server(("", 0))
ls.settimeout(5)
port = ls.getsockname()[1]
for addr, n in (("198.18.77.1", 2), ("127.0.0.1", 2), ("198.18.77.1", 1)):
    for i in range(n):
        c = socket.create_connection((addr, port))
        assert select.select([ls], [], [], 5)[0] == [ls]
        s, peer = ls.accept()
        assert peer == c.getsockname() and s.getsockname() == (addr, port), (peer, s.getsockname())
        c.send(b"x")
        assert s.recv(9) == b"x"
ls.setblocking(False)
try: ls.accept(); raise AssertionError
except BlockingIOError: pass
ls.close()
try: socket.create_connection(("198.18.77.1", port)); raise AssertionError
except ConnectionRefusedError: pass
print("all well")
"""


def test_listener_on_all_addresses():
    """One accept() for the kernel's connections and the stack's."""
    r = run([nstack.PYTHON, "-c", SEVERAL], config([{"name": "loop", "library": LOOP}], rules_for("loop")))
    assert r.stdout == "all well\n", r.stderr
