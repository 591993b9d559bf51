// Says what it got, and sends what it is asked for.
const http = require("node:http");
const server = http.createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://app");
  if (pathname === "/bytes") return response.end(Buffer.alloc(Number(searchParams.get("n")), 97));
  let bytes = 0;
  request.on("data", (part) => (bytes += part.length));
  request.on("end", () => response.end(`${request.method} ${request.url} ${bytes} bytes\n`));
});
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), "127.0.0.1");
