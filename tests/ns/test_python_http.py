# SPDX-License-Identifier: Apache-2.0
"""python3 -m http.server under nsocket."""
import os

import pytest

from lib import apps
from lib.nstack import PYTHON


@pytest.mark.smoke
def test_files(net, family):
    www = net.workdir + "/www"
    os.makedirs(www)
    sums = {n: apps.blob(f"{www}/{n}", size) for n, size in (("a", 100), ("b", 3_000_001))}
    net.serve([PYTHON, "-m", "http.server", "8000", "--bind", net.saddr(family), "--directory", www],
              "http", tcp=[8000])
    proof = net.proof()
    for name, digest in sums.items():
        assert apps.curl_sum(net.client, apps.url(net.saddr(family), 8000, f"/{name}"),
                             net.workdir) == digest
    listing = apps.curl(net.client, apps.url(net.saddr(family), 8000))
    assert 'href="a"' in listing and 'href="b"' in listing
    proof.user_stack(tcp=20)


def test_parallel_clients(net, family):
    """ThreadingHTTPServer: a thread per connection."""
    www = net.workdir + "/www"
    os.makedirs(www)
    digest = apps.blob(www + "/f", 500_000)
    net.serve([PYTHON, "-m", "http.server", "8000", "--bind", net.saddr(family), "--directory", www],
              "http", tcp=[8000])
    proof = net.proof()
    target = apps.url(net.saddr(family), 8000, "/f")
    clients = [net.client.spawn(["curl", "-sS", "--fail", "-m", "30", "-o", f"{net.workdir}/o{i}", target],
                                f"curl{i}") for i in range(12)]
    for i, c in enumerate(clients):
        c.ok(40)
        assert apps.sha256(f"{net.workdir}/o{i}") == digest
    proof.user_stack(tcp=12 * 5)


def test_wildcard_v6_serves_v4(net):
    """A dual-stack listener on [::] serves IPv4 clients by the user stack too."""
    www = net.workdir + "/www"
    os.makedirs(www)
    digest = apps.blob(www + "/f", 5000)
    net.serve([PYTHON, "-m", "http.server", "8000", "--bind", "::", "--directory", www],
              "http", tcp=[8000])
    proof = net.proof()
    for fam in (4, 6):
        assert apps.curl_sum(net.client, apps.url(net.saddr(fam), 8000, "/f"), net.workdir) == digest
    proof.user_stack(tcp=6)
