"""HTTP/2 clients that break the rules or wear the server out: the connection ends, at bounded cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from h2.errors import ErrorCodes

from tests.connection_kit import FakeHost, FakeTransport, run
from tests.http2_kit import Http2Client
from volumed.http.protocol.http2 import Http2Connection


def pings(client: Http2Client) -> None:
    client.h2.ping(b"12345678")


def settings(client: Http2Client) -> None:
    client.h2.update_settings({3: 100})


def resets(client: Http2Client) -> None:
    client.h2.reset_stream(client.request("GET", "/slow", now=False))


def empty_data(client: Http2Client) -> None:
    if client.h2.highest_outbound_stream_id == 0:
        client.request("PUT", "/slow", last=False)
    client.h2.send_data(client.h2.highest_outbound_stream_id, b"")


@pytest.mark.parametrize("flood", [pings, settings, resets, empty_data])
def test_floods_end_the_connection(flood: Callable[[Http2Client], None]) -> None:
    async def test() -> None:
        client = Http2Client()
        for _ in range(3000):
            flood(client)
            data = client.h2.data_to_send()
            client.connection.data_received(data)
            if client.transport.closed or client.transport.aborted:
                break
        client.exchange()
        assert client.goodbye == ErrorCodes.ENHANCE_YOUR_CALM
        assert client.transport.aborted
        await client.settle()

    run(test)


def test_the_same_over_a_longer_time_is_fine() -> None:
    async def test() -> None:
        client = Http2Client(FakeHost(idle_timeout_s=0))
        for number in range(3000):
            pings(client)
            client.exchange()
            if number % 500 == 0:
                client.connection.sweep(client.host.time)
        assert client.goodbye is None

    run(test)


def test_acknowledgements_that_nobody_reads_are_bounded() -> None:
    async def test() -> None:
        client = Http2Client()
        client.transport.stuck = 2 << 20
        pings(client)
        client.connection.data_received(client.h2.data_to_send())
        assert client.transport.aborted

    run(test)


@pytest.mark.parametrize(
    "field",
    [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("X-Upper", "x"),
        ("x-split", "a\r\nb: c"),
        ("content-length", "abc"),
        (":late", "x"),
    ],
)
def test_malformed_heads_are_protocol_errors(field: tuple[str, str]) -> None:
    async def test() -> None:
        client = Http2Client()
        client.h2.config.normalize_outbound_headers = False
        client.request("GET", "/x", b"", field)
        await client.settle()
        assert client.goodbye == ErrorCodes.PROTOCOL_ERROR
        assert client.transport.aborted
        assert not client.host.handler.seen

    run(test)


@pytest.mark.parametrize("length", ["-5", "+5", "1_0"])
def test_lengths_are_digits(length: str) -> None:
    async def test() -> None:
        client = Http2Client()
        stream = client.request("PUT", "/x", b"", ("content-length", length), last=False)
        await client.settle()
        assert client.goodbye == ErrorCodes.PROTOCOL_ERROR or client.resets == {stream: ErrorCodes.PROTOCOL_ERROR}
        assert not client.host.handler.seen

    run(test)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/a b"), ("GET", "/a HTTP/1.1"), ("GET", "/\x7f"), ("GET /", "/a"), ("G\u00e9T", "/a")]
)
def test_what_would_not_be_one_request_line_is_refused(method: str, path: str) -> None:
    async def test() -> None:
        client = Http2Client()
        stream = client.request(method, path)
        await client.settle()
        assert client.resets == {stream: ErrorCodes.PROTOCOL_ERROR}
        next_one = await client.ask("GET", "/a")
        assert client.status(next_one) == 200

    run(test)


def test_bodies_have_the_announced_length() -> None:
    async def test() -> None:
        client = Http2Client()
        client.request("PUT", "/slow", b"four", ("content-length", "5"))
        await client.settle()
        assert client.goodbye == ErrorCodes.PROTOCOL_ERROR
        assert client.transport.aborted

    run(test)


def test_heads_are_bounded() -> None:
    async def test() -> None:
        client = Http2Client()
        stream = await client.ask("GET", "/x", b"", *((f"x-{n}", "v" * 10_000) for n in range(12)))
        assert client.status(stream) == 200
        client.request("GET", "/x", b"", *((f"y-{n}", "v" * 10_000) for n in range(14)))
        assert client.transport.aborted
        assert len(client.host.handler.seen) == 1

    run(test)


def test_streams_at_a_time_are_bounded() -> None:
    async def test() -> None:
        client = Http2Client()
        for _ in range(250):
            client.request("GET", "/slow")
        await client.settle()
        assert client.goodbye is None
        client.h2.remote_settings.update({3: 1000})
        client.h2.remote_settings.acknowledge()
        client.request("GET", "/slow")
        await client.settle()
        assert client.transport.aborted
        assert len(client.host.handler.seen) == 250

    run(test)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100])
def test_what_is_not_http2(data: bytes) -> None:
    async def test() -> None:
        transport = FakeTransport()
        connection = Http2Connection(FakeHost())  # type: ignore[arg-type]
        connection.connection_made(transport)
        connection.data_received(data)
        connection.data_received(data)
        assert transport.aborted

    run(test)
