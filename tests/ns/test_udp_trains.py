# SPDX-License-Identifier: Apache-2.0
"""Trains of datagrams: a sender on this machine that uses UDP_SEGMENT hands veth one long packet,
and generic XDP sees it in one piece, without the size of the datagrams in it. The kernel splits it
for the shadow socket, so that the program gets what was sent.
"""
import json

import pytest

from lib import nstack, wait

PORT = 5000
SERVER = r"""
import json, socket, sys
port, want, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
s.bind(("::", port))
s.settimeout(20)
got = []
while len(got) < want:
    data, peer = s.recvfrom(65536)
    if data == b"hello":
        s.sendto(b"hello", peer)
        continue
    number, size = int.from_bytes(data[:4], "big"), len(data)
    assert data[4:] == bytes([number & 255]) * (size - 4), "the bytes of another datagram"
    got.append((number, size))
json.dump(sorted(got), open(path, "w"))
"""
CLIENT = r"""
import socket, sys, time
addr, port, size, per, trains = sys.argv[1], *map(int, sys.argv[2:6])
UDP_SEGMENT = 103
s = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(10)
s.connect((addr, port))
s.send(b"hello")
assert s.recv(100) == b"hello"
s.setsockopt(17, UDP_SEGMENT, size)
number = 0
for t in range(trains):
    cars = []
    for _ in range(per):
        cars.append(number.to_bytes(4, "big") + bytes([number & 255]) * (size - 4))
        number += 1
    # the last car of a train may be shorter
    s.send(b"".join(cars)[:len(b"".join(cars)) - 5])
    time.sleep(0.005)
s.setsockopt(17, UDP_SEGMENT, 0)
for _ in range(20):  # and single ones beside them, the longest that the link takes
    s.send(number.to_bytes(4, "big") + bytes([number & 255]) * (LONGEST - 4))
    number += 1
"""
TRAINS = 20


@pytest.fixture
def segmented(net):
    """The sender's kernel cuts trains before they leave."""
    net.client.run(["ethtool", "-K", net.cif, "tx-udp-segmentation", "off"])


def test_short_trains_cut_by_the_sender(net, segmented):
    """A train within the MTU can't be told from a datagram: this is what the manual says to do."""
    out = net.workdir + "/got.json"
    server = net.serve(["/usr/bin/python3", "-c", SERVER, PORT, TRAINS * 10 + 20, out], "server",
                       udp=[PORT], owned=False)
    if net.is_nstack:
        wait.until(lambda: ("udp", PORT) in nstack.claims(net.server), "the port to be owned")
    net.client.run(["/usr/bin/python3", "-c", CLIENT.replace("LONGEST", "1472"), net.s4, PORT, 100, 10,
                    TRAINS])
    server.ok()
    with open(out, encoding="utf8") as f:
        assert [size for _, size in json.load(f)[:TRAINS * 10]] == ([100] * 9 + [95]) * TRAINS
    if net.is_nstack:
        assert nstack.verdicts(net.server).get("pass_udp_train", 0) == 0


@pytest.mark.parametrize("size,per", [(1400, 40), (100, 60), (1000, 2)])
def test_every_datagram_with_its_size(net, family, size, per):
    longest = 1472 if family == 4 else 1452
    out = net.workdir + "/got.json"
    total = TRAINS * per + 20
    server = net.serve(["/usr/bin/python3", "-c", SERVER, PORT, total, out], "server", udp=[PORT],
                       owned=False)
    if net.is_nstack:
        wait.until(lambda: ("udp", PORT) in nstack.claims(net.server), "the port to be owned")
        before = nstack.verdicts(net.server)
    net.client.run(["/usr/bin/python3", "-c", CLIENT.replace("LONGEST", str(longest)),
                    net.saddr(family), PORT, size, per, TRAINS])
    if net.is_nstack:
        after = nstack.verdicts(net.server)
        trains = after["pass_udp_train"] - before.get("pass_udp_train", 0)
        assert trains == TRAINS, after
        ours = sum(after[k] - before.get(k, 0) for k in after if k.startswith("stack_"))
        assert ours >= 21, after
    server.ok()
    with open(out, encoding="utf8") as f:
        got = json.load(f)
    want = [[i, size - 5 if i % per == per - 1 else size] for i in range(TRAINS * per)]
    want += [[TRAINS * per + i, longest] for i in range(20)]
    assert got == want


def test_the_mtu_is_followed(net):
    """With a larger MTU the same datagram is no train any more."""
    if not net.is_nstack:
        pytest.skip("the tables are the subject")
    net.serve(["/usr/bin/python3", "-c", SERVER, PORT, 10**6, "/dev/null"], "server", udp=[PORT],
              owned=False)
    wait.until(lambda: ("udp", PORT) in nstack.claims(net.server), "the port to be owned")
    for ns, dev in ((net.server, net.sif), (net.client, net.cif)):
        ns.run(["ip", "link", "set", dev, "mtu", "9000"])
    send = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
            f"s.sendto(bytes(4000), ('{net.s4}', {PORT}))")

    def steered():
        before = nstack.verdicts(net.server)
        net.client.run(["/usr/bin/python3", "-c", send])
        moved = wait.until(lambda: {k for k, v in nstack.verdicts(net.server).items()
                                    if v > before.get(k, 0)} & {"stack_claim", "pass_udp_train"},
                           "a verdict on the datagram")
        return moved == {"stack_claim"}
    wait.until(steered, "the tables to have the new MTU")
