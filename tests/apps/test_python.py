# SPDX-License-Identifier: Apache-2.0
"""Python servers with many clients at once: asyncio (its own loop and uvloop's), threads per connection."""
import os

import pytest

from lib.nstack import PYTHON

PROGS = os.path.join(os.path.dirname(__file__), "progs")
PORT, CLIENTS, ROUNDS = 9000, 50, 20


def prog(name, *args):
    return [PYTHON, os.path.join(PROGS, name), *args]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_streams(sides, loop):
    """Clients and server on the same loop: lines of random length there and back, checked by the client."""
    sides.serve(prog("streams.py", loop, "serve", sides.addr, PORT), "serve", tcp=[PORT])
    sides.watch()
    out = sides.run(prog("streams.py", loop, "ask", sides.addr, PORT, CLIENTS, ROUNDS)).stdout
    assert out == f"{CLIENTS * ROUNDS} answers\n"
    sides.user_stack(CLIENTS * 3, late=4 * CLIENTS)


def test_threading_http(sides):
    """http.server with a thread for each connection; urllib in as many threads."""
    sides.serve(prog("threads_http.py", "serve", sides.addr, PORT), "serve", tcp=[PORT])
    sides.watch()
    out = sides.run(prog("threads_http.py", "ask", sides.addr, PORT, CLIENTS, ROUNDS // 4)).stdout
    assert out == f"{CLIENTS * (ROUNDS // 4)} answers\n"
    sides.user_stack(CLIENTS * 3, late=4 * CLIENTS)
