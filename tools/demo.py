#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make demo: stock nginx and redis on a user-space stack, beside a working kernel.

    namespace "server": nginx, redis under nstack  ==one veth==  namespace "client": plain kernel
                        ping answered by the kernel               curl, redis-cli, redis-benchmark,
                                                                  wrk, ping

Runs the clients, then proves by counters which way the traffic took. Then the same for redis as a
user without any privilege, served by nstackd, which is killed and started again meanwhile. Exit
status 0 only if the proof holds. Everything it makes is removed, also after Ctrl-C. Needs root and `make`.
"""
import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests"))
from lib import apps, netns, nstack, wait  # noqa: E402

START = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - START:5.1f} s] {text}", flush=True)


class Demo(netns.Pair):
    """The two namespaces, and what apps.* expects of them."""
    is_nstack = True

    def __init__(self, workdir):
        self.workdir = workdir
        self.argv = nstack.run_argv  # of a program under nstack
        super().__init__(workdir, tag="demo")

    def serve(self, cmd, name, tcp=(), **kw):
        p = self.server.spawn(self.argv(cmd), name,
                              env={"NSTACK_APP_LOG_PATH": self.workdir}, **kw)

        self.wait_owned(p, tcp)
        return p

    def wait_owned(self, p, tcp):
        def ready():
            p.must_run()
            return {("tcp", x) for x in tcp} <= nstack.claims(self.server)
        wait.until(ready, f"{p.name} to own port {tcp}")

    def daemon(self):
        p = self.server.spawn([nstack.DAEMON], "nstackd", env={"NSTACK_APP_LOG_PATH": self.workdir})
        wait.until(lambda: p.must_run() or nstack.daemon_ready(self.server), "nstackd to be ready")
        return p


class Count:
    """Everything that is counted, at one moment."""

    def __init__(self, net):
        self.kernel_in, self.kernel_out = net.server.kernel_tcp_segments()
        # a process may rename itself: "nginx: worker process"
        self.stack = {x["program"].split(":")[0]: x.get("counters", {})
                      for x in nstack.tool_json(net.server, "stats")["processes"]}
        self.verdicts = nstack.verdicts(net.server)

    def ours(self, program, name, since):
        return self.stack.get(program, {}).get(name, 0) - since.stack.get(program, {}).get(name, 0)


def table(title, rows):
    """Rows of (text, value); None is a separator."""
    width = max(len(r[0]) for r in rows if r) + 2
    print(f"\n{title}\n" + "-" * 72)
    for r in rows:
        print(f"  {r[0]:<{width}} {r[1]}" if r else "")


def traffic(net, nginx, seconds):
    """All clients; returns what they got done."""
    done = {}
    for family in (4, 6):
        addr = net.saddr(family)
        for name in ("1k", "10m"):
            got = apps.curl_sum(net.client, apps.url(addr, 80, f"/sf/{name}"), net.workdir)
            assert got == nginx.sums[name], f"curl got a wrong {name} file over IPv{family}"
        assert apps.redis_cli(net.client, addr, "set", f"greeting{family}", "hello world") == "OK"
        assert apps.redis_cli(net.client, addr, "get", f"greeting{family}") == "hello world"
    done["curl"] = "4 files of 1 KB and 10 MB, IPv4 and IPv6, checksums equal"
    done["redis-cli"] = "SET and GET over IPv4 and IPv6, values equal"
    say("curl and redis-cli: right answers over IPv4 and IPv6")
    say(f"wrk: {seconds} s with 32 connections, {seconds} s with a connection per request ...")
    total, rate = apps.wrk(net.client, apps.url(net.s4, 80, "/sf/1k"), seconds)
    done["wrk, keep-alive"] = f"{total:,} requests, {rate:,.0f}/s"
    total, rate = apps.wrk(net.client, apps.url(net.s6, 80, "/sf/1k"), seconds, close=True)
    done["wrk, connection per request"] = f"{total:,} requests, {rate:,.0f}/s"
    say("redis-benchmark: 50 connections, pipelining 1 and 16 ...")
    for pipeline, n in ((1, 50_000), (16, 200_000)):
        rates = apps.redis_benchmark(net.client, net.s4, n, pipeline)
        done[f"redis-benchmark -P {pipeline}"] = (f"{2 * n:,} requests, SET {rates['set']:,.0f}/s, "
                                                  f"GET {rates['get']:,.0f}/s")
    return done


def run(net, seconds):
    say(f"namespaces {net.server.name} ({net.s4}, {net.s6}) and {net.client.name}, one veth")
    nginx = apps.Nginx(net, user="www-data")
    redis = apps.redis(net)
    say("nginx and redis run under nstack: " + " ".join(nstack.run_argv(["redis-server", "..."])))
    print(nstack.tool(net.server, "status").stdout.rstrip())
    ping = net.client.spawn(["ping", "-i", "0.2", net.s4], "ping")
    before = Count(net)
    done = traffic(net, nginx, seconds)
    ping.signal(signal.SIGINT)
    ping.wait(10)
    after = Count(net)
    ping_text = re.search(r"(\d+) packets transmitted, (\d+) received.*", ping.stdout())
    rtt = re.search(r"rtt .* = .*", ping.stdout())
    http = nginx.requests()
    calls = apps.redis_calls(apps.redis_cli(net.client, net.s4, "info", "commandstats"))

    table("What the clients did (plain kernel sockets)", list(done.items()))
    programs = {"nginx": sum(http.values()), "redis-server": sum(calls.values())}
    rows = []
    for program, served in programs.items():
        rows += [(f"{program}: requests it served", f"{served:,}"),
                 (f"{program}: segments received by our stack", f"{after.ours(program, 'tcp_in', before):,}"),
                 (f"{program}: segments sent by our stack", f"{after.ours(program, 'tcp_out', before):,} and "
                  f"{after.ours(program, 'tcp_out_super', before):,} of up to 64 KB")]
    kernel = (after.kernel_in - before.kernel_in, after.kernel_out - before.kernel_out)
    rows += [None, ("TCP segments received by the server's kernel", f"{kernel[0]:,}"),
             ("TCP segments sent by the server's kernel", f"{kernel[1]:,}")]
    table("Which stack served them", rows)
    verdicts = {k: v - before.verdicts.get(k, 0) for k, v in after.verdicts.items()}
    table("Verdicts of the steering program (packets)",
          [(k, f"{v:,}") for k, v in verdicts.items() if v])
    table(f"Ping of the same address meanwhile", [
        (ping_text[0] if ping_text else "no answer", ""), (rtt[0] if rtt else "", "")])

    faults = []
    if kernel != (0, 0):
        faults.append("the kernel's TCP handled segments")
    for program, served in programs.items():
        if not served or not after.ours(program, "tcp_in", before) > served // 40:
            faults.append(f"our stack does not account for the requests of {program}")
    if set(http) != {"200"} and set(http) != {"200", "499"}:
        faults.append(f"nginx answered {http}")
    if not ping_text or int(ping_text[1]) - int(ping_text[2]) > 1 or int(ping_text[2]) < 5:
        faults.append("ping was not answered by the kernel")
    if not any(v for k, v in verdicts.items() if k.startswith("stack_")):
        faults.append("the steering program redirected nothing")
    for p in (nginx.proc, redis):
        if not p.running():
            faults.append(f"{p.name} died")
    return faults


UNPRIVILEGED = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--bounding-set=-all",
                "--inh-caps=-all", "--no-new-privs"]


def run_unprivileged(net):
    """How nobody runs a program under nstack; the checkout may be out of its reach."""
    tool = shutil.copy(nstack.TOOL, net.workdir)
    shutil.copy(nstack.LIB, net.workdir)
    return lambda cmd: [*UNPRIVILEGED, tool, "run", "--", *cmd]


def kernel_segments(net, do):
    """do(), and how many TCP segments the server's kernel received and sent meanwhile."""
    before = net.server.kernel_tcp_segments()
    got = do()
    after = net.server.kernel_tcp_segments()
    return got, (after[0] - before[0], after[1] - before[1])


def run_daemon(net):
    """redis, unprivileged, under a daemon that is killed."""
    port, n, faults, rows = 6380, 20_000, [], []
    nstack.tool(net.server, "unload", net.sif)

    def load():
        return apps.redis_benchmark(net.client, net.s4, n, port=port)

    def step(what, by_stack, do=load):
        _, kernel = kernel_segments(net, do)
        rows.append((what, f"kernel's TCP: {kernel[0]:,} segments in, {kernel[1]:,} out"))
        if (kernel == (0, 0)) != by_stack:
            faults.append(f"{what}: not served as it should be")

    daemon = net.daemon()
    net.argv = run_unprivileged(net)
    redis = apps.redis(net, port)
    say(f"nstackd, and redis as nobody without capabilities under it: {2 * n:,} requests ...")
    step("nstackd serves", True)
    daemon.signal(signal.SIGKILL)
    daemon.wait(10)
    step("nstackd is killed (SIGKILL): the next connections", False,
         lambda: apps.redis_cli(net.client, net.s4, "ping", port=port))
    net.daemon()
    net.wait_owned(redis, [port])
    say("nstackd was killed and is back; redis was not told ...")
    step("nstackd is back", True)
    table(f"redis-server as nobody, {2 * n:,} requests each time", rows)
    if not redis.running():
        faults.append("redis died")
    return faults


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    ap.add_argument("--seconds", type=int, default=3, help="of each wrk run (default 3)")
    args = ap.parse_args()
    if os.geteuid() != 0:
        sys.exit("make demo needs root: it makes network namespaces")
    for need in (nstack.TOOL, nstack.LIB):
        if not os.path.exists(need):
            sys.exit(f"{need} is missing: run make first")

    def stop(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, stop)
    netns.sweep()
    workdir = tempfile.mkdtemp(prefix="nstack-demo-")
    os.chmod(workdir, 0o755)
    net = None
    try:
        net = Demo(workdir)
        faults = run(net, args.seconds)
        for p in net.server.procs:
            p.stop()
        faults += run_daemon(net)
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; cleaned up")
    except (AssertionError, RuntimeError) as e:
        print(f"\nFAILED: {e}", file=sys.stderr)
        if net:
            print(nstack.diagnostics(net.server), file=sys.stderr)
            for p in net.server.procs:
                print(f"--- {p.name}\n{p.stderr()[-2000:]}", file=sys.stderr)
        sys.exit(1)
    finally:
        if net:
            net.close()
        shutil.rmtree(workdir, ignore_errors=True)
    print()
    if faults:
        sys.exit("NOT PROVEN: " + "; ".join(faults))
    say("PROVEN: every request was served by nstack's own TCP over AF_XDP, none by the kernel's, "
        "on an address that the kernel goes on answering; with privilege in the process, without any under "
        "nstackd, whose death cost nothing but its connections")


if __name__ == "__main__":
    main()
