# SPDX-License-Identifier: Apache-2.0
"""OpenSSH: commands, files and forwarded ports, each side and both under nsocket.

sshd executes itself for every connection and hands the connection over by descriptor.
"""
import getpass
import os

from lib import apps, wait

PORT, FORWARD, ECHO = 2222, 7000, 9000

SSHD = """Port {port}
ListenAddress 0.0.0.0
ListenAddress ::
HostKey {dir}/host_key
PidFile {dir}/sshd.pid
AuthorizedKeysFile {dir}/user_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
"""


class Ssh:
    def __init__(self, sides, daemon=False):
        self.sides, self.dir = sides, sides.net.workdir
        for key in ("host_key", "user_key"):
            sides.net.server.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
        sides.net.give("user_key")
        os.makedirs("/run/sshd", exist_ok=True)  # where sshd confines itself; no service made it
        with open(f"{self.dir}/sshd_config", "w", encoding="utf8") as f:
            f.write(SSHD.format(port=PORT, dir=self.dir))
        with sides.net.as_root():  # it logs in others
            self.serve(["/usr/sbin/sshd", "-f", f"{self.dir}/sshd_config", "-E", f"{self.dir}/sshd.log"], daemon)
        self.opts = ["-F", "none", "-i", f"{self.dir}/user_key", "-o", "StrictHostKeyChecking=no",
                     "-o", f"UserKnownHostsFile={self.dir}/known_hosts", "-o", "LogLevel=ERROR",
                     "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
        self.at = f"{getpass.getuser()}@{sides.addr}"

    def serve(self, cmd, daemon):
        net = self.sides.net
        if daemon:
            start = net.server.spawn(net.argv(cmd) if self.sides.server_ours else cmd, "sshd", env=net.env())
            assert start.wait(20) == 0, start.stderr()
            wait.until(lambda: net.server.listening(PORT), "sshd to listen")
        else:
            self.sides.serve([*cmd, "-D"], "sshd", tcp=[PORT], owned=False)

    def command(self, *remote, **kw):
        return self.sides.run(["ssh", *self.opts, "-p", PORT, self.at, *remote], **kw)


def commands(ssh):
    for i in range(3):
        assert ssh.command(f"echo out {i}; echo err >&2; exit 7", check=False).stdout == f"out {i}\n"
    r = ssh.command("cat; echo err >&2; exit 7", input="x" * 200_000, check=False)
    assert (r.stdout, r.stderr, r.returncode) == ("x" * 200_000, "err\n", 7)


def test_command(sides):
    commands(Ssh(sides))


def test_daemon(server_side):
    commands(Ssh(server_side, daemon=True))


def test_scp(sides):
    ssh = Ssh(sides)
    src, there, back = (f"{ssh.dir}/{x}" for x in ("src", "there", "back"))
    digest = apps.blob(src, 20_000_000)
    at = ssh.at.replace("@", "@[") + "]"
    for a, b in ((src, f"{at}:{there}"), (f"{at}:{there}", back)):
        sides.run(["scp", "-q", *ssh.opts, "-P", PORT, a, b])
    assert apps.sha256(there) == apps.sha256(back) == digest


def test_forward(sides):
    """ssh -L: a client plain on the client's side, an echo server plain on the server's side."""
    ssh = Ssh(sides)
    net = sides.net
    net.serve([*apps.prog("echo.py"), "tcp", "127.0.0.1", ECHO], "echo", plain=True, tcp=[ECHO])
    sides.spawn(["ssh", *ssh.opts, "-p", PORT, "-N", "-L", f"127.0.0.1:{FORWARD}:127.0.0.1:{ECHO}",
                 ssh.at], "forward")
    wait.until(lambda: net.client.listening(FORWARD), "ssh -L to listen")
    data = "".join(f"line {i}\n" for i in range(20_000))
    got = net.client.run(["nc", "-N", "-w", "5", "127.0.0.1", FORWARD], input=data).stdout
    assert got == data
