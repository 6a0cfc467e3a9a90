#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""threads_http.py serve ADDR PORT
threads_http.py ask ADDR PORT CLIENTS ROUNDS

POST a body, get back its SHA-256 and as many bytes of the same."""
import concurrent.futures
import hashlib
import http.client
import http.server
import random
import socket
import sys

WHAT, ADDR, PORT = sys.argv[1:4]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = hashlib.sha256(body).digest() + body
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in ADDR else socket.AF_INET
    request_queue_size = 200


def ask(seed):
    rnd = random.Random(seed)
    conn = http.client.HTTPConnection(ADDR, int(PORT), timeout=20)
    for i in range(int(sys.argv[5])):
        body = rnd.randbytes(rnd.choice([0, 1, 5000, 50_000]))
        conn.request("POST", f"/{i}", body)
        answer = conn.getresponse()
        got = answer.read()
        assert answer.status == 200 and got == hashlib.sha256(body).digest() + body
    conn.close()
    return int(sys.argv[5])


if WHAT == "serve":
    Server((ADDR, int(PORT)), Handler).serve_forever()
else:
    with concurrent.futures.ThreadPoolExecutor(int(sys.argv[4])) as pool:
        print(sum(pool.map(ask, range(int(sys.argv[4])))), "answers")
