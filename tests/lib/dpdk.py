# SPDX-License-Identifier: Apache-2.0
"""Programs whose packets come by DPDK: net_af_packet on the veth, and a TAP as the kernel's side.

    namespace <base>-s                                   namespace <base>-c
      s0  198.18.N.1/24  2001:db8:N::1/64
       |   (a TAP with the wire's MAC address)
      nstack, DPDK -- s0-wire (no address)  === veth ===  c0  198.18.N.2/24  2001:db8:N::2/64

A side gets its device, and its TAP, with the first program that runs under nstack there, and is reached as
long as one does (or nstackd).
"""
import os
import shutil
import tempfile

from . import nstack
from .net import Net

PLUGIN = os.path.join(nstack.BUILD, "libnstack_dpdk.so")

class _DpdkNet(Net):
    """Programs under nstack, and nstackd, are told of a DPDK device: in files that other users can read."""

    def __init__(self, workdir, mode, **kw):
        self.public = tempfile.mkdtemp(prefix="nstest-")
        os.chmod(self.public, 0o755)
        super().__init__(workdir, mode, **kw)

    @property
    def shared_device(self):
        """Whoever comes while another process has the device is served by the kernel."""
        return self.mode != "in_process"

    def config(self, **keys):
        return shutil.copy(super().config(**keys), self.public)

    def close(self):
        super().close()
        shutil.rmtree(self.public, ignore_errors=True)

    def keys(self, side=None, **more):
        """What the configuration says of it, and more."""
        dev = self.cif if side is self.client else self.sif
        return {"hal": "dpdk", "interfaces": [dev], "dpdk": {"devices": [self.device(dev)]}, **more}

    def argv(self, cmd, config=None, side=None):
        """A configuration that is a file is complete."""
        if not isinstance(config, str):
            config = self.keys(side, **(config or {}))
        return super().argv(cmd, config, side)

    def daemon(self, ns, config=None):
        return super().daemon(ns, config or self.config(**self.keys(ns)))


class DpdkNet(_DpdkNet):
    """mode: as Net's, or with "dpdk." before it."""

    def __init__(self, workdir, mode, **kw):
        self.wired = set()
        super().__init__(workdir, mode.removeprefix("dpdk."), **kw)
        self.link_by_program = self.mode == "in_process"
        try:
            # on both sides, wired or not: a program sees as many interfaces everywhere
            for ns, dev in ((self.server, self.sif), (self.client, self.cif)):
                ns.run(["ip", "tuntap", "add", self._spare(dev), "mode", "tap"])
        except BaseException:
            self.close()
            raise

    def device(self, dev):
        return f"net_af_packet0,iface={self.wire_of(dev)}"

    @staticmethod
    def wire_of(tap):
        return tap + "-wire"

    @staticmethod
    def _spare(dev):
        return dev + "-tap"

    def _as_a_wire(self, ns, dev):
        """What a side sends comes as on a wire: of the MTU's size, checksums done."""
        ns.run(["ethtool", "-K", self.wire_of(dev) if ns in self.wired else dev, "tx", "off", "tso", "off", "gso", "off",
                "tx-udp-segmentation", "off"])

    def wire(self, ns):
        """From now on that side's packets are DPDK's. Its interface's name and addresses are the TAP's."""
        if ns in self.wired:
            return
        self.wired.add(ns)
        here = self.sif, self.s4, self.s6
        there = self.cif, self.c4, self.c6
        other = self.client
        if ns is self.client:
            here, there, other = there, here, self.server
        tap, v4, v6 = here
        wire = self.wire_of(tap)
        ns.run(["sh", "-ec", f"""
            mtu=$(cat /sys/class/net/{tap}/mtu)
            ip link set {tap} down; ip addr flush dev {tap}; ip link set {tap} name {wire}
            sysctl -qw net.ipv4.conf.{wire}.rp_filter=1 net.ipv6.conf.{wire}.disable_ipv6=1
            ip link set {wire} up
            ip link set {self._spare(tap)} name {tap} mtu $mtu up
            ip addr add {v4}/24 dev {tap}; ip addr add {v6}/64 dev {tap} nodad"""])
        self._as_a_wire(other, there[0])

    def keys(self, side=None, **more):
        self.wire(side or self.server)
        return super().keys(side, **more)

    def load(self, ns):
        self.wire(ns)
        super().load(ns)


class AfXdpNet(DpdkNet):
    """DPDK's own use of AF_XDP: its program takes all packets of the interface."""

    def device(self, dev):
        return f"net_af_xdp0,iface={self.wire_of(dev)},busy_budget=0"


class SteeredNet(_DpdkNet):
    """DPDK's use of AF_XDP with our steering program in it: no TAP, the interface stays the kernel's. mode: as
    Net's, or with "dpdk.xdp." before it."""

    def __init__(self, workdir, mode, **kw):
        super().__init__(workdir, mode.removeprefix("dpdk.xdp."), **kw)

    def device(self, dev):
        return f"net_af_xdp0,iface={dev},busy_budget=0"


def net_of(workdir, mode, **kw):
    """The pair of namespaces that a mode wants."""
    kind = SteeredNet if mode.startswith("dpdk.xdp.") else DpdkNet if mode.startswith("dpdk.") else Net
    return kind(workdir, mode, **kw)
