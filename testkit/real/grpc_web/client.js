// client.js ADDRESS-OF-HTTP/1 ADDRESS-OF-HTTP/2: each kind of call, in binary and in base64, over both versions.
const assert = require("node:assert");
const { once } = require("node:events");
const http = require("node:http");
const http2 = require("node:http2");
const { framed, bytesOf, textOf, decoded, parsed } = require("./web.js");

const [old, recent] = process.argv.slice(2);
const session = http2.connect(`http://${recent}`);

function http1(path, headers, pieces) {
  return new Promise((resolve, reject) => {
    const [host, port] = old.split(":");
    const request = http.request({ host, port, path, method: "POST", headers }, async (response) => {
      const parts = [];
      for await (const part of response) parts.push(part);
      assert.deepStrictEqual(response.trailers, {});
      resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) });
    });
    request.on("error", reject);
    pieces.forEach((piece) => request.write(piece));
    request.end();
  });
}

function http2_(path, headers, pieces) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":method": "POST", ":path": path, ...headers });
    let head;
    const parts = [];
    stream.on("response", (fields) => (head = fields));
    stream.on("trailers", () => reject(new Error("trailers of HTTP/2")));
    stream.on("data", (part) => parts.push(part));
    stream.on("end", () => resolve({ status: head[":status"], headers: head, body: Buffer.concat(parts) }));
    stream.on("error", reject);
    pieces.forEach((piece) => stream.write(piece));
    stream.end();
  });
}

async function call(send, coding, method, message, headers = {}) {
  const type = coding === "text" ? "application/grpc-web-text" : "application/grpc-web";
  const body = framed(message);
  // Base64 that is cut anywhere, and padded in the middle.
  const half = Math.floor(body.length / 2);
  const text = btoa(textOf(body.subarray(0, half))) + btoa(textOf(body.subarray(half)));
  const pieces = coding === "text" ? [text.slice(0, 7), text.slice(7)] : [body.subarray(0, 3), body.subarray(3)];
  const answer = await send(`/test.Service/${method}`, { "content-type": `${type}+proto`, "x-grpc-web": "1", ...headers }, pieces);
  assert.strictEqual(answer.status, 200);
  assert.match(answer.headers["content-type"], new RegExp(`^${type}`));
  const bytes = coding === "text" ? decoded(answer.body.toString()) : new Uint8Array(answer.body);
  return { ...answer, ...parsed(bytes) };
}

async function each(send, coding) {
  const echo = await call(send, coding, "Echo", bytesOf("hello"), { "x-in": "asked" });
  assert.deepStrictEqual(echo.messages.map(textOf), ["hello"]);
  assert.strictEqual(echo.headers["x-out"], "asked");
  assert.strictEqual(echo.trailers["grpc-status"], "0");
  assert.strictEqual(echo.trailers["x-real-ip"], "127.0.0.1");
  const large = await call(send, coding, "Echo", new Uint8Array(500_000));
  assert.strictEqual(large.messages[0].length, 500_000);
  const many = await call(send, coding, "Count", bytesOf("100 300"));
  assert.strictEqual(many.messages.length, 300);
  assert(many.messages.every((message, number) => message.length === 100 && message[0] === number % 256));
  assert.strictEqual(many.trailers["grpc-status"], "0");
  const late = await call(send, coding, "FailLate", bytesOf(""));
  assert.deepStrictEqual([late.messages.map(textOf), late.trailers["grpc-status"]], [["first"], "15"]);
  // What has no body says it all in its head.
  const failed = await call(send, coding, "Fail", bytesOf(""));
  assert.deepStrictEqual([failed.body.length, failed.headers["grpc-status"], failed.headers.why], [0, "5", "asked"]);
}

/** A message is there when the server has sent it, and whoever loses interest ends the call. */
async function streaming() {
  const [host, port] = old.split(":");
  const headers = { "content-type": "application/grpc-web-text" };
  const request = http.request({ host, port, path: "/test.Service/Slow", method: "POST", headers });
  request.end(btoa(textOf(framed(bytesOf("")))));
  const [response] = await once(request, "response");
  const [first] = await once(response, "data");
  assert.strictEqual(parsed(decoded(first.toString())).messages.length, 1);
  response.destroy();
  const cancelled = await call(http1, "text", "WasCancelled", bytesOf(""));
  assert.deepStrictEqual(cancelled.messages.map(textOf), ["yes"]);
}

async function broken(send) {
  const headers = { "content-type": "application/grpc-web-text" };
  const answer = await send("/test.Service/Echo", headers, ["no base64!"]);
  assert.deepStrictEqual([answer.status, answer.headers["grpc-status"]], [200, "13"]);
}

const calls = {
  binary1: () => each(http1, "binary"),
  text1: () => each(http1, "text"),
  binary2: () => each(http2_, "binary"),
  text2: () => each(http2_, "text"),
  streaming,
  broken: () => broken(http1),
};

(async () => {
  for (const [name, run] of Object.entries(calls)) {
    await run().catch((error) => {
      console.error("failed", name, error);
      process.exit(1);
    });
  }
  console.log(Object.keys(calls).length, "passed");
  process.exit(0);
})();
