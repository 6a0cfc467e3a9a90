# SPDX-License-Identifier: Apache-2.0
"""10,000 connections held open at once, each exchanging data."""
import pytest

from lib import apps, nstack

N = 10_000


@pytest.mark.parametrize("kind", ["python", "redis"])
def test_ten_thousand(net, family, kind):
    addr = net.saddr(family)
    limit = 3 * N
    for ns in (net.server, net.client):
        ns.run(["sysctl", "-qw", "net.core.somaxconn=4096", "net.ipv4.tcp_max_syn_backlog=8192",
                "net.ipv4.ip_local_port_range=10000 65000"])
    if kind == "python":
        net.serve([*apps.prog("hold.py"), "server", addr, 9300], "hold", tcp=[9300], nofile=limit)
        proof = net.proof()
        c = net.client.spawn([*apps.prog("hold.py"), "client", addr, 9300, N], "holder",
                             nofile=limit, stdin="pipe")
        c.wait_output(rf"^held {N}$", timeout=120)
        if net.is_nstack:
            est = [s for s in nstack.sockets(net.server) if s["state"].startswith("ESTAB")]
            assert len(est) == N
        c.popen.stdin.write(b"go\n")
        c.popen.stdin.flush()
        c.wait_output(rf"^done {N}$", timeout=60)
        assert c.wait(30) == 0
        proof.user_stack(tcp=4 * N)
    else:
        net.serve(["redis-server", "--port", 6379, "--bind", addr, "--protected-mode", "no",
                   "--save", "", "--maxclients", 12000, "--tcp-backlog", 4096,
                   "--dir", net.workdir], "redis", tcp=[6379], nofile=limit)
        proof = net.proof()
        apps.redis_benchmark(net.client, addr, 4 * N, clients=N, tests="set")
        calls = apps.redis_calls(apps.redis_cli(net.client, addr, "info", "commandstats"))
        assert calls["set"] >= 4 * N
        proof.user_stack(tcp=4 * N)
