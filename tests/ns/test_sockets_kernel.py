# SPDX-License-Identifier: Apache-2.0
"""nstack sockets names the reason for every socket that the kernel serves."""
import pytest

from lib import apps, nstack, wait

pytestmark = pytest.mark.skipif(nstack.MODES == ["kernel"], reason="asks nstack")

#: accepts for ever and, after each line that it reads, connects there
PEER = r"""
import socket, sys, threading
lst = socket.create_server(("0.0.0.0", 7000), backlog=512)
have = []
def serve():
    while True:
        have.append(lst.accept()[0])
threading.Thread(target=serve, daemon=True).start()
print("up", flush=True)
for line in sys.stdin:
    addr, port, n = line.split()
    for _ in range(int(n)):
        have.append(socket.create_connection((addr, int(port))))
    print("connected", n, flush=True)
"""


def kernel_sockets(ns, **want):
    return [s for s in nstack.sockets(ns) if s["stack"] == "kernel"
            and all(s[k] == v for k, v in want.items())]


def peer(net, tmp_path, **kw):
    fifo = tmp_path / "orders"
    fifo.write_text("")
    return net.serve(["sh", "-c", f"tail -f {fifo} | exec {nstack.PYTHON} -c '{PEER}'"], "peer", **kw), fifo


def test_a_client_of_the_loopback(net):
    p = apps.redis(net)
    cli = net.server.spawn(["redis-cli", "-h", "127.0.0.1", "blpop", "q", "20"], "blpop")
    wait.until(lambda: "cmd=blpop" in apps.redis_cli(net.server, "127.0.0.1", "client", "list"), "blpop")
    (s,) = kernel_sockets(net.server, pid=p.pid, state="ESTAB")
    assert s["reason"] == "kernel_client" and s["local"] == "127.0.0.1:6379" and s["proto"] == "tcp", s
    assert s["remote"].startswith("127.0.0.1:") and s["program"].startswith("redis")
    (line,) = [x for x in net.tool("sockets", "--kernel").stdout.splitlines() if "ESTAB" in x]
    assert line.endswith(": kernel_client") and "kernel redis" in line
    assert "kernel" not in net.tool("sockets", "--port", "1").stdout
    assert apps.redis_cli(net.server, "127.0.0.1", "rpush", "q", "x") == "1"
    cli.ok(10)
    wait.until(lambda: not kernel_sockets(net.server, state="ESTAB"), "closed connections to disappear")


def test_many_of_them(net, tmp_path):
    """More than one part of the reply."""
    p, orders = peer(net, tmp_path, owned=False, tcp=[7000])
    with orders.open("a") as f:
        f.write("127.0.0.1 7000 250\n")
    p.wait_output("connected 250")
    wait.until(lambda: len(kernel_sockets(net.server, state="ESTAB", reason="kernel_client")) == 250,
               "the accepted ones")
    out = kernel_sockets(net.server, state="ESTAB", reason="no_route")
    assert len(out) == 250 and all(s["remote"] == "127.0.0.1:7000" for s in out)
    assert len({s["fd"] for s in kernel_sockets(net.server)}) == len(kernel_sockets(net.server))


def test_a_rule(net, tmp_path):
    p, orders = peer(net, tmp_path, owned=False, tcp=[7000],
                     config={"rules": [{"remote": net.c4, "action": "kernel"}]})
    echo = net.client.spawn(["socat", "TCP-LISTEN:7001,fork", "PIPE"], "echo")
    wait.until(lambda: net.client.listening(7001), "the client's server")
    with orders.open("a") as f:
        f.write(f"{net.c4} 7001 1\n")
    p.wait_output("connected 1")
    # the process answers when the thread that accepts has started the stack
    (s,) = wait.until(lambda: kernel_sockets(net.server, remote=f"{net.c4}:7001"), "the connection in the list")
    assert s["reason"] == "rule_kernel" and s["state"] == "ESTAB", s
    echo.stop()


def test_a_port_of_another_process(net):
    prog = ("import socket; s = socket.create_server(('0.0.0.0', 7000), reuse_port=True); print('up', flush=True)\n"
            "while True: s.accept()")
    first = net.serve([nstack.PYTHON, "-c", prog], "first", tcp=[7000])
    second = net.server.spawn(net.argv([nstack.PYTHON, "-c", prog]), "second", env=net.env())
    second.wait_output("up")
    if net.mode == "daemon": # it has a place for both
        wait.until(lambda: nstack.owners(net.server, "tcp", 7000) == {first.pid, second.pid}, "both to have the port")
        return
    # not before it has asked whether the first one waits
    (s,) = wait.until(lambda: kernel_sockets(net.server, pid=second.pid, reason="port_owned_by_other"), "the reason")
    assert s["state"] == "LISTEN" and s["local"] == "0.0.0.0:7000", s
