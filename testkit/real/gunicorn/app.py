"""A small WSGI application: tells what it saw."""

import time


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/slow":
        time.sleep(3)
    if path == "/fails":
        raise RuntimeError("on purpose")
    if path == "/upload":
        size = 0
        while part := environ["wsgi.input"].read(65536):
            size += len(part)
        body = f"{size} bytes\n"
    elif path == "/headers":
        names = ["HOST", "X_REAL_IP", "X_FORWARDED_FOR", "X_FORWARDED_PROTO", "X_FORWARDED_PORT"]
        lines = [f"{name}: {environ.get('HTTP_' + name, 'none')}\n" for name in names]
        lines.append(f"request id: {len(environ.get('HTTP_X_REQUEST_ID', ''))} characters\n")
        body = "".join(lines)
    elif path == "/large":
        body = "x" * 1_000_000
    else:
        body = f"{environ['REQUEST_METHOD']} {path}?{environ['QUERY_STRING']} {environ['SERVER_PROTOCOL']}\n"
    data = body.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(data)))])
    return [data]
