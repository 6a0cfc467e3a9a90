# SPDX-License-Identifier: Apache-2.0
"""Servers that somebody else makes another user before they start: su, runuser, setpriv.

Without the capabilities that the stack takes they run on the kernel, which says why; with them, or by nstackd,
by the stack."""
import pytest

from lib import apps, nstack

pytestmark = pytest.mark.as_root # they change the user

PORT = 6379
REDIS = ["redis-server", "--port", PORT, "--bind", "0.0.0.0", "::", "--protected-mode", "no", "--save", "",
         "--appendonly", "no", "--dir", "/"]
AMBIENT = ",".join("+" + c for c in ("net_admin", "net_raw", "bpf", "sys_admin", "ipc_lock", "dac_override"))
SETPRIV = ["setpriv", "--reuid=65534", "--regid=65534"]
WAYS = {
    "runuser": ["runuser", "-u", "nobody", "--"],
    "su": ["su", "-s", "/usr/bin/env", "nobody", "--"],
    "setpriv": [*SETPRIV, "--clear-groups"],
    "setpriv-init-groups": [*SETPRIV, "--init-groups"],
    "setpriv-few": [*SETPRIV, "--clear-groups", "--bounding-set=-sys_admin", "--no-new-privs"],
}


def uses(net, addr):
    """Values of several sizes, there and back."""
    for size in (1, 1000, 100_000):
        value = "v" * size
        assert apps.redis_cli(net.client, addr, "-x", "set", "key", input=value) == "OK"
        assert apps.redis_cli(net.client, addr, "get", "key") == value


def user_of(proc):
    with open(f"/proc/{proc}/status", encoding="utf8") as f:
        return next(line.split()[1:5] for line in f if line.startswith("Uid:"))


@pytest.mark.parametrize("way", WAYS)
def test_without_capabilities(net, family, way):
    net.serve([*WAYS[way], *REDIS], "redis", tcp=[PORT], owned=net.mode == "daemon")
    proof = net.proof()
    uses(net, net.saddr(family))
    if net.mode == "daemon":
        proof.user_stack(tcp=20)
    elif net.is_nstack:
        (me,) = [p for p in nstack.processes(net.server) if p["program"].startswith("redis")]
        assert not me["running"] and me["fallback"], me
        assert [r["name"] for r in me["kernel_reasons"]] == ["stack_not_running"], me


@pytest.mark.parametrize("more", [["--clear-groups"], ["--init-groups"]], ids=["clear", "init"])
def test_with_capabilities(net, family, more):
    net.serve([*SETPRIV, *more, f"--inh-caps={AMBIENT}", f"--ambient-caps={AMBIENT}", *REDIS], "redis", tcp=[PORT])
    proof = net.proof()
    uses(net, net.saddr(family))
    proof.user_stack(tcp=20)
    if net.is_nstack:
        (me,) = [p for p in nstack.processes(net.server) if p["program"].startswith("redis")]
        assert user_of(me["pid"]) == ["65534"] * 4
