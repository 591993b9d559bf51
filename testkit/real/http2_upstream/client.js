// client.js ADDRESS: requests by HTTP/1.1 that the proxy passes on over shared connections.
const assert = require("node:assert");
const http = require("node:http");

const [host, port] = process.argv[2].split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 200 });

function send(path, { method = "GET", body, stopAfter } = {}) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host, port, path, method, agent }, (response) => {
      let text = "";
      response.on("data", (part) => {
        text += part;
        if (text === stopAfter) request.destroy(), resolve();
      });
      response.on("end", () => resolve({ status: response.statusCode, session: response.headers["x-session"], text }));
      response.on("error", (error) => (stopAfter ? resolve() : reject(error)));
    });
    request.on("error", (error) => (stopAfter ? resolve() : reject(error)));
    request.end(body);
  });
}

const times = (count, call) => Promise.all(Array.from({ length: count }, (_, number) => call(number)));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function shared(prefix = "") {
  const answers = await times(20, () => send(`${prefix}/held?n=20`));
  assert(answers.every(({ status, text }) => status === 200 && text === "held 20"));
  const bySession = Map.groupBy ? Map.groupBy(answers, ({ session }) => session) : new Map();
  answers.forEach(({ session }) => bySession.set(session, (bySession.get(session) ?? 0) + 1));
  assert.strictEqual(bySession.size, 4, "five streams on each of four connections");
}

async function oneAfterTheOther() {
  const sessions = new Set();
  for (let count = 0; count < 30; count++) sessions.add((await send("/")).session);
  assert.strictEqual(sessions.size, 1);
}

async function large() {
  const answers = await times(10, () => send("/bytes?n=3000000"));
  assert(answers.every(({ text }) => text.length === 3_000_000));
  const uploads = await times(10, (n) => send(n % 2 ? "/upload" : "/unbuffered/upload", { method: "POST", body: Buffer.alloc(800_000) }));
  assert(uploads.every(({ text }) => text === "800000 bytes"));
}

/** A client that takes nothing holds up nobody else on the connection. */
async function slowReader() {
  const [stuck] = await new Promise((resolve) => {
    const request = http.get({ host, port, path: "/unbuffered/bytes?n=30000000" }, (response) => {
      response.pause();
      resolve([request]);
    });
  });
  const answers = await times(20, () => send("/bytes?n=500000"));
  assert(answers.every(({ text }) => text.length === 500_000));
  stuck.destroy();
}

async function cancelled() {
  const before = (await send("/sessions")).text;
  await times(3, () => send("/unbuffered/stall", { stopAfter: "begun" }));
  const aborted = (text) => Number(/(\d+) aborted/.exec(text)[1]);
  const opened = (text) => Number(/(\d+) opened/.exec(text)[1]);
  let after;
  for (let tries = 0; tries < 100; tries++) {
    after = (await send("/sessions")).text;
    if (aborted(after) === aborted(before) + 3) break;
    await sleep(10);
  }
  assert.strictEqual(aborted(after), aborted(before) + 3, after);
  assert.strictEqual(opened(after), opened(before), "the connection goes on");
}

async function goingAway() {
  for (let round = 0; round < 5; round++) {
    const leaving = send("/goaway");
    const answers = await times(12, () => send("/"));
    assert(answers.every(({ status, text }) => status === 200 && text === "hello"));
    assert.strictEqual((await leaving).text, "going away");
  }
}

/** A connection that breaks takes its requests with it, and each of them finds another server. */
async function broken() {
  const waiting = times(4, () => send("/both/wait", { method: "POST", body: "x" }));
  await sleep(100);
  const answers = [await send("/both/break"), ...(await waiting)];
  assert(answers.every(({ status, text }) => status === 200 && text === "hello"), JSON.stringify(answers));
}

async function refused() {
  assert.strictEqual((await send("/refuse")).status, 502);
  assert.strictEqual((await send("/")).status, 200);
}

async function idle() {
  await sleep(1500);
  assert.match((await send("/sessions")).text, /, 1 open,/);
}

const secure = () => shared("/secure");
const calls = { shared, secure, oneAfterTheOther, large, slowReader, cancelled, idle, goingAway, refused, broken };

(async () => {
  for (const [name, call] of Object.entries(calls)) {
    await call().catch((error) => {
      console.error("failed", name, error);
      process.exit(1);
    });
  }
  console.log(Object.keys(calls).length, "passed");
  process.exit(0);
})();
