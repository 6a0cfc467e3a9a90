# SPDX-License-Identifier: Apache-2.0
"""Programs on runtimes that bring their own event loop: Node.js (libuv), Java NIO."""
import os
import tempfile

import pytest

PROGS = os.path.join(os.path.dirname(__file__), "progs")
PORT, CLIENTS, ROUNDS = 9000, 20, 20


def test_node(sides):
    """http server and client with keep-alive agents."""
    js = ["node", os.path.join(PROGS, "http.js")]
    sides.serve([*js, "serve", sides.addr, PORT], "node", tcp=[PORT])
    sides.watch()
    out = sides.run([*js, "ask", sides.addr, PORT, CLIENTS, ROUNDS]).stdout
    assert out == f"{CLIENTS * ROUNDS} answers on {CLIENTS} connections\n"
    sides.user_stack(CLIENTS * 3, late=4 * CLIENTS)


@pytest.fixture(scope="module")
def java():
    """The compiler is in Debian's headless runtime as a module; `javac` the command is not."""
    import subprocess
    with tempfile.TemporaryDirectory() as out: # any user gets there
        os.chmod(out, 0o755)
        subprocess.run(["java", "--source", "17", "-Xshare:auto", os.path.join(PROGS, "Compile.java"), out,
                        os.path.join(PROGS, "Echo.java")], check=True, capture_output=True, timeout=60)
        yield ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "-cp", out, "Echo"]


def test_java_nio(sides, java):
    """A selector with non-blocking channels; clients are blocking sockets in threads."""
    sides.serve([*java, "serve", sides.addr, PORT], "java", tcp=[PORT])
    sides.watch()
    out = sides.run([*java, "ask", sides.addr, PORT, CLIENTS, ROUNDS]).stdout
    assert out == f"{CLIENTS * ROUNDS} answers\n"
    sides.user_stack(CLIENTS * 3, late=4 * CLIENTS)
