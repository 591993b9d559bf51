// A small application: tells what it saw, in the ways that applications answer.
const http = require("node:http");

let requests = 0;
const server = http.createServer((request, response) => {
  requests += 1;
  const path = new URL(request.url, "http://app").pathname;
  if (path === "/slow") {
    setTimeout(() => response.end("late\n"), 3000);
  } else if (path === "/stream") {
    response.write("one\n");
    setTimeout(() => response.end("two\n"), 20);
  } else if (path === "/crash") {
    request.socket.destroy();
  } else if (path === "/upload") {
    let bytes = 0;
    request.on("data", (part) => (bytes += part.length));
    request.on("end", () => response.end(`${bytes} bytes\n`));
  } else if (path === "/connection") {
    request.socket.served = (request.socket.served ?? 0) + 1;
    response.end(`request ${request.socket.served} of this connection, HTTP/${request.httpVersion}\n`);
  } else if (path === "/headers") {
    response.setHeader("X-Powered-By", "Node");
    response.setHeader("X-Custom-Header", "kept");
    const names = ["host", "x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "connection"];
    response.end(names.map((name) => `${name}: ${request.headers[name] ?? "none"}\n`).join(""));
  } else {
    response.end(`${request.method} ${request.url}\n`);
  }
});

server.on("upgrade", (request, socket) => {
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: ${request.headers.upgrade}\r\nConnection: Upgrade\r\n\r\n`,
  );
  socket.pipe(socket);
});

server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), "127.0.0.1");
