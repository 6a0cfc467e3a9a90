# SPDX-License-Identifier: Apache-2.0
"""curl with HTTP/2 (in TLS and by prior knowledge), parallel streams, uploads; wget; lighttpd."""
import os

import pytest

from lib import apps

HTTPS, H2C, PLAIN = 443, 8443, 80

CONF = """daemon off; worker_processes 1; pid {dir}/nginx.pid; user root;
error_log stderr info;
events {{ }}
http {{
  access_log {dir}/access.log;
  client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir};
  uwsgi_temp_path {dir}; scgi_temp_path {dir};
  server {{
    listen 80; listen [::]:80;
    listen 8443 http2; listen [::]:8443 http2;
    listen 443 ssl http2; listen [::]:443 ssl http2;
    ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
    root {dir}/www;
  }}
}}
"""

LIGHTTPD = """server.document-root = "{dir}/www"
server.port = 80
server.bind = "[::]"
server.upload-dirs = ( "{dir}" )
$SERVER["socket"] == "0.0.0.0:80" {{ }}
server.set-v6only = "enable"
"""


def files(net):
    www = net.workdir + "/www"
    os.makedirs(www)
    return {"1k": apps.blob(www + "/1k", 1024), "10m": apps.blob(www + "/10m", 10 << 20)}


@pytest.fixture
def web(sides):
    net = sides.net
    sums = files(net)
    net.server.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                    "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=test",
                    "-addext", f"subjectAltName=IP:{net.s4},IP:{net.s6}"])
    net.give("key.pem")
    with open(net.workdir + "/nginx.conf", "w", encoding="utf8") as f:
        f.write(CONF.format(dir=net.workdir))
    sides.serve(["nginx", "-c", net.workdir + "/nginx.conf"], "nginx", tcp=[PLAIN, HTTPS, H2C])
    return sums


def test_http2_tls(sides, web):
    """Six files as parallel streams."""
    names = ["1k", "10m"] * 3
    base = f"https://{apps.host(sides.addr)}/"
    gets = [a for i, name in enumerate(names) for a in ("-o", f"got{i}", base + name)]
    sides.watch()
    out = sides.run(["curl", "-sS", "--fail", "-m", "40", "--cacert", "cert.pem", "--http2", "-Z", *gets,
                     "-w", "%{http_version}\n"]).stdout
    for i, name in enumerate(names):
        assert apps.sha256(f"{sides.net.workdir}/got{i}") == web[name]
    assert out.split() == ["2"] * len(names)
    sides.user_stack(100)


def test_http2_prior_knowledge(sides, web):
    """One file for each curl: this one's second request fails on such a connection, plainly too."""
    sides.watch()
    for name, want in web.items():
        out = sides.run(["curl", "-sS", "--fail", "-m", "20", "--http2-prior-knowledge", "-o", "got", "-w",
                         "%{http_version}", apps.url(sides.addr, H2C, "/" + name)]).stdout
        assert out == "2" and apps.sha256(sides.net.workdir + "/got") == want
    sides.user_stack(50, late=16)


def test_wget(sides, web):
    base = apps.url(sides.addr, PLAIN, "/")
    sides.watch()
    sides.run(["wget", "-q", "-T", "20", "-t", "1", "-P", "got", base + "1k", base + "10m"])
    # continue a download that was cut off
    whole, part = f"{sides.net.workdir}/got/10m", f"{sides.net.workdir}/got/part"
    with open(whole, "rb") as src, open(part, "wb") as dst:
        dst.write(src.read(3_333_333))
    if sides.client_ours:
        sides.net.give("got/part")
    sides.run(["wget", "-q", "-T", "20", "-t", "1", "-c", "-O", part, base + "10m"])
    sides.user_stack(100)
    got = {name: apps.sha256(f"{sides.net.workdir}/got/{name}") for name in web}
    assert got == web
    assert os.path.getsize(part) == 10 << 20


def test_lighttpd(server_side):
    net = server_side.net
    sums = files(net)
    with open(net.workdir + "/lighttpd.conf", "w", encoding="utf8") as f:
        f.write(LIGHTTPD.format(dir=net.workdir))
    server_side.serve(["lighttpd", "-D", "-f", net.workdir + "/lighttpd.conf"], "lighttpd", tcp=[80])
    proof = net.proof()
    for name, want in sums.items():
        assert apps.curl_sum(net.client, apps.url(server_side.addr, 80, "/" + name), net.workdir) == want
    apps.wrk(net.client, apps.url(server_side.addr, 80, "/1k"), seconds=1)
    proof.user_stack(tcp=100)
