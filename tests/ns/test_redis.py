# SPDX-License-Identifier: Apache-2.0
"""redis-server under nsocket, redis-benchmark and redis-cli on the plain kernel."""
import pytest

from lib import apps


@pytest.mark.smoke
def test_values_survive(net, family):
    apps.redis(net)
    proof = net.proof()
    addr = net.saddr(family)
    value = "v" * 100_000
    assert apps.redis_cli(net.client, addr, "-x", "set", "big", input=value) == "OK"
    assert apps.redis_cli(net.client, addr, "get", "big") == value
    assert apps.redis_cli(net.client, addr, "strlen", "big") == str(len(value))
    assert apps.redis_cli(net.client, addr, "incr", "n") == "1"
    proof.user_stack(tcp=4)


@pytest.mark.parametrize("pipeline", [1, 16])
def test_benchmark(net, family, pipeline):
    apps.redis(net)
    proof = net.proof()
    n = 20_000 * (4 if pipeline > 1 else 1)
    addr = net.saddr(family)
    apps.redis_benchmark(net.client, addr, n, pipeline)
    calls = apps.redis_calls(apps.redis_cli(net.client, addr, "info", "commandstats"))
    assert calls["set"] >= n and calls["get"] >= n, calls
    # every key that the benchmark wrote has its 64 bytes
    assert apps.redis_cli(net.client, addr, "strlen", "key:000000000001") == "64"
    assert int(apps.redis_cli(net.client, addr, "dbsize")) == 1000
    proof.user_stack(tcp=2 * n // (pipeline * 60))


def test_pubsub_and_blocking(net, family):
    """Connections that wait for a long time are woken by others."""
    apps.redis(net)
    addr = net.saddr(family)
    proof = net.proof()
    sub = net.client.spawn(["redis-cli", "-h", addr, "subscribe", "news"], "sub")
    sub.wait_output(r"^subscribe")
    pop = net.client.spawn(["redis-cli", "-h", addr, "blpop", "queue", "20"], "blpop")
    assert apps.redis_cli(net.client, addr, "publish", "news", "hello-there") == "1"
    sub.wait_output(r"^hello-there$")
    from lib import wait
    wait.until(lambda: "cmd=blpop" in apps.redis_cli(net.client, addr, "client", "list"), "blpop to wait")
    assert apps.redis_cli(net.client, addr, "rpush", "queue", "item") == "1"
    assert pop.ok(10).split() == ["queue", "item"]
    proof.user_stack(tcp=10)


def test_idle_server_does_not_burn(net):
    """Waiting never burns a core unless a spin time is configured."""
    from lib import proc, wait
    p = apps.redis(net)
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
    before, start = p.cpu_seconds(), proc.elapsed()
    wait.until(lambda: proc.elapsed() > start + 3, "3 s of idling")
    used = p.cpu_seconds() - before
    assert used < 0.3, f"{used:.2f} s of CPU in 3 s of idling"
    assert apps.redis_cli(net.client, net.s4, "ping") == "PONG"
