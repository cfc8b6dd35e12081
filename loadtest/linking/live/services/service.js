// Node's http module with a keep-alive agent: `node service.js SETTINGS`. What it does for a request
// is what behaviour.py says; connections that are kept are taken last in, first out.
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");

const settings = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const truth = fs.openSync(settings.truth, "a");
const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });

const ECHOES = [["path", 0.3], ["body", 0.2], ["request_id", 0.2], ["answer", 0.15], ["user", 0.15]];
const THINK = 3;
const LATE = 20;

const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const item = () => crypto.randomInt(40);

function lognormal(median) {
  const normal = Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  return median * Math.exp(0.7 * normal);
}

function tell(behaviour, echo, inbound, call) {
  fs.writeSync(truth, `${behaviour} ${echo} ${inbound} ${call}\n`);
}

const oneByOne = (...names) => names.map((name) => ({ calls: [name] }));

function plan(behaviour) {
  switch (behaviour) {
    case "seq":
      return oneByOne("stock", "pricing", "users");
    case "skip":
      return oneByOne("stock", ...["pricing", "users"].filter(() => Math.random() >= 0.5));
    case "fan":
      return [...oneByOne("users"), { calls: ["stock", "pricing", "audit"] }];
    case "retry":
      return [...oneByOne("users"), { calls: ["payment"], attempts: 3 }];
    default:
      return [...oneByOne("pricing"), { calls: ["audit"], late: true }];
  }
}

function requestEcho() {
  let left = Math.random();
  return (ECHOES.find(([, share]) => (left -= share) < 0) || ECHOES[0])[0];
}

function message(destination, request, echo, answer) {
  const headers = { accept: "application/json", "user-agent": "rig" };
  const token = echo === "answer" ? answer : request.orderId;
  if (echo === "request_id") headers["x-request-id"] = request.requestId;
  if (echo === "user") headers.authorization = request.authorization;
  if (echo === "body" || destination === "payment" || destination === "audit") {
    const body = { item: item(), currency: "EUR" };
    if (["body", "path", "answer"].includes(echo)) body.order = token;
    headers["content-type"] = "application/json";
    return { method: "POST", path: `/${destination}`, headers, body: JSON.stringify(body) };
  }
  const named = echo === "path" || echo === "answer";
  const path = named
    ? `/${destination}/orders/${token}/items/${item()}`
    : `/${destination}/items/${item()}?currency=EUR`;
  return { method: "GET", path, headers };
}

function send(destination, sent, nonce) {
  const headers = { ...sent.headers, "x-rig-call": nonce };
  if (sent.body) headers["content-length"] = Buffer.byteLength(sent.body);
  const options = {
    agent, host: "127.0.0.1", port: settings.destinations[destination],
    method: sent.method, path: sent.path, headers,
  };
  return new Promise((done, failed) => {
    const call = http.request(options, async (response) => {
      done({ status: response.statusCode, body: await text(response) });
    });
    call.on("error", failed);
    call.end(sent.body);
  });
}

async function text(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString();
}

async function makeCall(request, behaviour, destination, attempts, answer) {
  let echo = Math.random() < settings.echo ? request.echo : "none";
  if (echo === "answer" && !answer) echo = "none";
  const sent = message(destination, request, echo, answer);
  for (let attempt = 0; attempt < attempts; attempt++) {
    const nonce = crypto.randomBytes(8).toString("hex");
    tell(behaviour, echo, request.nonce, nonce);
    const { status, body } = await send(destination, sent, nonce);
    if (status < 500) return JSON.parse(body).id ?? answer;
  }
  return answer;
}

async function runStage(request, stage, answer) {
  await sleep(lognormal(stage.late ? LATE : THINK));
  const behaviour = stage.late ? "late" : request.behaviour;
  const calls = stage.calls.map((name) =>
    makeCall(request, behaviour, name, stage.attempts ?? 1, answer));
  return (await Promise.all(calls)).at(-1);
}

async function handle(received, response) {
  const url = new URL(received.url, "http://127.0.0.1");
  const [, , behaviour, , id] = url.pathname.split("/");
  const body = await text(received);
  const request = {
    behaviour, nonce: received.headers["x-rig-inbound"], echo: requestEcho(),
    orderId: id ?? JSON.parse(body).order_id, requestId: received.headers["x-request-id"],
    authorization: received.headers.authorization,
  };
  const stages = plan(behaviour);
  let answer = "";
  for (const stage of stages.filter((each) => !each.late)) {
    answer = await runStage(request, stage, answer);
  }
  const sent = JSON.stringify({ item: url.searchParams.get("item") });
  response.writeHead(200, { "content-type": "application/json", "content-length": sent.length });
  response.end(sent);
  for (const stage of stages.filter((each) => each.late)) await runStage(request, stage, "");
}

async function background(interval) {
  for (let turn = 0; ; turn++) {
    await sleep(interval);
    const destination = ["flags", "stock"][turn % 2];
    const path = destination === "flags" ? "/flags" : `/stock/items/${item()}?currency=EUR`;
    const nonce = crypto.randomBytes(8).toString("hex");
    tell("background", "none", "-", nonce);
    const headers = { accept: "application/json", "user-agent": "rig" };
    await send(destination, { method: "GET", path, headers }, nonce);
  }
}

http.createServer({ keepAliveTimeout: 60000 }, handle).listen(settings.port, "127.0.0.1", 512);
if (settings.background > 0) background(1000 / settings.background);
