# SPDX-License-Identifier: Apache-2.0
"""fork with inherited listeners: the worker serves."""
import pytest

from lib import apps


@pytest.mark.smoke
def test_one_worker(net, family):
    addr = net.saddr(family)
    net.serve([*apps.prog("echo.py"), "fork", addr, 9200, 1], "fork", tcp=[9200])
    proof = net.proof()
    pids = set()
    for i in range(5):
        out = net.client.run(["nc", "-N", "-w5", addr, "9200"], input=f"hello {i}\n").stdout.split("\n")
        assert out[0].startswith("PID ") and out[1] == f"hello {i}"
        pids.add(out[0])
    assert len(pids) == 1
    proof.user_stack(tcp=20)


def test_two_workers_all_served(net, family):
    """One of them owns the port in our stack; the other may serve what the kernel gets. Every
    client is answered."""
    addr = net.saddr(family)
    net.serve([*apps.prog("echo.py"), "fork", addr, 9200, 2], "fork", tcp=[9200])
    clients = [net.client.spawn(["sh", "-c", f"echo hi | nc -N -w5 {addr} 9200"], f"c{i}")
               for i in range(10)]
    for c in clients:
        assert c.ok(20).endswith("hi\n")
