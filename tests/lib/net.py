# SPDX-License-Identifier: Apache-2.0
"""Servers and clients in a pair of namespaces, as a mode wants them: plain, or under nstack."""
import contextlib
import json
import os

from . import netns, nstack, wait


class Net(netns.Pair):
    """The pair of namespaces and how servers start in them in the current mode."""
    link_by_program = False  # can a side under nstack be reached only while a program is running?
    shared_device = True  # may several processes of a side have the stack at once?
    bare = False  # do programs that nstackd serves run as nobody, without capabilities?

    def __init__(self, workdir, mode, **kw):
        self.mode, self.workdir, self._configs = mode, workdir, 0
        self.daemons = {}
        super().__init__(workdir, **kw)

    @property
    def is_nstack(self):
        return self.mode != "kernel"

    def config(self, **keys):
        """A configuration file; returns its path."""
        self._configs += 1
        path = os.path.join(self.workdir, f"nstack-{self._configs}.json")
        with open(path, "w", encoding="utf8") as f:
            json.dump(keys, f)
        return path

    def argv(self, cmd, config=None, side=None):
        """cmd as it starts in this mode, on that side (default: the server's); config is a dict of
        keys or a file name."""
        if not self.is_nstack:
            return list(cmd)
        if isinstance(config, dict):
            config = self.config(**config)
        if self.mode == "daemon":
            self.daemon(side or self.server, config)
        return self.user() + nstack.run_argv(cmd, config)

    def user(self):
        """What makes a program the user that programs under nstack are in this test."""
        return nstack.BARE if self.bare else []

    @contextlib.contextmanager
    def as_root(self):
        """Programs that are started in between stay root."""
        bare, self.bare = self.bare, False
        try:
            yield
        finally:
            self.bare = bare

    def give(self, *names):
        """Files of the test's folder that only their owner may read are the programs'."""
        for name in names if self.bare else ():
            os.chown(os.path.join(self.workdir, name), nstack.NOBODY, nstack.NOBODY)

    def run_bare(self):
        """From here on programs that nstackd serves are nobody's, who may bind any port."""
        self.bare = self.mode == "daemon"
        if self.bare:
            os.chmod(self.workdir, 0o777)
            for ns in (self.server, self.client):
                ns.run(["sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0"])

    def load(self, ns):
        """The steering program stays when the programs have ended: its counters can be looked at then."""
        self.tool("load", self.sif if ns is self.server else self.cif, side=ns)

    def daemon(self, ns, config=None):
        """nstackd of that namespace, started if it is not there yet; it keeps its first configuration."""
        if ns not in self.daemons or not self.daemons[ns].running():
            argv = [nstack.DAEMON] + (["--config", config] if config else [])
            p = ns.spawn(argv, f"nstackd-{len(self.daemons)}", env=self.env())
            wait.until(lambda: p.must_run() or nstack.daemon_ready(ns), "nstackd to be ready")
            self.daemons[ns] = p
        return self.daemons[ns]

    def serve(self, cmd, name, tcp=(), udp=(), side=None, config=None, plain=False, owned=True,
              **kw):
        """Start a server and wait until it serves tcp/udp ports (under nstack: owns them)."""
        ns = side or self.server
        kw["env"] = {**self.env(), **kw.get("env", {})}
        p = ns.spawn(cmd if plain else self.argv(cmd, config, ns), name, **kw)
        self.wait_served(p, tcp, udp, ns, owned=owned and self.is_nstack and not plain)
        return p

    def wait_served(self, p, tcp=(), udp=(), ns=None, owned=True):
        ns = ns or self.server

        def bound():
            p.must_run()
            return all(ns.listening(x) for x in tcp) and all(ns.bound_udp(x) for x in udp)
        wait.until(bound, f"{p.name} to listen on {[*tcp, *udp]}")
        if owned:
            want = {("tcp", x) for x in tcp} | {("udp", x) for x in udp}

            def have():
                p.must_run()
                return want <= nstack.claims(ns)
            wait.until(have, f"{p.name} to own {sorted(want)}")

    def env(self):
        """Environment of a program under nstack: logs go to the test's folder."""
        env = {"NSTACK_APP_LOG_PATH": self.workdir}
        if nstack.SAN:
            env.update(nstack.sanitizer_env(self.workdir))
        return env

    def proof(self, side=None):
        return nstack.Proof(side or self.server, self.mode)

    def tool(self, *args, side=None, **kw):
        return nstack.tool(side or self.server, *args, **kw)

    def diagnostics(self):
        parts = [nstack.diagnostics(self.server)] if self.is_nstack else []
        for ns in (self.server, self.client):
            for p in ns.procs:
                parts.append(f"--- {p.name}: {' '.join(p.argv[4:])} "
                             f"({'runs' if p.running() else p.popen.returncode})\n"
                             + p.stdout()[-1500:] + p.stderr()[-2500:])
        for name in sorted(os.listdir(self.workdir)):
            if name.startswith(("app_", "running.", "operation.")) and ".log" in name:
                with open(os.path.join(self.workdir, name), errors="replace", encoding="utf8") as f:
                    parts.append(f"--- {name}\n{f.read()[-2500:]}")
        return "\n".join(parts)

    def logs(self):
        """Everything that processes under nstack logged, and what `nstack run` said."""
        text = ""
        for name in sorted(os.listdir(self.workdir)):
            if (name.startswith(("app_", "running.", "operation.")) and ".log" in name) or name.endswith(".err"):
                with open(os.path.join(self.workdir, name), errors="replace", encoding="utf8") as f:
                    text += f.read()
        return text
