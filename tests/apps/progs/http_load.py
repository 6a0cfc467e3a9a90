#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""http_load.py HOST PORT PATH SHA256 CONNECTIONS keep|close: GET in parallel until stdin ends.

Each connection asks again and again and checks every body. As RFC 9112 9.3.1 allows for an
idempotent request, one that finds its idle connection closed before the first byte of an answer is
sent once more on a new connection. Everything else that goes wrong is a failure. Says how far it
is every 100 requests; its last line is one JSON object: requests, retries, connects, failures (a list of texts).
"""
import hashlib
import http.client
import json
import sys
import threading

HOST, PORT, PATH, SUM, CONNS, MODE = sys.argv[1:7]
IDLE_CLOSE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)

over = threading.Event()
lock = threading.Lock()
total = {"requests": 0, "retries": 0, "connects": 0, "failures": []}


def count(name, n=1):
    with lock:
        total[name] += n
        if name == "requests" and total[name] % 100 == 0:
            print("at", total[name], flush=True)


class Client:
    def __init__(self):
        self.conn, self.used = None, False

    def open(self):
        self.used = False
        self.conn = http.client.HTTPConnection(HOST, int(PORT), timeout=20)
        self.conn.connect()
        count("connects")

    def close(self):
        if self.conn:
            self.conn.close()
        self.conn = None

    def ask(self):
        """The response's head has come, or an exception."""
        self.conn.request("GET", PATH, headers={"Connection": "close"} if MODE == "close" else {})
        return self.conn.getresponse()

    def get(self):
        if not self.conn:
            self.open()
        try:
            answer = self.ask()
        except IDLE_CLOSE:
            if not self.used:
                raise
            count("retries")
            self.close()
            self.open()
            answer = self.ask()
        body = answer.read()
        if answer.status != 200 or hashlib.sha256(body).hexdigest() != SUM:
            raise ValueError(f"status {answer.status}, {len(body)} bytes")
        self.used = True
        if answer.will_close:
            self.close()

    def run(self):
        while not over.is_set():
            try:
                self.get()
                count("requests")
            except (OSError, ValueError, http.client.HTTPException) as e:
                count("failures", [f"{type(e).__name__}: {e} (used: {self.used})"])
                self.close()


threads = [threading.Thread(target=Client().run) for _ in range(int(CONNS))]
for t in threads:
    t.start()
print("started", flush=True)
sys.stdin.read()
over.set()
for t in threads:
    t.join()
print(json.dumps(total))
