# SPDX-License-Identifier: Apache-2.0
"""Whatever is missing or breaks: the program runs, on the kernel if need be, and one line says why.

Every test ends with clients being served, and shows by which stack.
"""
import json
import os
import signal
import subprocess

import pytest

from lib import apps, nstack, wait

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="nothing to fail without nstack")

REDIS = ["redis-server", "--port", "6379", "--bind", "0.0.0.0", "::", "--protected-mode", "no",
         "--save", ""]


def run_on_kernel(net, argv, **kw):
    """Start a server that must come up on the kernel; returns the process."""
    p = net.server.spawn(argv, "redis", env={"NSTACK_APP_LOG_PATH": net.workdir, **kw.pop("env", {})}, **kw)
    net.wait_served(p, tcp=[6379], owned=False)
    before, seen = net.server.kernel_tcp_segments(), None
    for addr in (net.s4, net.s6):
        assert apps.redis_cli(net.client, addr, "set", "k", addr) == "OK"
        assert apps.redis_cli(net.client, addr, "get", "k") == addr
    seen = net.server.kernel_tcp_segments()
    assert seen[0] - before[0] >= 4 * 4, "the kernel did not serve it"
    return p


def one_reason(net, *words):
    """A line that names the cause."""
    lines = [x for x in net.logs().splitlines() if all(w.lower() in x.lower() for w in words)]
    assert lines, f"no line with {words} in:\n{net.logs()[-3000:]}"


@pytest.mark.parametrize("how", ["run", "preload"])
def test_no_cap_net_admin(net, how):
    drop = ["setpriv", "--bounding-set=-net_admin,-net_raw,-bpf,-sys_admin",
            "--inh-caps=-net_admin,-net_raw,-bpf,-sys_admin"]
    if how == "run":
        run_on_kernel(net, [*drop, *nstack.run_argv(REDIS)])
    else:
        net.tool("load", net.sif)
        run_on_kernel(net, [*drop, "env", f"LD_PRELOAD={nstack.LIB}", *REDIS])
    one_reason(net, "CAP_NET_ADMIN" if how == "run" else "kernel")
    verdict, detail = nstack.findings(net.server, drop)["capabilities"]
    assert verdict == "fail" and "CAP_NET_ADMIN" in detail


def test_missing_configuration(net):
    for argv, env in ((nstack.run_argv(REDIS, "/nonexistent/nstack.json"), {}),
                      (["env", f"LD_PRELOAD={nstack.LIB}", *REDIS], {"NSTACK_CONFIG": "/nonexistent/x.json"})):
        p = run_on_kernel(net, argv, env=env)
        one_reason(net, "/nonexistent/", "No such file")
        p.stop()


@pytest.mark.parametrize("text,words", [
    ('{\n  "spin_uss": 5\n}', ["2:", "spin_uss", "spin_us"]),
    ('{\n  "interfaces": [\n', ["nstack"]),
    ('{ "hal": "netmap" }', ["hal", "xdp"]),
    ('{ "rcvbuf": -1 }', ["rcvbuf"]),
], ids=["unknown-key", "truncated", "bad-word", "out-of-range"])
def test_wrong_configuration_is_told(net, text, words):
    """`nstack run` refuses; with plain LD_PRELOAD the program runs on the kernel."""
    path = os.path.join(net.workdir, "bad.json")
    with open(path, "w", encoding="utf8") as f:
        f.write(text)
    r = net.server.run(nstack.run_argv(["true"], path), check=False)
    assert r.returncode != 0
    for w in words:
        assert w in r.stderr, r.stderr
    run_on_kernel(net, ["env", f"LD_PRELOAD={nstack.LIB}", *REDIS], env={"NSTACK_CONFIG": path})


def test_configuration_with_comments(net):
    path = os.path.join(net.workdir, "good.json")
    with open(path, "w", encoding="utf8") as f:
        f.write('{ // a comment\n "spin_us": 20, /* another */\n "interfaces": ["s0",],\n}\n')
    apps.redis(net, config=path)
    proof = net.proof()
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    proof.user_stack(tcp=2)


def test_interface_without_xdp(net):
    """A tunnel has no Ethernet; nothing else may be used."""
    net.server.run(["ip", "tuntap", "add", "t0", "mode", "tun"])
    net.server.run(["ip", "addr", "add", "198.19.0.1/24", "dev", "t0"])
    net.server.run(["ip", "link", "set", "t0", "up"])
    run_on_kernel(net, nstack.run_argv(REDIS, net.config(interfaces=["t0"])))
    one_reason(net, "t0")


def test_interface_that_does_not_exist(net):
    run_on_kernel(net, nstack.run_argv(REDIS, net.config(interfaces=["nosuch0"])))
    one_reason(net, "nosuch0")


def test_tunnel_beside_the_veth(net):
    """By default an unusable interface does not spoil the others."""
    net.server.run(["ip", "tuntap", "add", "t0", "mode", "tun"])
    net.server.run(["ip", "addr", "add", "198.19.0.1/24", "dev", "t0"])
    net.server.run(["ip", "link", "set", "t0", "up"])
    apps.redis(net)
    proof = net.proof()
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    proof.user_stack(tcp=2)


FOREIGN = """#include <linux/bpf.h>
__attribute__((section("xdp"), used)) int somebody(struct xdp_md *c) { return XDP_PASS; }
char _license[] __attribute__((section("license"), used)) = "GPL";
"""


def test_foreign_program_stays(net):
    """Another XDP program is never displaced."""
    src, obj = net.workdir + "/foreign.c", net.workdir + "/foreign.o"
    with open(src, "w", encoding="utf8") as f:
        f.write(FOREIGN)
    multi = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True).stdout.strip()
    subprocess.run(["clang-14", "-O2", "-g", "-target", "bpf", f"-I/usr/include/{multi}", "-c", src,
                    "-o", obj], check=True)
    net.server.run(["ip", "link", "set", "dev", net.sif, "xdpgeneric", "obj", obj, "sec", "xdp"])
    link = lambda: json.loads(net.server.run(["ip", "-j", "-d", "link", "show", net.sif]).stdout)[0]
    before = link()["xdp"]["prog"]["id"]
    r = net.tool("load", net.sif, check=False)
    if r.returncode == 0:  # this kernel has the dispatcher: both run
        assert nstack.interface(net.server, net.sif)["dispatcher"]
        return
    assert "somebody" in r.stderr + r.stdout, r
    run_on_kernel(net, nstack.run_argv(REDIS))
    one_reason(net, "somebody")
    assert link()["xdp"]["prog"]["id"] == before
    assert nstack.interface(net.server, net.sif)["foreign"]
    text = json.dumps(nstack.findings(net.server))
    assert "somebody" in text, text


def test_busy_queue(net):
    """Somebody else's AF_XDP socket holds the only queue."""
    hog = net.server.spawn([*apps.prog("xsk_hog.py"), net.sif, "0"], "hog", stdin="pipe")
    hog.wait_output("^bound")
    p = run_on_kernel(net, nstack.run_argv(REDIS))
    why = [x.get("fallback", "") + json.dumps(x.get("ports", "")) for x in nstack.processes(net.server)]
    assert any("queue 0" in w for w in [*why, net.logs()]), (why, net.logs()[-2000:])
    p.stop()
    hog.stop()
    apps.redis(net)
    proof = net.proof()
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    proof.user_stack(tcp=2)


def test_no_bpffs(net):
    """No bpffs, and none can be mounted: with all capabilities nothing needs it."""
    argv = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o ro none /sys/fs && exec \"$@\"", "-",
            *nstack.run_argv(REDIS)]
    p = net.server.spawn(argv, "redis", env={"NSTACK_APP_LOG_PATH": net.workdir})
    net.wait_served(p, tcp=[6379])
    proof = net.proof()
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    proof.user_stack(tcp=2)
    found = nstack.findings(net.server, ["unshare", "-m", "sh", "-c",
                                         "mount -t tmpfs -o ro none /sys/fs && exec \"$@\"", "-"])
    assert found["bpffs"][0] == "warn"


def test_no_bpffs_and_not_root_enough(net):
    """Without CAP_SYS_ADMIN maps can't be looked up by id: served all the same, the reason is told
    if it was the kernel."""
    argv = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", *nstack.run_argv(REDIS)]
    p = net.server.spawn(argv, "redis", env={"NSTACK_APP_LOG_PATH": net.workdir})
    net.wait_served(p, tcp=[6379], owned=False)
    before = net.server.kernel_tcp_segments()
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    if net.server.kernel_tcp_segments() != before:
        one_reason(net, "kernel")


def start_load(net, n=100_000_000):
    load = net.client.spawn(["redis-benchmark", "-h", net.s4, "-c", 20, "-n", n, "-t", "get"], "load")
    wait.until(lambda: apps.redis_calls(apps.redis_cli(net.client, net.s4, "info", "commandstats"))
               .get("get", 0) > 1000, "the load to run")
    return load


def test_unload_under_load(net):
    """`nstack unload` gives the traffic to the kernel: new connections are served at once."""
    apps.redis(net)
    load = start_load(net)
    assert apps.redis_cli(net.client, net.s4, "set", "k", "before") == "OK"
    net.tool("unload", net.sif)
    assert not nstack.interface(net.server, net.sif).get("attached")
    before = net.server.kernel_tcp_segments()
    for addr in (net.s4, net.s6):
        assert apps.redis_cli(net.client, addr, "get", "k") == "before"
    assert net.server.kernel_tcp_segments()[0] > before[0]
    load.stop()
    rates = apps.redis_benchmark(net.client, net.s4, 5000)
    assert rates["get"] > 0
    net.tool("unload", net.sif)  # twice is fine


def test_load_after_unload_takes_new_connections_again(net):
    apps.redis(net)
    net.tool("unload", net.sif)
    assert apps.redis_cli(net.client, net.s4, "set", "k", "v") == "OK"
    net.tool("load", net.sif)
    assert apps.redis_cli(net.client, net.s4, "get", "k") == "v"


def test_load_and_unload_twice_and_at_once(net):
    for verb in ("load", "unload"):
        procs = [net.server.spawn([nstack.TOOL, verb, net.sif], verb) for _ in range(4)]
        for p in procs:
            p.ok(30)
        assert bool(nstack.interface(net.server, net.sif).get("attached")) == (verb == "load")
        net.tool(verb, net.sif)
    out = net.server.run(["ip", "link", "show", net.sif]).stdout
    assert "xdp" not in out
    assert not os.path.isdir("/sys/fs/bpf/nstack") or not os.listdir("/sys/fs/bpf/nstack")


@pytest.mark.parametrize("loaded", [False, True], ids=["idle", "under-load"])
def test_kill9_leaves_nothing(net, loaded):
    p = apps.redis(net)
    assert apps.redis_cli(net.client, net.s4, "set", "k", "v") == "OK"
    load = start_load(net) if loaded else None
    p.kill9()
    wait.until(lambda: ("tcp", 6379) not in nstack.claims(net.server), "the claim to be void")
    # the kernel refuses, as for any dead server
    r = net.client.run(["redis-cli", "-h", net.s4, "ping"], check=False)
    assert r.returncode != 0 and "refused" in r.stdout + r.stderr, r
    if load:
        load.stop()
    for _ in range(3):
        q = apps.redis(net)
        proof = net.proof()
        assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
        proof.user_stack(tcp=2)
        q.kill9()


def test_kill9_frees_everything_many_times(net):
    """More starts than there are instance slots."""
    for _ in range(70):
        p = net.server.spawn(net.argv([*apps.prog("echo.py"), "tcp", net.s4, 9000]), "echo")
        net.wait_served(p, tcp=[9000])
        p.kill9()
    p = net.serve([*apps.prog("echo.py"), "tcp", net.s4, 9000], "echo", tcp=[9000])
    proof = net.proof()
    assert net.client.run(["nc", "-N", "-w5", net.s4, "9000"], input="hi\n").stdout == "hi\n"
    proof.user_stack(tcp=3)


def test_kill9_of_one_of_two(net):
    """They share the packet memory of the interface; the survivor goes on serving."""
    first = apps.redis(net)
    second = net.serve(["redis-server", "--port", 6380, "--bind", net.s4, "--protected-mode", "no",
                        "--save", "", "--dir", net.workdir], "redis2", tcp=[6380])
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    first.kill9()
    proof = net.proof()
    assert apps.redis_cli(net.client, net.s4, "set", "a", "b", port=6380) == "OK"
    assert apps.redis_cli(net.client, net.s4, "get", "a", port=6380) == "b"
    proof.user_stack(tcp=4)
    third = apps.redis(net)
    proof = net.proof()
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    proof.user_stack(tcp=2)
    second.kill9()
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    assert third.running()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_orderly_end(net, sig):
    """The program's own signal handlers and exit work; its data leaves before it ends."""
    p = apps.redis(net)
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    p.signal(sig)
    assert p.wait(10) == 0, p.stderr()
    wait.until(lambda: ("tcp", 6379) not in nstack.claims(net.server), "the claim to end")
    assert not net.server.listening(6379)


def test_program_output_is_untouched(net):
    """Nothing of ours on stdout or stderr, even with a full path of the library preloaded."""
    r = net.server.run(nstack.run_argv(["sh", "-c", "echo out; echo err >&2; exit 3"]), check=False)
    assert (r.returncode, r.stdout, r.stderr) == (3, "out\n", "err\n")


def test_missing_program(net):
    r = net.server.run(nstack.run_argv(["/nonexistent/prog"]), check=False)
    assert r.returncode == 127 and "/nonexistent/prog" in r.stderr


def test_link_goes_down_and_up(net):
    """Connections survive a short outage; retransmission carries them over."""
    apps.redis(net)
    cli = net.client.spawn(["redis-cli", "-h", net.s4, "blpop", "q", "30"], "blpop")
    wait.until(lambda: "cmd=blpop" in apps.redis_cli(net.client, net.s4, "client", "list"), "blpop")
    net.client.run(["ip", "link", "set", net.cif, "down"])
    wait.until(lambda: "NO-CARRIER" in net.server.run(["ip", "link", "show", net.sif]).stdout, "no carrier")
    net.client.run(["ip", "link", "set", net.cif, "up"])
    net.client.run(["ip", "addr", "replace", net.c6 + "/64", "dev", net.cif, "nodad"])
    assert apps.redis_cli(net.client, net.s4, "rpush", "q", "x") == "1"
    assert cli.ok(30).split() == ["q", "x"]


def test_tools_without_anything(net):
    """Every verb says something sensible where nothing runs."""
    for verb in ("status", "sockets", "stats"):
        assert net.tool(verb).returncode == 0
        json.loads(net.tool(verb, "--json").stdout)
    r = net.tool("load", "nosuch0", check=False)
    assert r.returncode != 0 and "nosuch0" in r.stderr
