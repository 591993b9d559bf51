// What the page asks for. "/done" is answered once the page has reported: the browser waits for it.
const fs = require("node:fs");
const http = require("node:http");
const { WebSocketServer } = require("ws");

const files = { "/": "page.html" };
let report, sawEnd;
const reported = new Promise((resolve) => (report = resolve));
const ended = new Promise((resolve) => (sawEnd = resolve));

const server = http.createServer(async (request, response) => {
  const path = request.url;
  if (files[path]) {
    response.setHeader("Content-Type", "text/html");
    response.end(fs.readFileSync(files[path]));
  } else if (path.startsWith("/item/")) {
    response.end(`item ${path.slice(6)}`);
  } else if (path === "/json") {
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify(Array(5000).fill("the same")));
  } else if (path === "/upload") {
    let bytes = 0;
    for await (const part of request) bytes += part.length;
    response.end(`${bytes} bytes by ${request.headers["x-protocol"]}`);
  } else if (path === "/from") {
    response.writeHead(302, { Location: "/item/7" }).end();
  } else if (path === "/endless") {
    response.on("close", sawEnd);
    response.write("beginning");
  } else if (path === "/cancelled") {
    await ended;
    response.end("seen by the application");
  } else if (path === "/events") {
    response.setHeader("Content-Type", "text/event-stream");
    for (let n = 1; n <= 3; n++) setTimeout(() => response.write(`data: event ${n}\n\n`), 30 * n);
  } else if (path === "/report") {
    report();
    response.end();
  } else if (path === "/done") {
    await Promise.race([reported, new Promise((resolve) => setTimeout(resolve, 20_000))]);
    response.end();
  } else {
    response.writeHead(404).end();
  }
});

const sockets = new WebSocketServer({ server, path: "/ws/chat" });
sockets.on("connection", (socket, request) => {
  socket.send(request.headers["x-protocol"]);
  socket.on("message", (data) => socket.send(`you said ${data}`));
});
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), "127.0.0.1");
