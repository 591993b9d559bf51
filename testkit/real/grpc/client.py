"""Calls every method of server.py through the proxy. client.py ADDRESS [plain|shared|tls|mutual|down|refused] CERTS"""
import sys
import threading
import time

import grpc

address, how, certs = sys.argv[1:4]


def channel():
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.max_receive_message_length", -1)]
    if how in ("plain", "shared", "down"):
        return grpc.insecure_channel(address, options)
    read = lambda name: open(f"{certs}/{name}", "rb").read()
    own = (read("client.key"), read("client.crt")) if how == "mutual" else (None, None)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(read("ca.crt"), *own), options)


def name(method):
    return f"/test.Service/{method}"


def failure(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


def metadata(pairs):
    return {key: value for key, value in pairs}


def unary(channel):
    sent = [("x-in", "hello"), ("raw-bin", bytes(range(256)))]
    answer, call = channel.unary_unary(name("Echo")).with_call(b"message", metadata=sent, timeout=10)
    assert answer == b"message", answer
    first, last = metadata(call.initial_metadata()), metadata(call.trailing_metadata())
    assert first["x-out"] == "hello" and first["raw-bin"] == bytes(range(256)), first
    assert last["x-real-ip"] == "127.0.0.1" and last["end-bin"] == b"\x00\xff", last
    assert last["peer"] == ("client" if how == "mutual" else "nobody"), last
    assert call.code() == grpc.StatusCode.OK


def large(channel):
    message = bytes(3_000_000)
    assert channel.unary_unary(name("Echo"))(message, timeout=20) == message
    assert channel.unary_unary(name("Echo"))(b"", timeout=10) == b""


def client_stream(channel):
    pieces = (b"x" * size for size in (1, 10, 100, 100_000, 0, 1000))
    assert channel.stream_unary(name("Total"))(pieces, timeout=10) == b"101111"


def server_stream(channel):
    messages = list(channel.unary_stream(name("Count"))(b"1000 500", timeout=20))
    assert [m[:1] + bytes([len(m) // 1000]) for m in messages] == [bytes([n % 256, 1]) for n in range(500)]


def slow_reader(channel):
    """10 MB that nobody reads for a while: the server is held back, and nothing is lost."""
    call = channel.unary_stream(name("Count"))(b"100000 100", timeout=20)
    first = next(call)
    time.sleep(0.2)
    assert len(first) + sum(map(len, call)) == 10_000_000


def both_streams(channel):
    """Each message is sent when the answer to the one before has come."""
    wake = threading.Semaphore(1)

    def messages():
        for number in range(20):
            assert wake.acquire(timeout=5)
            yield f"message {number}".encode()

    seen = []
    for answer in channel.stream_stream(name("Chat"))(messages(), timeout=20):
        seen.append(answer)
        wake.release()
    assert seen == [f"you said message {number}".encode() for number in range(20)], seen


def errors(channel):
    error = failure(lambda: channel.unary_unary(name("Fail"))(b"", timeout=10))
    assert error.code() == grpc.StatusCode.NOT_FOUND and error.details() == "no such thing: \u00e4 %", error
    assert metadata(error.trailing_metadata())["why"] == "asked"
    seen = []
    error = failure(lambda: seen.extend(channel.unary_stream(name("FailLate"))(b"", timeout=10)))
    assert error.code() == grpc.StatusCode.DATA_LOSS, error
    error = failure(lambda: channel.unary_unary(name("None"))(b"", timeout=10))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


def told_of_its_end(channel):
    assert channel.unary_unary(name("WasCancelled"))(b"", timeout=10) == b"yes"


def deadline(channel):
    started = time.monotonic()
    call = channel.unary_stream(name("Slow"))(b"", timeout=0.5)
    assert 0.1 < float(next(call)) < 0.7
    error = failure(lambda: next(call))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert time.monotonic() - started < 2
    told_of_its_end(channel)


def cancellation(channel):
    call = channel.unary_stream(name("Slow"))(b"", timeout=20)
    next(call)
    started = time.monotonic()
    call.cancel()
    told_of_its_end(channel)
    assert time.monotonic() - started < 1, "the server learned late that nobody waits any more"


def many_at_once(channel):
    echo = channel.unary_unary(name("Echo"))
    calls = [echo.future(b"%d" % number, timeout=20) for number in range(200)]
    assert [call.result() for call in calls] == [b"%d" % number for number in range(200)]


def one_connection(channel):
    """20 calls that are answered together, and one that is cancelled among them: one connection to the backend."""
    slow = channel.unary_stream(name("Slow"))(b"", timeout=20)
    next(slow)
    calls = [channel.unary_unary(name("Held")).future(b"held", timeout=20) for _ in range(19)]
    slow.cancel()
    told_of_its_end(channel)
    calls.append(channel.unary_unary(name("Held")).future(b"held", timeout=20))
    assert [call.result() for call in calls] == [b"all"] * 20
    connections = {metadata(call.trailing_metadata())["connection"] for call in calls}
    assert len(connections) == 1, connections


def backend_is_down(channel):
    error = failure(lambda: channel.unary_unary(name("Echo"))(b"", timeout=10))
    print(error.code().name, error.details())


def refused(channel):
    """A client without a certificate, where one is asked for."""
    error = failure(lambda: channel.unary_unary(name("Echo"))(b"", timeout=10))
    assert error.code() != grpc.StatusCode.OK
    print("refused")


ALL = [unary, large, client_stream, server_stream, slow_reader, both_streams, errors, deadline, cancellation, many_at_once]
calls = {"shared": [*ALL, one_connection], "down": [backend_is_down], "refused": [refused]}.get(how, ALL)
with channel() as opened:
    for call in calls:
        try:
            call(opened)
        except Exception:
            print("failed", call.__name__, file=sys.stderr)
            raise
print(len(calls), "passed")
