# SPDX-License-Identifier: Apache-2.0
"""socat and three netcats in their usual modes, each side and both under nsocket."""
import pytest

from lib import apps

PORT = 9000
SIZE = 5_000_000


def flag(sides):
    return f"-{sides.family}"


# --- netcats: files both ways -------------------------------------------------------------------

#: receive a file, send a file: the address is A, the family's option F
RECEIVE = {
    "openbsd": (["nc.openbsd", "{F}", "-l", "{A}", "9000"], ["nc.openbsd", "{F}", "-d", "{A}", "9000"]),
    "ncat": (["ncat", "{F}", "--recv-only", "-l", "{A}", "9000"], ["ncat", "{F}", "--recv-only", "{A}", "9000"]),
    "traditional": (["nc.traditional", "-l", "-p", "9000"], ["nc.traditional", "{A}", "9000"]),
}
SEND = {
    "openbsd": (["nc.openbsd", "{F}", "-N", "-l", "{A}", "9000"], ["nc.openbsd", "{F}", "-N", "{A}", "9000"]),
    "ncat": (["ncat", "{F}", "--send-only", "-l", "{A}", "9000"], ["ncat", "{F}", "--send-only", "{A}", "9000"]),
    "traditional": (["nc.traditional", "-l", "-p", "9000", "-q", "1"], ["nc.traditional", "-q", "1", "{A}", "9000"]),
}


def words(sides, cmd):
    return [w.format(F=f"-{sides.family}", A=sides.addr) for w in cmd]


def with_input(path, cmd):
    return ["sh", "-c", f"exec {' '.join(cmd)} <{path}"]


@pytest.mark.parametrize("name", RECEIVE)
@pytest.mark.parametrize("way", ["to_server", "to_client"])
def test_file(sides, name, way):
    if name == "traditional" and sides.family == 6:
        pytest.skip("netcat-traditional has no IPv6")
    path = sides.net.workdir + "/data"
    digest = apps.blob(path, SIZE)
    sides.watch()
    if way == "to_server":
        server = sides.serve(words(sides, RECEIVE[name][0]), "receive", tcp=[PORT], stdin="pipe")
        client = sides.spawn(with_input(path, words(sides, SEND[name][1])), "send")
        got = server
    else:
        server = sides.serve(with_input(path, words(sides, SEND[name][0])), "send", tcp=[PORT])
        client = got = sides.spawn(words(sides, RECEIVE[name][1]), "receive", stdin="pipe")
    for p in (server, client):
        assert p.wait(15) == 0, p.stderr()
    assert apps.sha256(got.out) == digest
    sides.user_stack(20)


def test_udp(sides):
    """nc -u: lines there and back."""
    listen = ["nc.openbsd", flag(sides), "-u", "-l", sides.addr, PORT]
    server = sides.serve(listen, "listen", udp=[PORT], stdin="pipe")
    client = sides.spawn(["nc.openbsd", flag(sides), "-u", sides.addr, PORT], "connect", stdin="pipe")
    for i in range(20):
        client.popen.stdin.write(b"ping %d\n" % i)
        client.popen.stdin.flush()
        server.wait_output(rf"^ping {i}$")
        server.popen.stdin.write(b"pong %d\n" % i)
        server.popen.stdin.flush()
        client.wait_output(rf"^pong {i}$")


def test_keep_listening(sides):
    """nc -k: one client after the other."""
    server = sides.serve(["nc.openbsd", flag(sides), "-l", "-k", sides.addr, PORT], "listen", tcp=[PORT])
    for i in range(4):
        sides.run(["nc.openbsd", flag(sides), "-N", "-w", "3", sides.addr, PORT], input=f"client {i}\n")
        server.wait_output(rf"^client {i}$")


def test_ncat_many_clients(sides):
    """ncat -k: clients at the same time; --chat gives each line to all others."""
    sides.serve(["ncat", flag(sides), "-l", "-k", "--chat", sides.addr, PORT], "listen", tcp=[PORT])
    clients = []
    for i in range(4):
        clients.append(sides.spawn(["ncat", flag(sides), sides.addr, PORT], f"client{i}", stdin="pipe"))
        clients[-1].wait_output("already connected")
    clients[0].popen.stdin.write(b"to all\n")
    clients[0].popen.stdin.flush()
    for c in clients[1:]:
        c.wait_output("to all")


def test_scan(sides):
    """nc -z: what is open, what is refused."""
    sides.serve([*apps.prog("echo.py"), "tcp", sides.addr, PORT], "echo", tcp=[PORT])
    scan = ["nc.openbsd", "-z", "-v", "-n", "-w", "3", sides.addr]
    out = sides.run([*scan, f"{PORT - 1}-{PORT + 1}"], check=False).stderr
    assert f"{PORT} port" in out and "succeeded" in out and out.count("refused") == 2, out
    assert sides.run([*scan, PORT]).returncode == 0
    assert sides.run([*scan, PORT + 1], check=False).returncode == 1


def test_idle_timeout(sides):
    """nc -w: an idle connection is given up after a second."""
    sides.serve([*apps.prog("echo.py"), "tcp", sides.addr, PORT], "echo", tcp=[PORT])
    r = sides.run(["nc.openbsd", "-d", "-w", "1", sides.addr, PORT], timeout=10)
    assert r.returncode == 0


# --- socat ----------------------------------------------------------------------------------------

def socat_name(sides, proto):
    return f"{proto}{'6' if sides.family == 6 else '4'}"


def tls(sides):
    sides.net.server.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                          "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem", "-out", "cert.pem",
                          "-days", "2", "-subj", "/CN=test"])
    sides.net.give("key.pem")


@pytest.mark.parametrize("proto", ["tcp", "openssl"])
def test_socat_echo(sides, proto):
    """A forking socat that echoes by `cat`; three clients, each gets back what it sent. Our stack
    accepts; the child, which forks again, has its connection moved to the kernel."""
    pf = f"pf=ip{sides.family}"
    path = sides.net.workdir + "/data"
    digest = apps.blob(path, SIZE)
    listen, connect = f"TCP-LISTEN:{PORT},{pf},reuseaddr,fork", f"TCP:{apps.host(sides.addr)}:{PORT}"
    if proto == "openssl":
        tls(sides)
        listen = f"OPENSSL-LISTEN:{PORT},{pf},reuseaddr,fork,cert=cert.pem,key=key.pem,verify=0"
        connect = f"OPENSSL:{apps.host(sides.addr)}:{PORT},{pf},verify=0"
    sides.serve(["socat", listen, "EXEC:cat"], "socat", tcp=[PORT])
    sides.watch()
    clients = [sides.spawn(["socat", "-t", "10", f"OPEN:{path},rdonly!!CREATE:got{i}", connect], f"c{i}")
               for i in range(3)]
    for i, c in enumerate(clients):
        c.ok(30)
        assert apps.sha256(f"{sides.net.workdir}/got{i}") == digest
    if sides.net.shared_device or not sides.client_ours:
        sides.user_stack(10, late=None)


@pytest.mark.xfail(reason="a datagram that the parent has peeked at stays in its session: the child that is forked "
                          "for it does not get it; nor do others get through once the child has the port",
                   strict=False)
def test_socat_udp(sides):
    name = socat_name(sides, "UDP")
    sides.serve(["socat", f"{name}-LISTEN:{PORT},fork", "PIPE"], "socat", udp=[PORT], owned=False)
    for i in range(3):
        got = sides.run(["socat", "-t", "2", "-T", "2", "-", f"{name}:{apps.host(sides.addr)}:{PORT}"],
                        input=f"line {i}\n").stdout
        assert got == f"line {i}\n"


def test_socat_udp_receive(sides):
    """One way, unconnected on the server's side."""
    name = socat_name(sides, "UDP")
    server = sides.serve(["socat", "-u", f"{name}-RECV:{PORT}", "-"], "socat", udp=[PORT])
    for i in range(4):
        if i == 1:  # the first one may have to wait for the neighbour's address, which the kernel asks for
            sides.watch()
        sides.run(["socat", "-u", "-", f"{name}-SENDTO:{apps.host(sides.addr)}:{PORT}"], input=f"line {i}\n")
        server.wait_output(rf"^line {i}$")
    sides.user_stack(0)
