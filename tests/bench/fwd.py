#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Forwarding over veth by hal_xdp and by a minimal libxdp loop, one after the other in each round.
With --dpdk also by hal_dpdk on DPDK's AF_XDP driver, and by testpmd on it, with the same source.

    source, cpu1 --> va ==== veth ==== vb --> forwarder, cpu0 --> back to va

Generic mode: the source is an AF_XDP sender, which may be the limit (then packets a kick are
few, and the ratio says little). Native mode (default): XDP live frames, several times what
anybody can forward. The source's MAC is nobody's, so va's kernel drops the frames that come back. Usage:
    fwd.py [--build DIR] [--rounds N] [--seconds S] [--size BYTES] [--mode MODE] [--dpdk]
           [--json]
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def sh(cmd):
    return subprocess.run(cmd, shell=True, check=True, capture_output=True, text=True).stdout


#: DPDK's AF_XDP driver, one queue, no busy polling (which veth has not)
DEVICE = "net_af_xdp0,iface=vb,busy_budget=0"
TESTPMD = ["dpdk-testpmd", "--no-huge", "-m", "128", "--no-shconf", "--no-pci", "--no-telemetry",
           f"--file-prefix=nstack-fwd-{os.getpid()}", "--lcores", "0@1,1@0", "--vdev", DEVICE, "--",
           "--forward-mode=macswap", "--total-num-mbufs=8192", "--no-mlockall"]
NAMES = {"fwd_raw": "a libxdp loop", "fwd_hal": "hal_xdp", "fwd_dpdk": "hal_dpdk on net_af_xdp", "testpmd": "testpmd"}


def sent(b):
    """Packets that vb has sent."""
    return json.loads(sh(f"ip -n {b} -j -s link show vb"))[0]["stats64"]["tx"]["packets"]


def testpmd(args, b):
    p = subprocess.Popen(["ip", "netns", "exec", b, *TESTPMD], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    try:
        start = sent(b)
        while sent(b) < start + 1000 and p.poll() is None:
            time.sleep(0.05)
        start, began = sent(b), time.monotonic()
        time.sleep(args.seconds)
        packets = sent(b) - start
        return {"pps": packets / (time.monotonic() - began), "packets": packets, "kicks": 0}
    finally:
        p.kill()
        p.communicate()


def forward(args, b, program):
    sh(f"ip -n {b} link set vb xdp off; ip -n {b} link set vb xdpgeneric off")  # the last one's
    if program == "testpmd":
        return testpmd(args, b)
    device, mode = (DEVICE, "dpdk") if program == "fwd_dpdk" else ("vb", args.mode)
    program = "fwd_hal" if program == "fwd_dpdk" else program
    return json.loads(sh(f"ip netns exec {b} taskset -c 0 {args.build}/tests/bench/{program} {device} {args.seconds} "
                         f"{mode}"))


def one(args, a, b, bmac, program):
    src = subprocess.Popen(
        ["ip", "netns", "exec", a, "taskset", "-c", "1", f"{args.build}/tests/bench/fwd_hal",
         "gen" if args.mode == "generic" else "live",
         "va", bmac, str(args.seconds + (3 if args.dpdk else 1)), str(args.size)], stdout=subprocess.PIPE, text=True)
    try:
        result = forward(args, b, program)
    finally:
        gen = src.communicate(timeout=args.seconds + 10)[0]
    result["source_pps"] = json.loads(gen)["pps"]
    return result


def ratio(runs, program, other):
    """The median of the rounds'."""
    return statistics.median(x["pps"] / y["pps"] for x, y in zip(runs[program], runs[other]))


def table(args, runs):
    """Markdown."""
    print(f"| {args.size} bytes, {args.mode} XDP, {len(runs['fwd_raw'])} rounds | Mpps, median [min..max] | "
          + " | ".join(f"/ {NAMES[p]}" for p in runs) + " |")
    print("|" + "---|" * (2 + len(runs)))
    for p, v in runs.items():
        mpps = [r["pps"] / 1e6 for r in v]
        print(f"| {NAMES[p]} | {statistics.median(mpps):.3f} [{min(mpps):.3f}..{max(mpps):.3f}] | "
              + " | ".join("" if p == q else f"{ratio(runs, p, q):.2f}" for q in runs) + " |")
    source = [r["source_pps"] / 1e6 for v in runs.values() for r in v]
    print(f"\nThe source: {min(source):.2f} to {max(source):.2f} Mpps.")


def main():
    ap = argparse.ArgumentParser()
    here = os.path.dirname(os.path.abspath(__file__))
    ap.add_argument("--build", default=os.path.join(here, "..", "..", "build"))
    ap.add_argument("--rounds", type=int, default=7)
    ap.add_argument("--seconds", type=float, default=2)
    ap.add_argument("--size", type=int, default=64)
    ap.add_argument("--mode", choices=("native", "generic"), default="native")
    ap.add_argument("--dpdk", action="store_true")
    ap.add_argument("--json", action="store_true")
    args = ap.parse_args()
    a, b = f"nsfwd-{os.getpid()}-a", f"nsfwd-{os.getpid()}-b"
    runs = {"fwd_raw": [], "fwd_hal": []}
    if args.dpdk:
        runs.update(fwd_dpdk=[], testpmd=[])
    try:
        sh(f"ip netns add {a}; ip netns add {b}; ip -n {a} link add va type veth peer name vb netns {b};"
           f"ip -n {a} link set va up; ip -n {b} link set vb up")
        bmac = sh(f"ip netns exec {b} cat /sys/class/net/vb/address").strip()
        for i in range(args.rounds):
            order = list(runs) if i % 2 == 0 else list(runs)[::-1]
            for program in order:
                runs[program].append(one(args, a, b, bmac, program))
    finally:
        subprocess.run(f"ip netns del {a}; ip netns del {b}", shell=True, capture_output=True)
    med = {p: statistics.median(r["pps"] for r in v) for p, v in runs.items()}
    out = {"size": args.size, "mode": args.mode, "median_pps": med,
           "ratio": {f"{p}/{q}": ratio(runs, p, q) for p in runs for q in runs if p != q},
           "runs": {p: [r["pps"] for r in v] for p, v in runs.items()},
           "last": {p: v[-1] for p, v in runs.items()}}
    if args.json:
        json.dump(out, sys.stdout)
        print()
        return
    table(args, runs)


if __name__ == "__main__":
    main()
