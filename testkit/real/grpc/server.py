"""A gRPC service without generated code: messages are bytes. server.py PORT [plain|tls|mutual] CERTS [without-health]"""
import sys
import threading
from concurrent import futures

import grpc

arrived, seen = threading.Condition(), {}
states = {"": 1, "test.Service": 1}
cancelled = threading.Semaphore(0)


def echo(request, context):
    seen = dict(context.invocation_metadata())
    context.send_initial_metadata([("x-out", seen.get("x-in", "none")), ("raw-bin", seen.get("raw-bin", b""))])
    peer = context.auth_context().get("x509_common_name", [b"nobody"])[0].decode()
    context.set_trailing_metadata([("x-real-ip", seen.get("x-real-ip", "none")), ("peer", peer), ("connection", context.peer()), ("end-bin", b"\x00\xff")])
    return request


def total(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def count(request, context):
    length, messages = map(int, request.split())
    for number in range(messages):
        yield bytes([number % 256]) * length


def chat(requests, context):
    for request in requests:
        yield b"you said " + request


def fail(request, context):
    context.set_trailing_metadata([("why", "asked")])
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: \u00e4 %")


def fail_late(request, context):
    yield b"first"
    context.abort(grpc.StatusCode.DATA_LOSS, "lost")


def held(request, context):
    """Answers once so many are here, or gives up."""
    with arrived:
        seen[request] = seen.get(request, 0) + 1
        arrived.notify_all()
        context.set_trailing_metadata([("connection", context.peer())])
        return b"all" if arrived.wait_for(lambda: seen[request] >= 20, timeout=5) else b"alone"


def health(request, context):
    """grpc.health.v1.Health/Check: HealthCheckRequest has a name, HealthCheckResponse a status."""
    service = request[2:].decode()
    if service not in states:
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return b"\x08" + bytes([states[service]])


def set_health(request, context):
    """SERVICE=NUMBER"""
    service, state = request.decode().split("=")
    states[service] = int(state)
    return b"set"


def slow(request, context):
    """Answers that it has begun, and then waits for the client to lose interest."""
    over = threading.Event()
    context.add_callback(lambda: (cancelled.release(), over.set()))
    yield str(context.time_remaining()).encode()
    over.wait(30)


def was_cancelled(request, context):
    return b"yes" if cancelled.acquire(timeout=5) else b"no"


def main():
    port, how, certs = sys.argv[1:4]
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=40),
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)],
    )
    one, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    methods = {
        "Echo": one(echo),
        "Total": grpc.stream_unary_rpc_method_handler(total),
        "Count": many(count),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Fail": one(fail),
        "FailLate": many(fail_late),
        "Slow": many(slow),
        "Port": one(lambda request, context: sys.argv[1].encode()),
        "SetHealth": one(set_health),
        "Held": one(held),
        "WasCancelled": one(was_cancelled),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Service", methods)])
    if sys.argv[4:] != ["without-health"]:
        checks = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": one(health)})
        server.add_generic_rpc_handlers([checks])
    address = f"127.0.0.1:{port}"
    if how == "plain":
        server.add_insecure_port(address)
    else:
        read = lambda name: open(f"{certs}/{name}", "rb").read()
        pair = (read("localhost.key"), read("localhost.crt"))
        is_mutual = how == "mutual"
        root = read("ca.crt") if is_mutual else None
        server.add_secure_port(address, grpc.ssl_server_credentials([pair], root, is_mutual))
    server.start()
    server.wait_for_termination()


main()
