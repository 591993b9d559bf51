// A WebSocket server of the "ws" package and a Socket.IO server, on one port.
const http = require("node:http");
const { WebSocketServer } = require("ws");
const { Server } = require("socket.io");

const server = http.createServer((request, response) => response.end("plain\n"));
const sockets = new WebSocketServer({ noServer: true, maxPayload: 16 << 20 });

sockets.on("connection", (socket, request) => {
  const from = { ip: request.headers["x-real-ip"], host: request.headers.host, scheme: request.headers["x-forwarded-proto"] };
  socket.send(JSON.stringify({ path: request.url, ...from }));
  socket.on("message", (data, isBinary) => {
    const text = isBinary ? "" : data.toString();
    if (text === "bye") socket.close(4000, "as you wish");
    else if (text === "vanish") socket.terminate();
    else socket.send(data, { binary: isBinary });
  });
});

server.on("upgrade", (request, socket, head) => {
  if (request.url.startsWith("/ws/none")) return socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnone");
  if (!request.url.startsWith("/ws/")) return;
  sockets.handleUpgrade(request, socket, head, (opened) => sockets.emit("connection", opened, request));
});

const io = new Server(server, { path: "/socket.io/" });
io.on("connection", (socket) => {
  socket.on("shout", (text, answer) => answer(text.toUpperCase(), socket.conn.transport.name));
  socket.on("everyone", (text) => io.emit("heard", text));
  socket.on("bytes", (bytes, answer) => answer(bytes));
});

server.listen(Number(process.argv[2]), "127.0.0.1");
