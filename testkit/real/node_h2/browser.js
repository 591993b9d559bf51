// Opens WebSockets over HTTP/2 as a browser does: several on one connection, with other requests between them. Tells what
// came of it to whoever asks.
const http = require("node:http");
const http2 = require("node:http2");

const [port, authority, secure] = process.argv.slice(2);

function open(session, path, text) {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ":method": "CONNECT",
      ":protocol": "websocket",
      ":path": path,
      "sec-websocket-version": "13",
    });
    let received = "";
    stream.on("error", reject);
    stream.on("response", (headers) => {
      if (headers[":status"] !== 200) {
        stream.close();
        resolve(`${path} ${headers[":status"]}`);
        return;
      }
      stream.end(text);
    });
    stream.on("data", (part) => (received += part));
    stream.on("end", () => resolve(`${path} 200 ${received === text ? "echo" : received.length}`));
  });
}

function get(session, path) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":path": path });
    let received = "";
    stream.on("error", reject);
    stream.on("data", (part) => (received += part));
    stream.on("end", () => resolve(received.trim()));
  });
}

async function browse(origin) {
  const session = http2.connect(origin, { rejectUnauthorized: false });
  const settings = await new Promise((resolve, reject) => {
    session.once("remoteSettings", resolve);
    session.once("error", reject);
  });
  const seen = await Promise.all([
    open(session, "/ws/a", "hello"),
    open(session, "/ws/b", "x".repeat(300_000)),
    get(session, "/plain"),
    open(session, "/plain", "no tunnel"),
  ]);
  session.close();
  return [`CONNECT protocol ${settings.enableConnectProtocol}`, ...seen].join("\n") + "\n";
}

http
  .createServer((request, response) => {
    const origin = request.url === "/tls" ? `https://${secure}` : `http://${authority}`;
    browse(origin).then(
      (seen) => response.end(seen),
      (error) => response.writeHead(500).end(`${error}\n`),
    );
  })
  .listen(Number(port), "127.0.0.1");
