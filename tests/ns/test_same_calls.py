# SPDX-License-Identifier: Apache-2.0
"""The same program plain and under nsocket: every result of every call is the same.

progs/calls.py says what is called. The kernel on both sides gives the expectation; then the
server, then the client side runs under nsocket.
"""
import json

import pytest

from lib import apps

PORT = 9300


def results(out):
    return json.loads(out.split("results ", 1)[1])


def play(net, addr, server_plain, client_plain):
    """What both sides printed."""
    cmd = apps.prog("calls.py")
    server = net.serve([*cmd, "serve", addr, PORT], f"serve-{server_plain}", tcp=[PORT],
                       plain=server_plain)
    argv = [*cmd, "peer", addr, PORT]
    client = net.client.spawn(argv if client_plain else net.argv(argv), f"peer-{client_plain}",
                              env=net.env())
    peer = results(client.ok(90))
    return {"serve": results(server.ok(30)), "peer": peer}


@pytest.fixture
def expected(net, family):
    got = play(net, net.saddr(family), True, True)
    assert len(got["serve"]) == len(got["peer"]) > 25
    return got


def same(got, want):
    wrong = [f"{side} {name}: {got[side].get(name)!r}, the kernel: {result!r}"
             for side in want for name, result in want[side].items() if got[side].get(name) != result]
    assert not wrong, "\n".join(wrong)


def test_server(net, family, expected):
    proof = net.proof()
    got = play(net, net.saddr(family), False, True)
    same(got, expected)
    assert not net.is_nstack or proof.delta()["redirected"] > 200


def test_client(net, family, expected):
    same(play(net, net.saddr(family), True, False), expected)
