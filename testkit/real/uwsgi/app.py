"""A small WSGI application behind uWSGI: tells what it saw."""


def application(environ, start_response):
    path = environ["PATH_INFO"]
    headers = [("Content-Type", "text/plain")]
    if path.endswith("/upload"):
        size = 0
        while part := environ["wsgi.input"].read(65536):
            size += len(part)
        body = f"{size} bytes\n"
    elif path == "/missing":
        start_response("404 Not Here", headers)
        return [b"gone\n"]
    elif path == "/stream":
        start_response("200 OK", headers)
        return (b"x" * 1000 for _ in range(1000))
    else:
        body = f"{environ['REQUEST_METHOD']} {path}?{environ['QUERY_STRING']} {environ.get('HTTP_X_A', 'none')}\n"
    data = body.encode()
    start_response("200 OK", headers + [("Content-Length", str(len(data)))])
    return [data]
