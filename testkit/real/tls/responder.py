"""An OCSP responder on a loopback address: OpenSSL's own would listen on all. responder.py PORT CERTS"""
import base64
import http.server
import subprocess
import sys
import tempfile
import urllib.parse

port, certs = int(sys.argv[1]), sys.argv[2]
# OpenSSL's list of certificates: only what is named here is known to be good.
index = tempfile.NamedTemporaryFile("w", suffix=".txt")
index.write("V\t21261101235337Z\t\t1001\tunknown\t/CN=localhost\n")
index.flush()


class Responder(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        request = base64.b64decode(urllib.parse.unquote(self.path[1:]))
        with tempfile.NamedTemporaryFile() as asked, tempfile.NamedTemporaryFile() as answer:
            asked.write(request)
            asked.flush()
            ca = f"{certs}/ca.crt"
            signer = ["-rsigner", ca, "-rkey", f"{certs}/ca.key", "-CA", ca, "-ndays", "1"]
            command = ["openssl", "ocsp", "-index", index.name, *signer, "-reqin", asked.name, "-respout", answer.name]
            subprocess.run(command, check=True)
            body = answer.read()
        self.send_response(200)
        self.send_header("Content-Type", "application/ocsp-response")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("127.0.0.1", port), Responder).serve_forever()
