# SPDX-License-Identifier: Apache-2.0
"""Plays scenarios (tests/oracle/*.c) and compares what they recorded. See oracle.h."""
import fnmatch
import functools
import json
import os
import subprocess
import time
import tomllib

from lib import nstack, wait

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.path.join(nstack.BUILD, "tests", "oracle", "oracle")
SILENCE = 30  # seconds without a record: the play hangs
# which side runs under nsocket; the first play is the expectation
PLAYS = [(), ("server",), ("client",), ("server", "client")]


@functools.cache
def catalogue():
    """[(group, scenario, families, what it shows)]"""
    text = subprocess.run([PROGRAM, "--list"], capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t") for line in text.splitlines()]
    return [(g, s, [f for f, bit in ((4, 1), (6, 2)) if int(bits) & bit], shows)
            for g, s, bits, shows in rows]


def groups():
    """[(group, family)] in the order of the catalogue"""
    return list(dict.fromkeys((g, f) for g, _, fams, _ in catalogue() for f in fams))


@functools.cache
def differences():
    with open(os.path.join(HERE, "differences.toml"), "rb") as f:
        rows = tomllib.load(f).get("difference", [])
    for row in rows:
        unknown = set(row) - {"title", "reason", "where", "kernel", "nstack", "under", "family",
                              "section"}
        assert not unknown and row.get("title") and row.get("reason"), f"differences.toml: {row}"
        assert ("where" in row) != ("section" in row), f"differences.toml: where or section: {row}"
    return rows


class Side:
    """What one side printed: {scenario.label: text}, and whether it came to the end."""

    def __init__(self, text, status):
        self.records, self.ended, self.last, self.problem = {}, False, None, None
        for line in text.splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "S":
                self.last = rest
            elif kind == "R":
                label, _, value = rest.partition("\t")
                if label in self.records and self.records[label] != value:
                    self.problem = f"{label} recorded twice"
                self.records[label] = value
            elif kind == "F":
                self.problem = self.problem or rest
            elif line == "end":
                self.ended = True
        if not self.problem and (status or not self.ended):
            self.problem = f"ended with {status} in {self.last}"


def start(net, number, group, family, scenario=None):
    """Begin play `number` of PLAYS on the pair of namespaces; {side: process}"""
    channel = os.path.join(net.workdir, f"channel-{group}-{family}")
    procs = {}
    for side, ns, dev in (("server", net.server, net.sif), ("client", net.client, net.cif)):
        argv = [PROGRAM, side, group, family, number, channel, net.s4, net.s6, net.c4, net.c6, dev,
                *([scenario] if scenario else [])]
        if side in PLAYS[number]:
            argv = net.argv(argv, json.loads(os.environ.get("NSTACK_ORACLE_CONFIG", "null")), ns)
        env = {**net.env(), **({"ORACLE_LINK_AWAIT": "1"} if net.link_by_program else {})}
        procs[side] = ns.spawn(argv, f"{group}-{number}-{side}", env=env)
    return procs


def finish(plays):
    """Wait for the plays ([{side: process}]) to end; [{side: Side}]. A play in which nobody records
    anything for a while is stopped."""
    progress = [(-1, time.monotonic())] * len(plays)

    def over():
        for i, procs in enumerate(plays):
            if not any(p.running() for p in procs.values()):
                continue
            size = sum(os.path.getsize(p.out) for p in procs.values())
            if size != progress[i][0]:
                progress[i] = size, time.monotonic()
            if time.monotonic() - progress[i][1] > SILENCE * wait.SLOW:
                for p in procs.values():
                    p.stop()
        return not any(p.running() for procs in plays for p in procs.values())
    try:
        wait.until(over, "the plays to end", timeout=300, every=0.1)
    finally:
        for procs in plays:
            for p in procs.values():
                p.stop()
    out = []
    for procs in plays:
        out.append({side: Side(p.stdout(), p.popen.returncode) for side, p in procs.items()})
        for side, p in procs.items():
            if out[-1][side].problem:
                out[-1][side].problem += "".join("\n    " + x for x in p.stderr().splitlines()[-5:])
    return out


def allowed(row, group, label, want, got, under, family):
    return (any(fnmatch.fnmatchcase(f"{group}/{label}", p) for p in row.get("where", []))
            and fnmatch.fnmatchcase(want, row.get("kernel", "*"))
            and fnmatch.fnmatchcase(got, row.get("nstack", "*"))
            and row.get("family", family) == family
            and row.get("under", "-".join(under)) in ("-".join(under), *under,
                                                      *(["both"] if len(under) == 2 else [])))


def compare(group, family, under, got, want, used):
    """Lines that say what is not the same and not intended; used: titles of rows that were needed."""
    wrong = []
    for side in ("server", "client"):
        have, expect = got[side].records, want[side].records
        for label in {**expect, **have}:
            a, b = expect.get(label, "missing"), have.get(label, "missing")
            if a == b:
                continue
            rows = [r for r in differences() if allowed(r, group, label, a, b, under, family)]
            used.update(r["title"] for r in rows)
            if not rows:
                wrong.append(f"under nsocket: {'+'.join(under)}; {side} {label}: {b}; the kernel: {a}")
        if got[side].problem:
            wrong.append(f"under nsocket: {'+'.join(under)}; {side}: {got[side].problem}")
    return wrong
