# SPDX-License-Identifier: Apache-2.0
"""PHP behind nginx: FastCGI over the wire, with a server of several processes on either end."""
import concurrent.futures
import glob
import os
import signal

import pytest

from lib import apps, wait

BIN = max(glob.glob("/usr/sbin/php-fpm*"), default="php-fpm")
PORT, WORKERS = 9000, 3

FPM = """[global]
error_log = {dir}/fpm.log
[www]
user = www-data
group = www-data
listen = {addr}:{port}
pm = static
pm.max_children = {workers}
"""

NGINX = """daemon off;
worker_processes 2;
user www-data;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {dir}/body;
  client_max_body_size 20m;
  fastcgi_temp_path {dir}/answers;
  proxy_temp_path {dir}/proxy;
  scgi_temp_path {dir}/scgi;
  uwsgi_temp_path {dir}/uwsgi;
  server {{
    listen 8080;
    listen [::]:8080;
    include /etc/nginx/fastcgi_params;
    fastcgi_param SCRIPT_FILENAME {dir}/page.php;
    location / {{ fastcgi_pass {addr}:{port}; }}
  }}
}}
"""

#: who answered, and what it was asked
PAGE = """<?php
$body = file_get_contents("php://input");
echo getmypid(), " ", strlen($body), " ", hash("sha256", $body), " ", str_repeat("x", (int)($_GET["n"] ?? 0));
"""


class Php:
    """nginx on the server's side, PHP on the client's, where the browser is, too."""

    def __init__(self, net, family):
        self.net, self.target = net, apps.url(net.saddr(family), 8080, "/")
        keys = {"dir": net.workdir, "addr": apps.host(net.caddr(family)), "port": PORT, "workers": WORKERS}
        for name, text in (("fpm.conf", FPM.format(**keys)), ("nginx.conf", NGINX.format(**keys)), ("page.php", PAGE)):
            with open(f"{net.workdir}/{name}", "w", encoding="utf8") as f:
                f.write(text)
        self.master = net.serve([BIN, "-F", "-y", f"{net.workdir}/fpm.conf"], "php-fpm", tcp=[PORT],
                                side=net.client).pid
        net.serve(["nginx", "-c", f"{net.workdir}/nginx.conf"], "nginx", tcp=[8080])

    def ask(self, *args, query=""):
        """[pid, length, hash, filling]"""
        return apps.curl(self.net.client, self.target + query, *args).split(" ")

    def workers(self):
        with open(f"/proc/{self.master}/task/{self.master}/children", encoding="ascii") as f:
            return set(f.read().split())


@pytest.fixture
def php(net, family):
    return Php(net, family)


def test_pages(net, php):
    proof = net.proof()
    assert len(php.ask(query="?n=1000000")[3]) == 1_000_000
    digest = apps.blob(f"{net.workdir}/upload", 5 << 20)
    assert php.ask("--data-binary", f"@{net.workdir}/upload")[1:3] == [str(5 << 20), digest]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: php.ask(query=f"?n={i}"), range(60)))
    assert [len(a[3]) for a in answers] == list(range(60)) and {a[0] for a in answers} <= php.workers()
    if net.shared_device:
        proof.user_stack(tcp=500)


def test_worker_is_killed(net, php):
    """The master starts another one; no request meets the one that is gone."""
    for _ in range(4):
        pid = php.ask()[0]
        os.kill(int(pid), signal.SIGKILL)
        wait.until(lambda pid=pid: pid not in php.workers() and len(php.workers()) == WORKERS, "a new worker")
        assert php.ask()[0] in php.workers()
