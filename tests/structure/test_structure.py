# SPDX-License-Identifier: Apache-2.0
"""The rules that keep the tree livable: which folder may include which, headers that compile
alone, memory-order comments that name a partner, exported symbols that are on the call list."""
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("NSTACK_BUILD", ROOT / "build"))

# folder -> folders it may include besides itself and include/nstack
ALLOWED = {
    "shm": set(),
    "bpf": set(),
    "hal_wrap": {"shm"},  # and see EXCEPTIONS
    "hal_xdp": {"shm", "bpf"},
    "hal_dpdk": {"shm", "bpf"},
    "rd": {"shm", "bpf"},
    "stacks": {"shm", "rd"},
    "nsocket": {"shm", "rd", "bpf", "stacks", "hal_xdp", "hal_dpdk", "hal_wrap"},
    "tools": {"shm", "rd", "bpf", "stacks", "hal_xdp", "hal_dpdk", "hal_wrap", "nsocket"},
}
# The in-memory wire plays the network card that fills in checksums: it uses the stack's arithmetic
# (plain functions over bytes) rather than a second copy of it.
EXCEPTIONS = {("hal_wrap/hal_mem.c", "stacks/tcpip/checksum.h")}
SOURCES = sorted(
    p for folder in ALLOWED for p in (ROOT / folder).rglob("*.[ch]") if p.is_file()
)
HEADERS = [p for p in SOURCES if p.suffix == ".h"] + sorted((ROOT / "include").rglob("*.h"))
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_includes_point_one_way(folder):
    wrong = []
    for src in SOURCES:
        if src.relative_to(ROOT).parts[0] != folder:
            continue
        for inc in INCLUDE.findall(src.read_text()):
            top = inc.split("/")[0]
            if "/" in inc and top in ALLOWED and top != folder and top not in ALLOWED[folder]:
                if inc == "bpf/bpf.h" or inc.startswith("bpf/libbpf") or inc.startswith("bpf/btf"):
                    continue  # libbpf's own headers
                name = str(src.relative_to(ROOT))
                if (name, inc) not in EXCEPTIONS:
                    wrong.append(f"{name} includes {inc}")
    assert not wrong, "\n".join(wrong)


def test_stacks_do_not_know_drivers():
    wrong = [
        f"{s.relative_to(ROOT)}: {i}"
        for s in SOURCES
        if s.relative_to(ROOT).parts[0] == "stacks"
        for i in INCLUDE.findall(s.read_text())
        if i.startswith(("xdp/", "bpf/", "rte_", "linux/if_xdp"))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("header", HEADERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_header_compiles_alone(header, tmp_path):
    src = tmp_path / "alone.c"
    src.write_text(f'#include "{header}"\n')
    dpdk = header.name == "dpdk_internal.h"
    if dpdk and subprocess.run(["pkg-config", "--exists", "libdpdk"], check=False).returncode:
        pytest.skip("no libdpdk")
    flags = subprocess.run(["pkg-config", "--cflags", "libdpdk"], capture_output=True, text=True,
                           check=True).stdout.split() if dpdk else []
    out = subprocess.run(
        ["cc", "-std=gnu11", "-D_GNU_SOURCE", "-Iinclude", f"-I{BUILD}/include", "-I.", f"-I{BUILD}", "-fsyntax-only",
         "-Wall", "-Wno-unused-function", *flags, str(src)],
        cwd=ROOT, capture_output=True, text=True,
    )
    assert out.returncode == 0, out.stderr


def test_every_release_has_its_acquire():
    """`release: pairs X` and `acquire: pairs X` must both exist for each label X."""
    sides = {"release": Counter(), "acquire": Counter()}
    for src in SOURCES:
        for side, label in re.findall(r"\b(release|acquire):\s+pairs\s+([a-z0-9_.]+)", src.read_text()):
            sides[side][label.rstrip(".")] += 1
    alone = set(sides["release"]) ^ set(sides["acquire"])
    assert not alone, f"labels with one side only: {sorted(alone)}"


def test_licence_line_everywhere():
    missing = [str(p.relative_to(ROOT)) for p in SOURCES + HEADERS if "SPDX-License-Identifier" not in
               p.read_text()[:200]]
    assert not missing, missing


def test_locks_keep_handlers_out():
    """In nsocket, mutexes are taken by nsocket/lock.h: a handler must not meet a lock of its own thread."""
    bare = [str(p.relative_to(ROOT)) for p in SOURCES if p.is_relative_to(ROOT / "nsocket") and p.name != "lock.h" and
            re.search(r"\bpthread_mutex_(lock|trylock|clocklock|unlock)\(", p.read_text())]
    assert not bare, bare
