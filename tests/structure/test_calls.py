# SPDX-License-Identifier: Apache-2.0
"""The lists of intercepted calls, the export map, what the library exports, and what libc has, agree."""
import functools
import os
import pathlib
import re
import subprocess
import tomllib

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
CALLS = (TOP / "nsocket/calls.h").read_text()
#: headers that don't stand alone, or that describe other libraries' matters
NOT_HEADERS = re.compile(r"(asm|bits|gnu|rpc|finclude)/|sys/(elf|vm86)|math-vector-fortran|regexp|varargs|thread_db|proc_service")
#: how libc's headers call a descriptor
DESCRIPTOR = re.compile(r"\bint\s+(__)?(\w*fd(s|\d|in|out)?|fildes|sd|s)\b(?!\s*\[)")


def run(*argv, **kw):
    return subprocess.run(argv, capture_output=True, text=True, check=True, **kw).stdout


def macro(name):
    """The text of one of the lists."""
    start = CALLS.index(f"#define {name}(")
    return re.match(r"(?:.*\\\n)*.*", CALLS[start:]).group()


def wrapped():
    text = macro("NS_STACK_CALLS") + macro("NS_CALLS")
    return set(re.findall(r"\bCALL\([\w *]+,\s*(\w+),", text) +
               re.findall(r"\bCALL_NORETURN\((\w+),", text))


def aliases():
    return dict(re.findall(r"\bALIAS\((\w+), (\w+)\)", macro("NS_ALIASES")))


def named():
    """What programs and plug-in stacks call by name."""
    text = "".join(p.read_text() for p in sorted((TOP / "include/nstack").glob("*.h")))
    return set(re.findall(r"^NSTACK_API [\w *]+?(\w+)\(", text, re.M))


def listed():
    return wrapped() | named() | aliases().keys() | set(re.findall(r"\bCALL\((\w+),", macro("NS_LIBURING")))


def numbered():
    """System calls that syscall() takes to the wrappers."""
    return set(re.findall(r"\b(?:SYSCALL|LEGACY)\((\w+),", macro("NS_SYSCALLS") + macro("NS_SYSCALLS_OWN")))


def untouched():
    with open(TOP / "tests/structure/untouched.toml", "rb") as f:
        rows = tomllib.load(f)["untouched"]
    names = [n for row in rows for n in row["names"].split()]
    assert all(row["reason"] for row in rows) and len(names) == len(set(names))
    return set(names)


@functools.cache
def libc_functions():
    """{name: address} of the functions that programs can be linked with, or once could."""
    path = run("gcc", "-print-file-name=libc.so.6").strip()
    out = {}
    for line in run("nm", "-D", "--defined-only", path).splitlines():
        address, kind, name = line.split()
        if kind in "TWi" and not name.endswith("GLIBC_PRIVATE"):
            out[name.split("@")[0]] = address
    return out


@functools.cache
def on_descriptors():
    """Functions in the headers of libc that take a descriptor."""
    headers = [h.split("/include/")[1].removeprefix("x86_64-linux-gnu/")
               for h in run("dpkg", "-L", "libc6-dev").split() if h.endswith(".h")]
    text = ""
    for h in headers:
        if not NOT_HEADERS.search(h):
            text += run("gcc", "-O1", "-E", "-P", "-xc", "-", input="#define _GNU_SOURCE\n#define "
                        f"_FORTIFY_SOURCE 2\n#include <sys/types.h>\n#include <stdio.h>\n#include <{h}>\n")
    found = re.findall(r"\b(\w+)\s*\(([^(){};]*)\)[^;{]*[;{]", text.replace("\n", " "))
    return {name for name, params in found if name in libc_functions() and DESCRIPTOR.search(params)}


def test_map_is_the_list():
    text = (TOP / "nsocket/libnsocket.map").read_text()
    text = text[text.index("global:"):text.index("local:")]
    assert set(re.findall(r"^\s*(\w+);", text, re.M)) == listed()


def test_library_exports_the_list():
    lib = pathlib.Path(os.environ.get("NSTACK_BUILD", TOP / "build")).absolute() / "libnsocket.so"
    if not lib.exists():
        pytest.skip(f"{lib} is not built")
    out = run("nm", "-D", "--defined-only", lib)
    exported = {line.split()[-1]: line.split()[0] for line in out.splitlines()}
    assert {n.split("@")[0] for n in exported} == listed()
    for other, name in aliases().items():
        assert exported[other] == exported[name], f"{other} is not {name}"


def test_other_names_of_intercepted_functions():
    """libc exports some functions twice: a program may be linked with either name."""
    have, ours = libc_functions(), listed()
    addresses = {have[n]: n for n in ours if n in have}
    assert len(addresses) > 50
    missed = {n: addresses[a] for n, a in have.items() if a in addresses and n not in ours}
    assert not missed


def test_every_function_on_descriptors_is_known():
    """Intercepted, or in the reviewed list of what need not be."""
    takes = on_descriptors()
    assert len(takes) > 150
    assert takes - listed() == untouched() - listed(), "intercept it, or say in untouched.toml why not"
    assert not untouched() & listed()


def test_every_number_of_an_intercepted_call_is_routed():
    """What is intercepted by name is intercepted by number, too, and under the wrapper's name."""
    text = run("gcc", "-E", "-dM", "-xc", "-", input="#include <sys/syscall.h>\n")
    numbers = set(re.findall(r"#define SYS_(\w+) ", text))
    one_thread = {"setgid", "setregid", "setresgid", "setgroups"} # by number, the calling thread's only
    assert (wrapped() | {"pselect6", "rt_sigaction", "fork", "clone3", "exit_group", "io_uring_setup",
                         "seccomp"}) & numbers - one_thread == numbered()
    same = set(re.findall(r"\b(?:SYSCALL|LEGACY)\((\w+),", macro("NS_SYSCALLS")))
    assert same <= wrapped()
