#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/compatibility.md.

    make compatibility      plays every group first: the numbers of records come from the play

What is said comes from compatibility.in.md, differences.toml, the scenarios themselves and the
list of reasons in nsocket/sock.h.
"""
import json
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import oracle  # noqa: E402
from lib import nstack  # noqa: E402

DOCUMENT = os.path.join(nstack.ROOT, "docs", "compatibility.md")
#: what test_oracle.py leaves when it has played everything: {"group": records}
COUNTS = os.path.join(nstack.BUILD, "oracle-records.json")


def source(*path):
    with open(os.path.join(nstack.ROOT, *path), encoding="utf8") as f:
        return f.read()


def one_line(text):
    return " ".join(text.split())


def table(head, rows):
    return "\n".join("| " + " | ".join(one_line(str(c)).replace("|", "\\|") for c in row) + " |"
                     for row in [head, ["---"] * len(head), *rows])


def differences():
    rows = [r for r in oracle.differences() if r.get("where")]
    if not rows:
        return "None."
    return table(["what a program sees", "kernel", "nstack", "why"],
                 [[r["title"], r.get("kernel", ""), r.get("nstack", ""), r["reason"]] for r in rows])


def limits(section):
    return "\n".join(f"- {one_line(r['title'])}. {one_line(r['reason'])}"
                     for r in oracle.differences() if r.get("section") == section)


def reasons():
    found = re.findall(r'X\((\w+), "([^"]+)"\)', source("nsocket", "sock.h"))
    assert found
    return table(["reason", "meaning"], found)


def subject(group):
    return re.search(r"tests/oracle/\S+ - (.+?)(?: \*/)?$", source("tests", "oracle", group + ".c"), re.M)[1]


def coverage(counts):
    names = list(dict.fromkeys(g for g, *_ in oracle.catalogue()))
    out = [f"{len(oracle.catalogue())} scenarios, {sum(counts.values())} records on both sides and in "
           "both address families, each compared three times."]
    for group in names:
        out += ["", f"**{group}** ({counts[group]} records): {subject(group)}", ""]
        out += [f"- {shows}" for g, _, _, shows in oracle.catalogue() if g == group]
    return "\n".join(out)


def document(counts):
    text = source("tests", "oracle", "compatibility.in.md")
    for name, part in (("differences", differences()), ("reasons", reasons()),
                       ("kernel", limits("kernel")), ("limits", limits("limit")),
                       ("coverage", coverage(counts))):
        text = text.replace(f"@{name}@", part)
    return text


def counts():
    with open(COUNTS, encoding="utf8") as f:
        return json.load(f)


if __name__ == "__main__":
    with open(DOCUMENT, "w", encoding="utf8") as out:
        out.write(document(counts()))
    print(f"wrote {os.path.relpath(DOCUMENT)}")
