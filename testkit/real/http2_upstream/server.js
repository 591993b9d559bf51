// A server of HTTP/2 that takes five streams on a connection: server.js PORT [sound|frail] [CERTS]
const fs = require("node:fs");
const http2 = require("node:http2");

const [port, health, certs] = process.argv.slice(2);
const settings = { maxConcurrentStreams: 5 }, maxSessionMemory = 500;
const server = certs
  ? http2.createSecureServer({ settings, maxSessionMemory, key: fs.readFileSync(`${certs}/localhost.key`), cert: fs.readFileSync(`${certs}/localhost.crt`) })
  : http2.createServer({ settings, maxSessionMemory });

let opened = 0, aborted = 0;
const held = [];
const names = new Map(), sockets = new Map();
server.on("connection", (socket) => sockets.set(socket.remotePort, socket));
server.on("session", (session) => {
  names.set(session, ++opened);
  session.on("close", () => names.delete(session));
});

server.on("stream", async (stream, headers) => {
  stream.on("error", () => {});
  stream.on("aborted", () => aborted++);
  const { pathname, searchParams } = new URL(headers[":path"], "http://app");
  const answer = (text) => stream.destroyed || (stream.respond({ ":status": 200, "x-session": names.get(stream.session) }), stream.end(text));
  const number = Number(searchParams.get("n"));
  if (pathname === "/held") {
    held.push(() => answer(`held ${number}`));
    if (held.length === number) held.splice(0).forEach((go) => go());
  } else if (pathname === "/sessions") {
    answer(`${opened} opened, ${names.size} open, ${aborted} aborted`);
  } else if (pathname === "/bytes") {
    answer(Buffer.alloc(number, 97));
  } else if (pathname === "/upload") {
    let bytes = 0;
    for await (const part of stream) bytes += part.length;
    answer(`${bytes} bytes`);
  } else if (pathname === "/goaway") {
    // None above this one is taken any more; those below are served.
    stream.session.goaway(http2.constants.NGHTTP2_NO_ERROR, stream.id);
    setTimeout(() => answer("going away"), 50);
  } else if (health === "frail" && pathname === "/wait") {
    // It does, until the connection breaks.
  } else if (health === "frail" && pathname === "/break") {
    sockets.get(stream.session.socket.remotePort).destroy();
  } else if (pathname === "/refuse") {
    stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
  } else if (pathname === "/stall") {
    stream.respond({ ":status": 200 });
    stream.write("begun");
  } else {
    answer("hello");
  }
});
server.listen(Number(port), "127.0.0.1");
