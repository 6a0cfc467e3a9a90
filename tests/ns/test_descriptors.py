# SPDX-License-Identifier: Apache-2.0
"""Descriptors of the library's own: out of the program's way, and not the program's to close."""
import pytest

from lib import apps


@pytest.mark.smoke
def test_program_closes_everything(net):
    srv = net.serve([*apps.prog("close_all.py"), net.s4, 9000], "close_all", tcp=[9000])
    proof = net.proof()
    for i in range(3):
        out = net.client.run(["nc", "-w5", net.s4, "9000"], input=f"hello {i}\n").stdout
        assert out == f"hello {i}\n"
    with open(srv.out, encoding="utf8") as f:
        assert f.read().split() == ["next", "1"]
    proof.user_stack(tcp=9)
