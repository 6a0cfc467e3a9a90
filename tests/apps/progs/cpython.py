#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""cpython.py plain|nstack HOST|- [regrtest's arguments]: a module of CPython's test suite in this process.

Makes sure that the process is what it should be, and points the tests at HOST instead of localhost."""
import sys

from test.libregrtest import main
from test.support import socket_helper

with open("/proc/self/maps", encoding="utf8") as maps:
    assert ("libnsocket.so" in maps.read()) == (sys.argv[1] == "nstack")
if sys.argv[2] != "-":
    socket_helper.HOST = socket_helper.HOSTv4 = sys.argv[2]
    socket_helper.bind_port.__defaults__ = (sys.argv[2],)
del sys.argv[1:3]
main()
