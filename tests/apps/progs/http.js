// SPDX-License-Identifier: Apache-2.0
// http.js serve ADDR PORT
// http.js ask ADDR PORT CLIENTS ROUNDS: each client keeps one connection and checks every answer
const crypto = require("crypto");
const http = require("http");

const [what, addr, port, clients, rounds] = process.argv.slice(2);
const sum = data => crypto.createHash("sha256").update(data).digest("hex");
const connections = new Set();

function serve() {
  http.createServer((req, res) => {
    const parts = [];
    req.on("data", part => parts.push(part));
    req.on("end", () => {
      const body = Buffer.concat(parts);
      res.setHeader("X-Sum", sum(body));
      res.end(body);
    });
  }).listen(Number(port), addr);
}

function post(agent, body) {
  return new Promise((resolve, reject) => {
    const req = http.request({ host: addr, port, agent, method: "POST",
                               headers: { "Content-Length": body.length } }, res => {
      const parts = [];
      connections.add(`${res.socket.localAddress} ${res.socket.localPort}`);
      res.on("data", part => parts.push(part));
      res.on("end", () => {
        const got = Buffer.concat(parts);
        if (got.equals(body) && res.headers["x-sum"] === sum(body))
          resolve();
        else
          reject(new Error(`wrong answer, ${got.length} bytes of ${body.length}`));
      });
      res.on("error", reject);
    });
    req.on("error", reject);
    req.end(body);
  });
}

async function client() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  for (let i = 0; i < Number(rounds); i++)
    await post(agent, crypto.randomBytes([1, 100, 5000, 50000][i % 4]));
  agent.destroy();
}

if (what === "serve") {
  serve();
} else {
  Promise.all(Array.from({ length: Number(clients) }, client)).then(() =>
    console.log(`${clients * rounds} answers on ${connections.size} connections`));
}
