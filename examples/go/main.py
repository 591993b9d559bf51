"""What main.go does, for machines without Go."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Instance(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        left = size = int(self.headers.get("Content-Length", 0))
        while left:
            part = self.rfile.read(min(left, 1 << 16))
            if not part:
                return
            left -= len(part)
        body = "ok\n" if self.path == "/healthz" else f"{self.path} from instance {sys.argv[1]}, {size} bytes\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Instance).serve_forever()
