// What Node's own clients meet behind a proxy: node client.mjs BASE_URL; prints one JSON object.
import http from "node:http";
import { createHash } from "node:crypto";

const base = process.argv[2];
const sha256 = (data) => createHash("sha256").update(data).digest("hex");
const body = Buffer.alloc(8 * 1024 * 1024, "0123456789abcdef-");

async function getsAtOnce() {
  const numbers = Array.from({ length: 300 }, (_, number) => number);
  const answers = await Promise.all(
    numbers.map(async (number) => (await fetch(`${base}/number/${number}`)).text()),
  );
  return answers.every((answer, number) => answer === String(number));
}

async function upload(data, options = {}) {
  const response = await fetch(`${base}/upload`, { method: "PUT", body: data, ...options });
  const got = await response.json();
  return got.length === body.length && got.sha256 === sha256(body);
}

function pieces() {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= body.length) return controller.close();
      controller.enqueue(body.subarray(at, at + 70_000));
      at += 70_000;
    },
  });
}

async function packed() {
  const response = await fetch(`${base}/packed`);
  return (await response.text()).startsWith("line 0 of a text");
}

// A kept connection, one request after the other, with http.Agent.
async function kept() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const sockets = new Set();
  for (let number = 0; number < 50; number++) {
    await new Promise((resolve, reject) => {
      const request = http.get(`${base}/number/${number}`, { agent }, (response) => {
        response.resume().on("end", resolve);
      });
      request.on("socket", (socket) => sockets.add(socket)).on("error", reject);
    });
  }
  agent.destroy();
  return sockets.size;
}

async function continued() {
  return await new Promise((resolve, reject) => {
    let asked = false;
    const headers = { Expect: "100-continue", "Content-Length": body.length };
    const request = http.request(`${base}/upload`, { method: "PUT", headers }, (response) => {
      response.resume().on("end", () => resolve(asked && response.statusCode === 200));
    });
    request.on("continue", () => {
      asked = true;
      request.end(body);
    });
    request.on("error", reject).flushHeaders();
  });
}

// A client that goes away in the middle of an answer; the next request is served all the same.
async function aborted() {
  const controller = new AbortController();
  const response = await fetch(`${base}/download?bytes=100000000`, { signal: controller.signal });
  await response.body.getReader().read();
  controller.abort();
  return (await fetch(`${base}/number/1`)).status;
}

console.log(
  JSON.stringify({
    getsAtOnce: await getsAtOnce(),
    upload: await upload(body),
    uploadInPieces: await upload(pieces(), { duplex: "half" }),
    packed: await packed(),
    keptSockets: await kept(),
    continued: await continued(),
    afterAbort: await aborted(),
  }),
);
process.exit(0);
