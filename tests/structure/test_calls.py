# SPDX-License-Identifier: Apache-2.0
"""The list of intercepted calls, the export map and what the library exports are the same."""
import os
import pathlib
import re
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]


def listed():
    text = (TOP / "nsocket/calls.h").read_text()
    text = text[text.index("#define NS_CALLS"):]
    names = re.findall(r"\bCALL\(\w+,\s*(\w+),", text)
    return set(names + re.findall(r"\bCALL_NORETURN\((\w+),", text))


def test_map_is_the_list():
    text = (TOP / "nsocket/libnsocket.map").read_text()
    text = text[text.index("global:"):text.index("local:")]
    assert set(re.findall(r"^\s*(\w+);", text, re.M)) == listed()


def test_library_exports_the_list():
    lib = pathlib.Path(os.environ.get("NSTACK_BUILD", TOP / "build")).absolute() / "libnsocket.so"
    if not lib.exists():
        pytest.skip(f"{lib} is not built")
    out = subprocess.run(["nm", "-D", "--defined-only", lib], capture_output=True, text=True,
                         check=True).stdout
    exported = {line.split()[-1].split("@")[0] for line in out.splitlines()}
    assert exported == listed()
