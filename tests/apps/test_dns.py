# SPDX-License-Identifier: Apache-2.0
"""dnsmasq that answers from its own file, asked by dig over UDP and TCP. It becomes another user, and keeps
capabilities meanwhile."""
import pytest

DNSMASQ = ["dnsmasq", "--keep-in-foreground", "--no-daemon", "--conf-file=/dev/null", "--no-resolv",
           "--no-hosts", "--user=nobody", "--pid-file=", "--log-facility=-"]


@pytest.fixture
def names(sides):
    net = sides.net
    table = {f"h{i}.example.test": f"192.0.2.{i}" for i in range(1, 100)}
    with open(net.workdir + "/names", "w", encoding="utf8") as f:
        f.writelines(f"{a} {n}\n" for n, a in table.items())
        f.writelines(f"198.51.100.{i} many.example.test\n" for i in range(1, 120))
    sides.serve([*DNSMASQ, f"--addn-hosts={net.workdir}/names"], "dnsmasq", tcp=[53], udp=[53], owned=False)
    return table


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_dig(sides, names, tcp):
    with open(sides.net.workdir + "/questions", "w", encoding="utf8") as f:
        f.writelines(n + " A\n" for n in names)
    how = ["+tcp" if tcp else "+notcp", "+tries=2", "+time=3"]
    # the first one may have to wait for the neighbour's address, which the kernel asks for
    gone = sides.run(["dig", "@" + sides.addr, *how, "none.example.test"]).stdout
    assert "status: REFUSED" in gone or "status: NXDOMAIN" in gone, gone
    sides.watch()
    out = sides.run(["dig", "@" + sides.addr, *how, "+short", "-f", "questions"], timeout=60).stdout
    assert out.split() == list(names.values())
    if sides.family == 4 or not sides.client_ours: # dig sets IPV6_MTU: the kernel's, with that reason
        sides.user_stack(99)


def test_truncated_answer_is_asked_again_by_tcp(sides, names):
    out = sides.run(["dig", "@" + sides.addr, "+noedns", "+short", "many.example.test"]).stdout
    assert len(set(out.split())) == 119
