// client.js CLEAR-TEXT-ADDRESS TLS-ADDRESS SOCKET.IO-ADDRESS CERTS: each way to talk, through the proxy.
const assert = require("node:assert");
const fs = require("node:fs");
const { once } = require("node:events");
const WebSocket = require("ws");
const { io } = require("socket.io-client");

const [clear, secure, sockets, certs] = process.argv.slice(2);
const ca = fs.readFileSync(`${certs}/ca.crt`);

async function opened(url, options = {}) {
  const socket = new WebSocket(url, { ca, servername: "ws.example.com", headers: { Host: "ws.example.com" }, ...options });
  const [hello] = await once(socket, "message");
  return [socket, JSON.parse(hello)];
}

async function echo(socket, data) {
  socket.send(data);
  const [answer, isBinary] = await once(socket, "message");
  assert.strictEqual(isBinary, Buffer.isBuffer(data));
  assert(Buffer.from(data).equals(answer), "another message came back");
}

async function chat(url, scheme, options) {
  const [socket, hello] = await opened(`${url}/ws/chat?room=1`, options);
  assert.deepStrictEqual(hello, { path: "/ws/chat?room=1", ip: "127.0.0.1", host: "ws.example.com", ...scheme });
  await echo(socket, "hello");
  await echo(socket, Buffer.alloc(2_000_000, 7));
  await echo(socket, "");
  const pong = once(socket, "pong");
  socket.ping("are you there");
  assert.strictEqual((await pong)[0].toString(), "are you there");
  // Many messages at once come back in their order.
  const seen = [];
  const all = new Promise((resolve) => socket.on("message", (data) => seen.push(Number(data)) === 500 && resolve()));
  for (let number = 0; number < 500; number++) socket.send(String(number));
  await all;
  assert(seen.every((number, place) => number === place));
  socket.removeAllListeners("message");
  const closed = once(socket, "close");
  socket.send("bye");
  const [code, reason] = await closed;
  assert.deepStrictEqual([code, reason.toString()], [4000, "as you wish"]);
}

async function compressed() {
  const [socket] = await opened(`ws://${clear}/ws/zip`, { perMessageDeflate: { threshold: 0 } });
  await echo(socket, "a".repeat(100_000));
  socket.close();
  await once(socket, "close");
}

async function vanishing() {
  const [socket] = await opened(`ws://${clear}/ws/x`);
  const closed = once(socket, "close");
  socket.send("vanish");
  assert.strictEqual((await closed)[0], 1006);
}

async function refused() {
  const socket = new WebSocket(`ws://${clear}/ws/none`, { headers: { Host: "ws.example.com" } });
  const [error] = await once(socket, "error");
  assert.match(error.message, /403/);
}

async function crowd() {
  const all = Array.from({ length: 20 }, async (_, number) => {
    const [socket] = await opened(`wss://${secure}/ws/${number}`);
    await echo(socket, `I am ${number}`);
    socket.terminate();
  });
  await Promise.all(all);
}

async function socketIo(transports, expected) {
  const socket = io(`http://${sockets}`, { transports, forceNew: true, reconnection: false });
  await once(socket, "connect");
  const engine = socket.io.engine;
  if (engine.transport.name !== expected) await once(engine, "upgrade");
  assert.deepStrictEqual(await new Promise((resolve) => socket.emit("shout", "hey", (...answer) => resolve(answer))), ["HEY", expected]);
  const bytes = Buffer.alloc(200_000, 3);
  assert(bytes.equals(await socket.emitWithAck("bytes", bytes)));
  const heard = once(socket, "heard");
  socket.emit("everyone", "news");
  assert.strictEqual((await heard)[0], "news");
  socket.disconnect();
}

const calls = {
  clear: () => chat(`ws://${clear}`, {}),
  secure: () => chat(`wss://${secure}`, { scheme: "https" }),
  tls12: () => chat(`wss://${secure}`, { scheme: "https" }, { maxVersion: "TLSv1.2" }),
  compressed,
  vanishing,
  refused,
  crowd,
  polling: () => socketIo(["polling"], "polling"),
  websocket: () => socketIo(["websocket"], "websocket"),
  upgrade: () => socketIo(["polling", "websocket"], "websocket"),
};

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
