# SPDX-License-Identifier: Apache-2.0
"""A server whose packets come by DPDK: net_af_packet on the veth, and a TAP as the kernel's side.

    namespace <base>-s                                   namespace <base>-c
      dp0  198.18.N.1/24  2001:db8:N::1/64
       |   (a TAP with s0's MAC address)
      nstack, DPDK -- s0 (no address)  ===== veth =====  c0  198.18.N.2/24  2001:db8:N::2/64
"""
import os

from . import nstack
from .net import Net

PLUGIN = os.path.join(nstack.BUILD, "libnstack_dpdk.so")
TAP = "dp0"


class DpdkNet(Net):
    """The server's namespace as above; models: in_process, daemon."""
    device = "net_af_packet0,iface={}"

    def __init__(self, workdir, model, **kw):
        super().__init__(workdir, model, **kw)
        try:
            s = self.server.run
            # packets as a wire has them: of the MTU's size, their checksums done
            self.client.run(["ethtool", "-K", self.cif, "tx", "off", "tso", "off", "gso", "off",
                             "tx-udp-segmentation", "off"])
            s(["ip", "addr", "flush", "dev", self.sif])
            s(["sysctl", "-qw", f"net.ipv4.conf.{self.sif}.rp_filter=1", f"net.ipv6.conf.{self.sif}.disable_ipv6=1"])
            s(["ip", "tuntap", "add", TAP, "mode", "tap"])
            s(["ip", "addr", "add", self.s4 + "/24", "dev", TAP])
            s(["ip", "addr", "add", self.s6 + "/64", "dev", TAP, "nodad"])
            s(["ip", "link", "set", TAP, "up"])
        except BaseException:
            self.close()
            raise

    def keys(self, **more):
        """What the configuration says of the device."""
        return {"hal": "dpdk", "interfaces": [TAP], "dpdk": {"devices": [self.device.format(self.sif)]}, **more}

    def argv(self, cmd, config=None, side=None):
        """The client's programs have AF_XDP."""
        if side in (None, self.server):
            config = self.keys(**(config or {}))
        return super().argv(cmd, config, side)

    def daemon(self, ns, config=None):
        if ns is self.server and not config:
            config = self.config(**self.keys())
        return super().daemon(ns, config)


class AfXdpNet(DpdkNet):
    """DPDK's own use of AF_XDP: its program takes all packets of the interface."""
    device = "net_af_xdp0,iface={},busy_budget=0"
