# SPDX-License-Identifier: Apache-2.0
"""nginx with a master and one worker under nsocket; curl and wrk on the plain kernel."""
import pytest

from lib import apps


@pytest.fixture
def nginx(net):
    return apps.Nginx(net)


@pytest.mark.smoke
@pytest.mark.parametrize("way", ["sf", "rw"])
def test_files_arrive_whole(net, nginx, family, way):
    proof = net.proof()
    for name in ("1k", "10m"):
        target = apps.url(net.saddr(family), 80, f"/{way}/{name}")
        assert apps.curl_sum(net.client, target, net.workdir) == nginx.sums[name]
    assert nginx.requests() == {"200": 2}
    proof.user_stack(tcp=50)


@pytest.mark.parametrize("way", ["sf", "rw"])
@pytest.mark.parametrize("size", ["1k", "10m"])
@pytest.mark.parametrize("close", [False, True], ids=["keepalive", "close"])
def test_load(net, nginx, family, way, size, close):
    proof = net.proof()
    target = apps.url(net.saddr(family), 80, f"/{way}/{size}")
    n, _ = apps.wrk(net.client, target, seconds=2, conns=32 if size == "1k" else 8, close=close)
    assert apps.curl_sum(net.client, target, net.workdir) == nginx.sums[size]
    got = nginx.requests()
    # what wrk counted was served by this nginx (requests cut off at the end may come on top)
    assert set(got) <= {"200", "499"} and got["200"] >= n + 1, (got, n)
    proof.user_stack(tcp=n)


def test_keepalive_reuses_the_connection(net, nginx, family):
    target = apps.url(net.saddr(family), 80, "/sf/1k")
    proof = net.proof()
    out = net.client.run(["curl", "-sS", "--fail", "-w", "%{num_connects} ", "-o", "/dev/null",
                          "-o", "/dev/null", "-o", "/dev/null", target, target, target]).stdout
    assert out.split() == ["1", "0", "0"]
    proof.user_stack(tcp=3)


def test_errors_and_ranges(net, nginx, family):
    base = apps.url(net.saddr(family), 80)
    proof = net.proof()
    r = net.client.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", base + "none"])
    assert r.stdout == "404"
    with open(net.workdir + "/www/10m", "rb") as f:
        f.seek(1_000_003)
        want = f.read(77_777)
    got = net.client.run(["curl", "-sS", "-r", "1000003-1077779", base + "sf/10m"], text=False).stdout
    assert got == want
    proof.user_stack(tcp=5)


def test_client_goes_away(net, nginx):
    """A client that resets in the middle of a 10 MB answer does the server no harm."""
    target = apps.url(net.s4, 80, "/rw/10m")
    for _ in range(5):
        r = net.client.run(["curl", "-sS", "--limit-rate", "200k", "-m", "0.3", "-o", "/dev/null",
                            target], check=False)
        assert r.returncode == 28, r.stderr
    proof = net.proof()
    assert apps.curl_sum(net.client, target, net.workdir) == nginx.sums["10m"]
    proof.user_stack(tcp=20)


def test_worker_without_privilege(net):
    """Stock nginx changes its worker's user: what needs capabilities is done before."""
    conf = apps.Nginx(net, user="www-data")
    apps.open_path(net.workdir)
    proof = net.proof()
    for name in ("1k", "10m"):
        target = apps.url(net.s4, 80, f"/sf/{name}")
        assert apps.curl_sum(net.client, target, net.workdir) == conf.sums[name]
    assert "exited on signal" not in conf.proc.stderr()
    proof.user_stack(tcp=10)


def test_single_process(net, family):
    n = apps.Nginx(net, master=False)
    proof = net.proof()
    assert apps.curl_sum(net.client, apps.url(net.saddr(family), 80, "/sf/10m"),
                         net.workdir) == n.sums["10m"]
    proof.user_stack(tcp=20)


def test_reload_makes_a_new_worker(net, nginx):
    """SIGHUP: a new worker takes over the inherited listeners."""
    import signal
    from lib import wait
    target = apps.url(net.s4, 80, "/sf/1k")
    assert apps.curl_sum(net.client, target, net.workdir) == nginx.sums["1k"]
    with open(net.workdir + "/nginx.pid", encoding="utf8") as f:
        master = int(f.read())
    kids = lambda: set(open(f"/proc/{master}/task/{master}/children").read().split())
    old = kids()
    import os
    os.kill(master, signal.SIGHUP)
    wait.until(lambda: kids() and not kids() & old, "the new worker to be alone")
    net.wait_served(nginx.proc, tcp=[80], owned=net.is_nstack)
    proof = net.proof()
    assert apps.curl_sum(net.client, target, net.workdir) == nginx.sums["1k"]
    proof.user_stack(tcp=3)


def test_many_servers_share_one_veth(net):
    """nginx and redis at the same time on an interface with one queue."""
    n = apps.Nginx(net)
    apps.redis(net)
    proof = net.proof()
    load = net.client.spawn(["redis-benchmark", "-h", net.s4, "-c", 20, "-n", 50_000, "-t", "get",
                             "-q"], "bench")
    for family in (4, 6):
        target = apps.url(net.saddr(family), 80, "/sf/10m")
        assert apps.curl_sum(net.client, target, net.workdir) == n.sums["10m"]
        assert apps.redis_cli(net.client, net.saddr(family), "set", "k", "v") == "OK"
    load.ok(60)
    proof.user_stack(tcp=1000)
