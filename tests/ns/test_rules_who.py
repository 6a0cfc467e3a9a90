# SPDX-License-Identifier: Apache-2.0
"""Rules that ask who it is; a program's own; DMM's files. What counts is who serves a connection."""
import json
import os

import pytest

from lib import apps, nstack, wait

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="rules need nstack")
NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


def rules(*list_, default="kernel"):
    return {"rules": {"rules": list(list_), "default": default}}


def redis(net, port, prefix=(), **kw):
    return net.serve([*prefix, "redis-server", "--port", port, "--bind", "0.0.0.0", "--protected-mode", "no",
                      "--save", "", "--dir", net.workdir], f"redis-{port}", tcp=[port], owned=False, **kw)


def served_by(net, addr, port):
    before = net.server.kernel_tcp_segments(), nstack.stack_counters(net.server).get("tcp_passive_opens", 0)
    assert apps.redis_cli(net.client, addr, "ping", port=port) == "PONG"
    by_kernel = net.server.kernel_tcp_segments() != before[0]
    by_us = nstack.stack_counters(net.server).get("tcp_passive_opens", 0) != before[1]
    assert by_kernel != by_us, (by_kernel, by_us)
    return "kernel" if by_kernel else "stack"


def owns(net, port):
    wait.until(lambda: ("tcp", port) in nstack.claims(net.server), f"port {port} to be ours")


def test_one_program_only(net):
    """The default is the kernel, a rule names one program: all peers of its ports, the others' ports none."""
    config = rules({"program": "redis-server", "action": "stack"})
    redis(net, 6379, config=config)
    owns(net, 6379)
    net.serve([nstack.PYTHON, "-m", "http.server", "8000"], "http", tcp=[8000], owned=False, config=config)
    assert served_by(net, net.s4, 6379) == "stack"
    proof = net.proof()
    apps.curl(net.client, apps.url(net.s4, 8000))
    proof.kernel()
    assert ("tcp", 8000) not in nstack.claims(net.server)


def test_a_rule_before_it_stays_in_force(net):
    """One that asks for the peer only and comes first: the steering program goes on asking it."""
    config = rules({"program": "redis-server", "action": "stack"},
                   {"remote": net.c4, "action": "kernel", "priority": 1}, default="stack")
    redis(net, 6379, config=config)
    owns(net, 6379)
    assert served_by(net, net.s4, 6379) == "kernel"


def test_users(net):
    """The same program as two users. (Without a daemon an unprivileged one has no stack of its own.)"""
    apps.open_path(net.workdir)
    config = rules({"user": "nobody", "action": "kernel"}, default="stack")
    redis(net, 6379, config=config)
    owns(net, 6379)
    redis(net, 6380, NOBODY, config=config)
    assert served_by(net, net.s4, 6379) == "stack"
    assert served_by(net, net.s4, 6380) == "kernel"
    assert ("tcp", 6380) not in nstack.claims(net.server)


def test_a_programs_own_rules(net):
    """NSTACK_RD decides for what the program binds, and for whom it connects to."""
    redis(net, 6379)
    owns(net, 6379)
    redis(net, 6380, env={"NSTACK_RD": "0.0.0.0/0=kernel"})
    assert served_by(net, net.s4, 6379) == "stack"
    assert served_by(net, net.s4, 6380) == "kernel"
    for rd, who in (("198.18.0.0/15=stack", "stack"), (f"{net.s4}=kernel", "kernel")):
        before = net.client.kernel_tcp_segments()
        argv = net.argv(["redis-cli", "-h", net.s4, "ping"])
        out = net.client.run(["env", f"NSTACK_RD={rd}", *argv]).stdout
        assert out == "PONG\n"
        assert ("kernel" if net.client.kernel_tcp_segments() != before else "stack") == who


def test_own_rules_that_are_wrong(net):
    """They are left out, and it is said why."""
    redis(net, 6379, env={"NSTACK_RD": "198.18.0.0=nowhere/", "NSTACK_LOG_ON": "ERR"})
    owns(net, 6379)
    assert "NSTACK_RD" in net.logs() and "nowhere/" in net.logs()


def test_a_table_of_prefixes(net):
    """A hundred thousand of them decide for whom a client connects to; what it listens to is not concerned."""
    path = os.path.join(net.workdir, "prefixes")
    with open(path, "w", encoding="utf8") as f:
        for i in range(100_000):
            f.write(f"{20 + i // 65536}.{i // 256 % 256}.{i % 256}.0/24 drop\n")
        f.write(f"198.18.0.0/15 stack\n{net.s4}/32 kernel\n2001:db8::/32 kernel # and\n{net.s6} stack\n")
    config = {"prefixes": path}
    redis(net, 6379)
    owns(net, 6379)
    for addr, who in ((net.s4, "kernel"), (net.s6, "stack")):
        server = net.serve(["redis-server", "--port", "6400", "--bind", addr, "--protected-mode", "no", "--save", "",
                            "--dir", net.workdir], "server", tcp=[6400], plain=True)
        before = net.client.kernel_tcp_segments()
        out = net.client.run(net.argv(["redis-cli", "-h", addr, "-p", "6400", "ping"], config=config)).stdout
        assert out == "PONG\n"
        assert ("kernel" if net.client.kernel_tcp_segments() != before else "stack") == who
        server.stop()
    bad = net.config(prefixes=net.config(not_a_prefix=1))
    r = net.client.run(["env", f"NSTACK_APP_LOG_PATH={net.workdir}", nstack.TOOL, "run", "--config", bad, "--",
                        "redis-cli", "-h", net.s4, "ping"])
    assert r.stdout == "PONG\n", "a wrong table leaves the program to the kernel"
    assert "a prefix comes first" in net.logs()


@pytest.mark.in_process
def test_dmm_rule_file(net):
    """NSTACK_MOD_CFG_RD, without a configuration: comments, trailing commas, a plane's name."""
    path = os.path.join(net.workdir, "rd_config.json")
    with open(path, "w", encoding="utf8") as f:
        f.write('{ "ip_route": [ /* this host */ {"subnet": "%s/32", "type": "nstack-kernel"}, ],\n'
                '  "prot_route": [], }' % net.s4)
    redis(net, 6379, env={"NSTACK_MOD_CFG_RD": path})
    net.serve(["redis-server", "--port", "6380", "--bind", net.s6, "--protected-mode", "no", "--save", "",
               "--dir", net.workdir], "redis6", tcp=[6380], env={"NSTACK_MOD_CFG_RD": path})
    assert served_by(net, net.s4, 6379) == "kernel"
    assert served_by(net, net.s6, 6380) == "stack"


def test_an_interface_keeps_no_such_rules(net):
    path = net.config(**rules({"program": "x", "action": "drop"})["rules"])
    redis(net, 6379)
    r = net.tool("rules", "set", path, check=False)
    assert r.returncode and "configuration" in r.stderr


def test_explain(net):
    path = net.config(**rules({"program": "nginx", "user": "www-data", "cgroup": "/web", "action": "drop"})["rules"])

    def ask(*who):
        r = net.tool("rules", "explain", "tcp", "198.18.0.1:80", "from", "198.18.9.9", "--file", path, "--json", *who)
        return json.loads(r.stdout)["action"]
    full = ["--program", "nginx", "--user", "www-data", "--cgroup", "/web/1"]
    assert ask(*full) == "drop"
    for i in (0, 2, 4):
        assert ask(*full[:i], *full[i + 2:]) == "kernel"
    assert net.tool("rules", "explain", "tcp", "198.18.0.1:80", "--file", path, "--user", "no-such-user",
                    check=False).returncode


CHOOSES = """
import socket, sys
listeners = []
for i, name in enumerate(sys.argv[1:]):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(0xff02, 0x100, name.encode())  # NSTACK_SOCKOPT, NSTACK_RD_STACK
    s.bind(("0.0.0.0", 6500 + i))
    s.listen()
    listeners.append(s)
for s in listeners:
    c, _ = s.accept()
    try: of_connection = c.getsockopt(0xff02, 0x100, 32)
    except OSError: of_connection = b"kernel"  # as any socket that nstack does not know
    c.sendall(s.getsockopt(0xff02, 0x100, 32) + b" " + of_connection)
    c.close()
input()
"""


def chosen(net, names, default):
    """For each choice: what the listener and the connection say, and who has served it."""
    argv = net.argv([nstack.PYTHON, "-c", CHOOSES, *names], config=rules(default=default))
    net.server.spawn(argv, "chooses", stdin="pipe", env=net.env())
    out = []
    for i, name in enumerate(names):
        wait.until(lambda i=i: net.server.listening(6500 + i), "a listener")
        if (name or default) not in ("kernel", ""):
            owns(net, 6500 + i)
        before = net.server.kernel_tcp_opens(), nstack.stack_counters(net.server).get("tcp_passive_opens", 0)
        said = net.client.run(["nc", "-d", "-w5", net.s4, str(6500 + i)]).stdout.replace("\0", "")
        after = net.server.kernel_tcp_opens(), nstack.stack_counters(net.server).get("tcp_passive_opens", 0)
        assert after != before
        out.append((said, "kernel" if after[0] != before[0] else "stack"))
    return out


def test_a_sockets_own_stack(net):
    """Chosen by setsockopt(), in place of the rules; "" leaves it to them."""
    assert chosen(net, ["kernel", ""], "stack") == [("kernel kernel", "kernel"), ("tcpip tcpip", "stack")]


@pytest.mark.in_process
def test_a_sockets_own_stack_where_rules_say_kernel(net):
    assert chosen(net, ["tcpip", ""], "kernel") == [("tcpip tcpip", "stack"), ("kernel kernel", "kernel")]
