# SPDX-License-Identifier: Apache-2.0
"""Stock programs: how they are started here, how their clients' output is read."""
import hashlib
import json
import os
import random
import re

from . import wait
from .nstack import PYTHON


def host(addr):
    """An address as URLs and socat want it."""
    return f"[{addr}]" if ":" in addr else addr


def url(addr, port, path="/"):
    return f"http://{host(addr)}:{port}{path}"


def blob(path, size, seed=1):
    """A file of random bytes; returns its SHA-256."""
    rnd, h = random.Random(seed), hashlib.sha256()
    with open(path, "wb") as f:
        while size:
            part = rnd.randbytes(min(size, 1 << 20))
            f.write(part)
            h.update(part)
            size -= len(part)
    return h.hexdigest()


def sha256(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while part := f.read(1 << 20):
            h.update(part)
    return h.hexdigest()


def open_path(path):
    """Let every user look into a folder below the temporary one."""
    while path not in ("/", "/tmp"):
        os.chmod(path, os.stat(path).st_mode | 0o055)
        path = os.path.dirname(path)


# --- redis ------------------------------------------------------------------------------

def redis(net, port=6379, **kw):
    return net.serve(["redis-server", "--port", port, "--bind", "0.0.0.0", "::",
                      "--protected-mode", "no", "--save", "", "--appendonly", "no",
                      "--dir", net.workdir], "redis", tcp=[port], **kw)


def redis_cli(ns, addr, *args, port=6379, check=True, input=None, timeout=20):
    return ns.run(["redis-cli", "-h", addr, "-p", port, *args], check=check, input=input,
                  timeout=timeout).stdout.rstrip("\n")


def redis_calls(text):
    """{command: calls} of INFO commandstats"""
    return {m[1]: int(m[2]) for m in re.finditer(r"^cmdstat_(\S+?):calls=(\d+)", text, re.M)}


def redis_benchmark(ns, addr, n, pipeline=1, clients=50, tests="set,get", port=6379, timeout=120):
    """{test: requests/s}; fails when the benchmark does"""
    out = ns.run(["redis-benchmark", "-h", addr, "-p", port, "-c", clients, "-P", pipeline,
                  "-n", n, "-t", tests, "-r", 1000, "-d", 64, "--csv"], timeout=timeout)
    assert "rror" not in out.stdout + out.stderr, out.stdout + out.stderr
    rates = {m[1].lower(): float(m[2]) for m in re.finditer(r'^"(\w+)","([\d.]+)"', out.stdout, re.M)}
    assert set(rates) == set(tests.split(",")), out.stdout
    return rates


# --- nginx ------------------------------------------------------------------------------

NGINX = """daemon off; master_process {master}; worker_processes {workers}; pid {dir}/nginx.pid;
{user}
error_log stderr info;
events {{ worker_connections 4096; }}
http {{
  access_log {dir}/access.log;
  client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir};
  uwsgi_temp_path {dir}; scgi_temp_path {dir};
  keepalive_requests 1000000000;
  server {{
    listen {port} {opts};
    listen [::]:{port} {opts};
    location /sf/ {{ alias {dir}/www/; sendfile on; tcp_nopush on; }}
    location /rw/ {{ alias {dir}/www/; sendfile off; }}
    location /put/ {{ root {dir}/www; client_max_body_size 2g; dav_methods PUT; }}
  }}
}}
"""


class Nginx:
    """Files 1k and 10m below /sf/ (sendfile) and /rw/ (read and write)."""

    def __init__(self, net, port=80, master=True, user="root", opts="", workers=1, **kw):
        self.net, self.port = net, port
        www = os.path.join(net.workdir, "www")
        os.makedirs(www, exist_ok=True)
        self.sums = {"1k": blob(www + "/1k", 1024), "10m": blob(www + "/10m", 10 << 20)}
        os.chmod(net.workdir, 0o755)
        self.access = net.workdir + "/access.log"
        conf = net.workdir + "/nginx.conf"
        with open(conf, "w", encoding="utf8") as f:
            text = NGINX.format(dir=net.workdir, port=port, master="on" if master else "off",
                                user=f"user {user};" if user else "", opts=opts, workers=workers)
            f.write(re.sub(r".*dav_methods.*\n", "", text))
        self.proc = net.serve(["nginx", "-c", conf], "nginx", tcp=[port], **kw)

    def requests(self):
        """Requests that nginx logged: {status: count}"""
        out = {}
        with open(self.access, encoding="utf8") as f:
            for line in f:
                status = line.split('" ', 1)[1].split()[0]
                out[status] = out.get(status, 0) + 1
        return out


def curl(ns, target, *args, timeout=30, check=True):
    return ns.run(["curl", "-sS", "--fail", "-m", timeout, *args, target], check=check,
                  timeout=timeout + 5).stdout


def curl_sum(ns, target, workdir, *args, timeout=60):
    """SHA-256 of what curl fetched."""
    path = os.path.join(workdir, "curl.out")
    curl(ns, target, "-o", path, *args, timeout=timeout)
    return sha256(path)


def wrk(ns, target, seconds=2, conns=32, close=False, timeout=60):
    """(requests, requests/s); every response must be good"""
    argv = ["wrk", "-t1", f"-c{conns}", f"-d{seconds}s", "--timeout", "5s"]
    if close:
        argv += ["-H", "Connection: close"]
    out = ns.run([*argv, target], timeout=timeout).stdout
    total = re.search(r"(\d+) requests in", out)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert total and rate and int(total[1]) > 0, out
    assert "Non-2xx" not in out, out
    errs = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    assert not errs or not any(map(int, errs.groups())), out
    return int(total[1]), float(rate[1])


# --- others -----------------------------------------------------------------------------

def memcached(net, port=11211, threads=1, **kw):
    return net.serve(["memcached", "-u", "root", "-p", port, "-U", port, "-t", threads,
                      "-l", "0.0.0.0,::"], "memcached", tcp=[port], udp=[port], **kw)


def prog(name):
    """A helper program of the tests, run by the stock python."""
    return [PYTHON, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                                 "ns", "progs", name)]


class HttpLoad:
    """apps/progs/http_load.py beside the test: GET in parallel, on connections that are kept or closed."""

    def __init__(self, net, port, path, sha, conns, mode):
        self.mode = mode
        program = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "apps", "progs", "http_load.py")
        self.proc = net.client.spawn([PYTHON, program, net.s4, port, path, sha, conns, mode],
                                     f"load-{mode}", stdin="pipe")
        self.proc.wait_output("started")

    def go_on(self, n=400):
        """Until n requests more were served: so many that every client has its connection again."""
        at = lambda: int(([0] + self.proc.stdout().split())[-1])
        start = wait.until(at, "requests")
        wait.until(lambda: at() >= start + n, f"{n} requests more", 30)

    def end(self):
        self.proc.popen.stdin.close()
        return {**json.loads(self.proc.ok(40).splitlines()[-1]), "mode": self.mode}
