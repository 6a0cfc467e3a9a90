# SPDX-License-Identifier: Apache-2.0
"""Servers that did not make their sockets: systemd's activation, inetd, supervisors, upgrades."""
import os
import shutil
import signal
import sys

import pytest

from lib import apps, nstack
from lib.wait import until

PORT = 9400
INETD = "/usr/sbin/inetd"


def ask(net, addr, text, udp=False, timeout=10):
    out = net.client.run(["nc", "-u", "-W1", "-w3", addr, PORT] if udp else
                         ["nc", "-N", "-w5", addr, PORT], input=text, timeout=timeout)
    return out.stdout


def owned(net, proto="tcp", port=PORT):
    """Wait until the port is served by a stack."""
    if net.is_nstack:
        until(lambda: (proto, port) in nstack.claims(net.server), f"{proto} {port} to be owned")


def host(addr):
    return f"[{addr}]:{PORT}" if ":" in addr else f"{addr}:{PORT}"


def activate(net, addr, *args):
    """systemd-socket-activate, plain: what it starts is under nsocket."""
    cmd = apps.prog("inherited.py")
    return [*args, "-l", host(addr), *(f"-E{k}={v}" for k, v in net.env().items()), *net.argv(cmd)]


@pytest.mark.parametrize("plain", [True, False], ids=["activate_plain", "activate_under_nsocket"])
def test_socket_activation(net, family, plain):
    """The service inherits the listener as descriptor 3. Its first client came before it: where
    systemd-socket-activate has a stack, too, that client's connection goes along to the next program."""
    addr = net.saddr(family)
    argv = ["systemd-socket-activate", *activate(net, addr), "listener", 3]
    p = net.server.spawn(argv if plain else net.argv(argv), "activate", env=net.env())
    until(lambda: net.server.listening(PORT), "systemd-socket-activate to listen")
    if not plain:
        owned(net)
    assert ask(net, addr, "first\n") == "first\n"
    owned(net)
    proof = net.proof()
    for i in range(5):
        assert ask(net, addr, f"hello {i}\n") == f"hello {i}\n"
    proof.user_stack(tcp=15)
    assert p.running()


def test_socket_activation_datagrams(net, family):
    addr = net.saddr(family)
    net.server.spawn(["systemd-socket-activate", "-d", *activate(net, addr), "datagrams", 3], "activate",
                     env=net.env())
    until(lambda: net.server.bound_udp(PORT), "systemd-socket-activate to bind")
    assert ask(net, addr, "first\n", udp=True) == "first\n"
    owned(net, "udp")
    proof = net.proof()
    assert ask(net, addr, "second\n", udp=True) == "second\n"
    proof.user_stack(udp=1)


def test_socket_activation_by_connection(net, family):
    """A process for each connection, which is its stdin and stdout: the kernel's, and works."""
    addr = net.saddr(family)
    net.server.spawn(["systemd-socket-activate", "--accept", "--inetd", *activate(net, addr),
                      "connection"], "activate", env=net.env())
    until(lambda: net.server.listening(PORT), "systemd-socket-activate to listen")
    for i in range(3):
        assert ask(net, addr, f"{i}\n" * 2) == f"you said {i}\n" * 2


@pytest.fixture
def inetd(net):
    if not os.path.exists(INETD):
        pytest.fail("openbsd-inetd is not installed (make deps)")

    def start(addr, proto, wait, *command, plain):
        conf = os.path.join(net.workdir, "inetd.conf")
        with open(conf, "w", encoding="utf8") as f:
            f.write(f"{addr}:{PORT} stream {proto} {wait} root {command[0]} {' '.join(command)}\n")
        argv = [INETD, "-d", conf]
        return net.server.spawn(argv if plain else net.argv(argv), "inetd", env=net.env())
    return start


@pytest.mark.parametrize("plain", [True, False], ids=["inetd_plain", "inetd_under_nsocket"])
def test_inetd(net, inetd, plain):
    """inetd accepts, forks, dup2()s the connection to 0, 1 and 2 and runs the service: a shell
    script's read and echo, then cat."""
    addr = net.s4
    script = os.path.join(net.workdir, "service.sh")
    with open(script, "w", encoding="utf8") as f:
        f.write('#!/bin/sh\nread line\necho "got $line"\nexec cat\n')
    os.chmod(script, 0o755)
    inetd(addr, "tcp", "nowait", script, plain=plain)
    until(lambda: net.server.listening(PORT), "inetd to listen")
    if not plain:
        owned(net)
    for i in range(5):
        assert ask(net, addr, f"{i}\nmore\nand more\n") == f"got {i}\nmore\nand more\n"


@pytest.mark.parametrize("plain", [True, False], ids=["inetd_plain", "inetd_under_nsocket"])
def test_inetd_wait(net, inetd, plain):
    """The service gets the listener as descriptor 0, with the clients that wait, and ends after two; inetd
    waits for the next one then, and starts it again."""
    argv = [*apps.prog("inherited.py"), "clients", 0, 2]
    p = inetd(net.s4, "tcp", "wait", *map(str, net.argv(argv)), plain=plain)
    until(lambda: net.server.listening(PORT), "inetd to listen")
    if not plain:
        owned(net)
    for i in range(6):
        assert ask(net, net.s4, f"{i}\n") == f"{i}\n"
        if i % 2 and net.is_nstack:  # what comes while the service ends would end with it
            until(lambda: nstack.owners(net.server, "tcp", PORT) == (set() if plain else {p.pid}),
                  "the service to end")


@pytest.mark.parametrize("plain", [True, False], ids=["socat_plain", "socat_under_nsocket"])
def test_socat_exec(net, family, plain):
    """A process for each connection, nofork: the connection itself is its stdin and stdout."""
    addr = net.saddr(family)
    server = [f"TCP{family}-LISTEN:{PORT},bind={'[' + addr + ']' if family == 6 else addr},reuseaddr,fork",
              f"EXEC:{sys.executable} {apps.prog('inherited.py')[1]} connection,nofork"]
    argv = ["socat", *server]
    net.server.spawn(argv if plain else net.argv(argv), "socat", env=net.env())
    until(lambda: net.server.listening(PORT), "socat to listen")
    if not plain:
        owned(net)
    for i in range(5):
        assert ask(net, addr, f"{i}\n") == f"you said {i}\n"


def test_supervisor(net, family):
    """Children that inherit one listener: all clients are answered, one child serves by the stack (under
    nstackd all do), and when it is killed another one does."""
    addr = net.saddr(family)
    p = net.server.spawn(net.argv([*apps.prog("inherited.py"), "supervise", addr, PORT, 2]),
                         "supervisor", env=net.env())
    owned(net)
    proof = net.proof()
    for i in range(4):
        assert ask(net, addr, f"{i}\n") == f"{i}\n"
    proof.user_stack(tcp=12)
    if not net.is_nstack:
        return
    owner = next(c["pid"] for d in nstack.walk(nstack.tool_json(net.server, "status"))
                 for c in d.get("claims", []) if c["port"] == PORT)
    pids = p.stdout().split()[1::2]
    if net.mode == "daemon":
        owner = int(pids[0])
    assert str(owner) in pids
    os.kill(owner, signal.SIGKILL)
    until(lambda: f"child {owner}" in p.stdout() and p.stdout().count("child") == 3, "another child")
    owned(net)
    for i in range(4):
        assert ask(net, addr, f"again {i}\n") == f"again {i}\n"


def test_received_listener(net, family):
    """A listener from a program that is not under nsocket, by SCM_RIGHTS."""
    addr, path = net.saddr(family), os.path.join(net.workdir, "fds")
    sender = net.server.spawn([*apps.prog("inherited.py"), "send", addr, PORT, path], "sender")
    sender.wait_output("ready")
    net.server.spawn(net.argv([*apps.prog("inherited.py"), "receive", path]), "receiver", env=net.env())
    assert sender.wait(10) == 0
    owned(net)
    proof = net.proof()
    for i in range(3):
        assert ask(net, addr, f"{i}\n") == f"{i}\n"
    proof.user_stack(tcp=9)


def test_makefile(net, family):
    """Python's streams over a connection."""
    code = ("import socket,sys\n"
            f"s=socket.create_connection(('{net.saddr(family)}',{PORT}))\n"
            "f=s.makefile('rw')\n"
            "f.write('one\\ntwo\\n'); f.flush(); print(f.readline()+f.readline(),end='')\n")
    net.serve([*apps.prog("echo.py"), "tcp", net.saddr(family), PORT], "echo", tcp=[PORT])
    assert net.client.run(net.argv([nstack.PYTHON, "-c", code], side=net.client), env=net.env()).stdout == "one\ntwo\n"


NGINX = """daemon on; master_process on; worker_processes 1; pid {dir}/nginx.pid; user root;
env LD_PRELOAD; env NSTACK_APP_LOG_PATH; env NSTACK_CONFIG;
error_log {dir}/error.log info;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir};
  uwsgi_temp_path {dir}; scgi_temp_path {dir};
  server {{ listen {addr}; location / {{ return 200 "$pid\\n"; }} }}
}}
"""


def pid_of(path):
    try:
        with open(path, encoding="utf8") as f:
            return int(f.read())
    except (OSError, ValueError):
        return 0


def parent(pid):
    with open(f"/proc/{pid}/stat", encoding="utf8") as f:
        return int(f.read().rsplit(")", 1)[1].split()[1])


def test_nginx_upgrade(net):
    """The new binary inherits the listener of the old one (USR2), serves beside it, and by the stack
    when the old one has gone (QUIT). Every request is answered."""
    conf, pidfile = net.workdir + "/nginx.conf", net.workdir + "/nginx.pid"
    with open(conf, "w", encoding="utf8") as f:
        f.write(NGINX.format(dir=net.workdir, addr=f"{net.s4}:{PORT}"))
    net.server.run(net.argv([shutil.which("nginx"), "-c", conf]), env=net.env())
    masters = set()
    try:
        until(lambda: pid_of(pidfile), "nginx")
        old = pid_of(pidfile)
        masters.add(old)
        owned(net)

        def request():
            return parent(int(apps.curl(net.client, apps.url(net.s4, PORT))))
        assert request() == old
        os.kill(old, signal.SIGUSR2)
        until(lambda: pid_of(pidfile) not in (0, old), "the new nginx")
        new = pid_of(pidfile)
        masters.add(new)
        for _ in range(5):
            assert request() in (old, new)
        os.kill(old, signal.SIGQUIT)
        until(lambda: not os.path.exists(f"/proc/{old}"), "the old nginx to end")
        masters.discard(old)
        owned(net)
        proof = net.proof()
        for _ in range(5):
            assert request() == new
        proof.user_stack(tcp=15)
    finally:
        for pid in masters:
            os.kill(pid, signal.SIGTERM)
        for pid in masters:
            until(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), "nginx to end")
