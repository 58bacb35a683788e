"""What should never arrive: each case gets the reference's answer, and afterwards the node serves as before."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import grpc
import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.processes import HOST
from tests.web import BOUNDARY, get, multipart, request, upload
from volumed.wire import volume_server_pb2, volume_server_pb2_grpc

pytestmark = pytest.mark.interop

ANSWER_TIMEOUT_S = 30.0
LIMIT = 1 << 20
"""``-fileSizeLimitMB=1``"""
FID = "1,0311111111"
GOOD = "/1,0122222222"
FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
PROJECT = "project"
"""The reference is not asked: it crashes, or has a limit or a leniency of its own."""
STATUS = "status"
"""The reference has a longer text."""


class Case(NamedTuple):
    """Bytes that are sent, and the status that must come back; 0: the connection ends without an answer."""

    name: str
    sent: bytes
    status: int
    rule: str = ""
    half_close: bool = False


class Answer(NamedTuple):
    status: int
    content_type: str | None
    body: bytes


def raw(method: str, path: str, *headers: str, body: bytes = b"", length: int | None = None) -> bytes:
    """A request as it stands on the wire; ``length`` defaults to the body's."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
    if method in ("PUT", "POST") and not any("Length" in line or "Transfer" in line for line in headers):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def put(path: str, *headers: str, body: bytes = b"x", length: int | None = None) -> bytes:
    return raw("PUT", path, *headers, body=body, length=length)


def post(body: bytes, *headers: str, length: int | None = None) -> bytes:
    return raw("POST", f"/{FID}?ts=1", *headers, body=body, length=length)


FORM_BODY = multipart(b"content of the file", filename="f.bin")[0]
BIG_FORM = multipart(bytes(LIMIT + 1), filename="f.bin")[0]
CHUNKED = "Transfer-Encoding: chunked"

CASES = [
    # paths and ids
    Case("root", raw("GET", "/"), 400), Case("word", raw("GET", "/abc"), 400),
    Case("key not hex", raw("GET", "/1,zz11111111"), 400), Case("key too short", raw("GET", "/1,0111"), 400),
    Case("key too long", raw("GET", "/1," + "1" * 26), 400), Case("signed volume", raw("GET", "/-1,0111111111"), 400),
    Case("huge volume", raw("GET", "/99999999999999999999,0111111111"), 400),
    Case("bad delta", raw("GET", "/1,0111111111_x"), 400), Case("NUL", raw("GET", "/1,01%001111111"), 400),
    Case("not UTF-8", raw("GET", "/1,%ff%fe11111111"), 400), Case("bad escape", raw("GET", "/%zz"), 400),
    Case("five segments", raw("GET", "/a/b/c/1,0111111111"), 400, PROJECT),
    Case("long path", raw("GET", "/1," + "a" * 100_000), 400), Case("unknown volume", raw("GET", "/77,0111111111"),
    404),
    Case("bad query", raw("GET", "/1,0133333333?a=%zz;b"), 404), Case("put word", put("/abc"), 400),
    Case("put signed volume", put("/+1,0111111111"), 400), Case("put short", put("/1,0111"), 400),
    Case("put two slashes", put("/1/0111111111"), 400), Case("put key not hex", put("/1,zz11111111"), 400),
    Case("put cookie not hex", put("/1,01zzzzzzzz"), 400), Case("put bad delta", put("/1,0111111111_x"), 400),
    Case("put overflow", put("/1,ffffffffffffffff11111111_1"), 400), Case("put bad query", put(f"/{FID}?ttl=%zz"),
    400),
    Case("delete short", raw("DELETE", "/1,0111"), 400), Case("delete word", raw("DELETE", "/abc"), 400),
    Case("method", raw("PATCH", f"/{FID}"), 400), Case("method of symbols", raw("G!T", f"/{FID}"), 400),
    # lengths
    Case("length no number", put(f"/{FID}", "Content-Length: abc"), 400),
    Case("negative", put(f"/{FID}", "Content-Length: -1"), 400),
    Case("two lengths", put(f"/{FID}", "Content-Length: 1", "Content-Length: 2"), 400),
    Case("chunk size", put(f"/{FID}", CHUNKED, body=b"zz\r\nab\r\n0\r\n\r\n"), 400),
    Case("chunk cut short", put(f"/{FID}", CHUNKED, body=b"5\r\nab"), 400, half_close=True),
    Case("transfer encoding", put(f"/{FID}", "Transfer-Encoding: gzip"), 501),
    Case("encoded, then chunked", put(f"/{FID}", "Transfer-Encoding: gzip, chunked", body=b"1\r\na\r\n0\r\n\r\n"),
    501),
    Case("length and chunks", put(f"/{FID}", CHUNKED, "Content-Length: 3", body=b"1\r\na\r\n0\r\n\r\n"),
    400, PROJECT),
    Case("raw body cut short", put(f"/{FID}", body=b"abc", length=10), 400, half_close=True),
    # forms
    Case("post without type", post(b"abc"), 400),
    Case("post without boundary", post(b"abc", "Content-Type: multipart/form-data"), 400),
    Case("post with a bad type", post(b"abc", "Content-Type: a/b/c"), 400),
    Case("form of garbage", post(b"\0\1\2garbage", FORM), 400),
    Case("empty form", post(b"", FORM), 400),
    Case("form cut short", post(FORM_BODY[:-30], FORM, length=len(FORM_BODY)), 400, half_close=True),
    Case("form cut in its head", post(FORM_BODY[:60], FORM, length=len(FORM_BODY)), 400, half_close=True),
    Case("length of the form too small", post(FORM_BODY, FORM, length=len(FORM_BODY) - 30), 400),
    Case("bad part header", post(f"--{BOUNDARY}\r\nno colon\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode(), FORM), 400),
    Case("wrong MD5", put(f"/{FID}", "Content-MD5: AAAA"), 400),
    # sizes
    Case("over the limit", put(f"/{FID}", body=bytes(LIMIT + 1)), 400),
    Case("form over the limit", post(BIG_FORM, FORM), 400),
    Case("chunked over the limit", put(f"/{FID}", CHUNKED, body=b"100001\r\n" + bytes(LIMIT + 1) + b"\r\n0\r\n\r\n"),
    400),
    Case("broken gzip", put(f"/{FID}", "Content-Encoding: gzip", body=b"\x1f\x8b\x08garbage"), 201),
    # protocol
    Case("no protocol", b"GET /\r\n\r\n", 400), Case("old protocol", b"GET / HTTP/0.9\r\n\r\n", 400, PROJECT),
    Case("future protocol", b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 400, PROJECT),
    Case("HTTP/2 without TLS", b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    Case("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
    Case("two hosts", raw("GET", GOOD, "Host: y"), 400), Case("header without colon", raw("GET", GOOD, "nonsense"),
    400),
    Case("blank in a name", raw("GET", GOOD, "a b: c"), 400, STATUS),
    Case("NUL in a value", raw("GET", GOOD, "a: b\0c"), 400),
    Case("TLS hello", bytes.fromhex("16030100c8010000c40303") + bytes(200), 0, PROJECT, half_close=True),
    Case("line of noise", b"\x80\x81 \xff\r\n\r\n", 400),
    Case("headers of 60 KB", raw("GET", GOOD, *[f"h{n}: {'v' * 60}" for n in range(800)]), 200, PROJECT),
    Case("header of 2 MB", raw("GET", "/", "big: " + "v" * (2 << 20)), 431),
    Case("endless header line", b"GET / HTTP/1.1\r\nHost: x\r\nbig: " + b"v" * (2 << 20), 431, half_close=True),
    Case("bad range", raw("GET", GOOD, "Range: bytes=z-"), 416),
    Case("range behind the end", raw("GET", GOOD, "Range: bytes=99-"), 416),
    Case("thousand ranges", raw("GET", GOOD, "Range: bytes=" + ",".join(["0-0"] * 1000)), 200),
]  # fmt: skip


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, VolumeServer]]:
    """Both kinds, with a volume and an object."""
    home = tmp_path_factory.mktemp("bad-input")
    with ExitStack() as stack:
        started: dict[str, VolumeServer] = {}
        for kind in (WeedVolume, Volumed):
            master = stack.enter_context(Master(home / f"m {kind.name}"))
            node = kind(home / kind.name, master=master, flags=["-fileSizeLimitMB=1"])
            started[kind.name] = stack.enter_context(node)
            with grpc.insecure_channel(node.grpc_address) as channel:
                stub = volume_server_pb2_grpc.VolumeServerStub(channel)
                stub.AllocateVolume(volume_server_pb2.AllocateVolumeRequest(volume_id=1, version=3), timeout=20)
            assert upload(node.address, GOOD[1:], b"good").status == 201
        yield started


def exchange(port: int, case: Case) -> Answer:
    """Send the bytes and read one answer; status 0 when none comes before the connection ends."""
    with socket.create_connection((HOST, port), timeout=ANSWER_TIMEOUT_S) as connection:
        sender = threading.Thread(target=send, args=(connection, case), daemon=True)
        sender.start()  # beside the reading: an early answer would be lost when the connection is reset
        answer = http.client.HTTPResponse(connection, method=case.sent.split(b" ")[0].decode("latin-1"))
        body = bytearray()
        try:
            answer.begin()
        except (http.client.BadStatusLine, ConnectionError):
            return Answer(0, None, b"")
        with contextlib.suppress(ConnectionError):  # reset behind the answer, since not all was read
            while piece := answer.read1():
                body += piece
        return Answer(answer.status, answer.headers["Content-Type"], bytes(body))


def send(connection: socket.socket, case: Case) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(case.sent)
        if case.half_close:
            connection.shutdown(socket.SHUT_WR)


def assert_serves(node: VolumeServer) -> None:
    assert get(node.address, GOOD).body == b"good"
    assert upload(node.address, "1,0433333333", b"still writable").status in (201, 204)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answer_of_both(nodes: dict[str, VolumeServer], case: Case) -> None:
    answer = exchange(nodes["volumed"].port, case)
    assert_serves(nodes["volumed"])
    assert answer.status == case.status, answer
    if case.rule == STATUS:
        assert exchange(nodes["weed volume"].port, case).status == case.status
    elif case.rule != PROJECT:
        expected = exchange(nodes["weed volume"].port, case)
        own = [nodes[name].address.encode() for name in ("volumed", "weed volume")]
        assert answer._replace(body=answer.body.replace(own[0], own[1])) == expected


def test_the_limit_itself_is_allowed(nodes: dict[str, VolumeServer]) -> None:
    for node in nodes.values():
        assert upload(node.address, "1,0533333333", bytes(LIMIT)).status == 201
        body, headers = multipart(bytes(LIMIT), filename="f.bin")
        assert request("POST", node.address, "/1,0633333333", body=body, headers=headers).status == 201


@pytest.mark.parametrize("port", ["port", "grpc_port"])
def test_noise(nodes: dict[str, VolumeServer], port: str) -> None:
    """Random bytes of all lengths, half of them without an end."""
    node, choice = nodes["volumed"], random.Random(7)
    for _ in range(60):
        sent = choice.randbytes(choice.choice([1, 10, 100, 5000, 100_000]))
        where = (HOST, getattr(node, port))
        with socket.create_connection(where, ANSWER_TIMEOUT_S) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            if choice.random() < 0.5:
                with contextlib.suppress(OSError):  # closed already
                    connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass
    assert_serves(node)
    assert_grpc_serves(node)


def test_http_on_the_grpc_port(nodes: dict[str, VolumeServer]) -> None:
    node = nodes["volumed"]
    with socket.create_connection((HOST, node.grpc_port), timeout=ANSWER_TIMEOUT_S) as connection:
        connection.sendall(raw("GET", "/status"))
        with contextlib.suppress(ConnectionError):
            while connection.recv(1 << 16):
                pass
    assert_grpc_serves(node)


def test_waiting_connections_delay_nobody(nodes: dict[str, VolumeServer]) -> None:
    """Many clients that stop in the middle of a head or a body."""
    node = nodes["volumed"]
    with ExitStack() as stack:
        for number in range(200):
            connection = stack.enter_context(socket.create_connection((HOST, node.port)))
            connection.sendall([b"GET /1,01", put(f"/{FID}", body=b"abc", length=1000), b""][number % 3])
        for _ in range(20):
            assert_serves(node)


@pytest.mark.parametrize("sent", [b"\xff" * 20, b"\x0a\xff\xff\xff\xff\x0f"], ids=["no tag", "length over the end"])
def test_a_message_that_is_no_protobuf(nodes: dict[str, VolumeServer], sent: bytes) -> None:
    codes = {}
    for name, node in nodes.items():
        with grpc.insecure_channel(node.grpc_address) as channel:
            call = channel.unary_unary("/volume_server_pb.VolumeServer/VolumeStatus")
            with pytest.raises(grpc.RpcError) as raised:
                call(sent, timeout=ANSWER_TIMEOUT_S)
            codes[name] = raised.value.code()
    assert codes["volumed"] == codes["weed volume"]
    assert_grpc_serves(nodes["volumed"])


def test_unknown_methods(nodes: dict[str, VolumeServer]) -> None:
    for node in nodes.values():
        with grpc.insecure_channel(node.grpc_address) as channel:
            for path in ("/volume_server_pb.VolumeServer/Nope", "/nope.Nope/Nope"):
                with pytest.raises(grpc.RpcError) as raised:
                    channel.unary_unary(path)(b"", timeout=ANSWER_TIMEOUT_S)
                assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def assert_grpc_serves(node: VolumeServer) -> None:
    with grpc.insecure_channel(node.grpc_address) as channel:
        stub = volume_server_pb2_grpc.VolumeServerStub(channel)
        status = stub.VolumeStatus(volume_server_pb2.VolumeStatusRequest(volume_id=1), timeout=ANSWER_TIMEOUT_S)
    assert not status.is_read_only
