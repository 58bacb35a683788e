"""An HTTP/2 connection under test: fake transport, scripted handler, and the client side of `h2` in memory."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection

from tests.connection_kit import FakeHost, FakeTransport, Script
from volumed.http.protocol.exchange import Exchange
from volumed.http.protocol.http2 import Http2Connection
from volumed.http.protocol.message import Response

__all__ = ["LARGE", "Http2Client", "Http2Script"]

LARGE = bytes(range(256)) * 2000
WINDOW = (1 << 31) - 1 - 65_535
"""What a connection's window can grow by at most."""


class Http2Script(Script):
    """Some more paths: a large answer, whole or in pieces, and one that breaks in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    async def answer(self, exchange: Exchange) -> None:
        self.seen.append(exchange)
        path = exchange.request.path
        exchange.request.on_sent = lambda: self.sent.append(path)
        if path == "/large":
            await exchange.send(Response(200, [(b"Connection", b"close"), (b"X-Kind", b" whole ")], LARGE))
        elif path == "/pieces":
            await exchange.send(Response(200, body=self._pieces(), content_length=len(LARGE)))
        elif path == "/broken":
            await exchange.send(Response(200, body=self._pieces(breaks=True), content_length=len(LARGE)))
        elif path == "/empty":
            await exchange.send(Response(304, body=None))
        else:
            await super().answer(exchange)

    async def _pieces(self, *, breaks: bool = False):  # type: ignore[no-untyped-def]
        for at in range(0, len(LARGE), 100_000):
            if breaks and at:
                raise OSError("the disk is gone")
            yield LARGE[at : at + 100_000]


class Http2Client:
    """The client's side. ``generous``: it takes all that comes."""

    def __init__(self, host: FakeHost | None = None, *, generous: bool = True) -> None:
        self.host = host or FakeHost()
        self.host.handler = Http2Script()
        self.transport = FakeTransport()
        self.connection = Http2Connection(self.host)
        self.connection.connection_made(self.transport)
        self.h2 = H2Connection(
            H2Configuration(client_side=True, header_encoding=None, validate_outbound_headers=False)
        )
        self.h2.initiate_connection()
        if generous:
            self.h2.increment_flow_control_window(WINDOW)
            self.h2.update_settings({4: (1 << 31) - 1})
        self.heads: dict[int, dict[bytes, bytes]] = {}
        self.interim: list[int] = []
        self.bodies: defaultdict[int, bytes] = defaultdict(bytes)
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goodbye: int | None = None
        self.exchange()

    def request(
        self, method: str, path: str, body: bytes = b"", *extra: tuple[str, str], last: bool = True, now: bool = True
    ) -> int:
        """Send a request; returns its stream."""
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "https"), (":authority", "a"), (":path", path), *extra]
        self.h2.send_headers(stream, fields, end_stream=last and not body)
        if body:
            self.send_body(stream, body, last=last)
        if now:
            self.exchange()
        return stream

    def send_body(self, stream: int, body: bytes, *, last: bool = False) -> int:
        """Send what the windows allow; returns how much that was."""
        sent = 0
        while sent < len(body):
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(body) - sent)
            if not room:
                break
            self.h2.send_data(stream, body[sent : sent + room], end_stream=last and sent + room == len(body))
            sent += room
            self.exchange()
        return sent

    def exchange(self) -> None:
        """Carry bytes in both directions until there are none."""
        while True:
            there, back = self.h2.data_to_send(), bytes(self.transport.sent)
            self.transport.sent.clear()
            if not there and not back:
                return
            if there:
                self.connection.data_received(there)
            if back:
                for event in self.h2.receive_data(back):
                    self._note(event)

    async def settle(self) -> None:
        """Let every task run as far as it can."""
        for _ in range(30):
            await asyncio.sleep(0)
            self.exchange()

    async def ask(self, method: str, path: str, body: bytes = b"", *extra: tuple[str, str]) -> int:
        """A request and its answer."""
        stream = self.request(method, path, body, *extra)
        await self.settle()
        return stream

    def status(self, stream: int) -> int:
        return int(self.heads[stream][b":status"])

    def _note(self, event: events.Event) -> None:
        match event:
            case events.ResponseReceived():
                self.heads[event.stream_id] = dict(event.headers)
            case events.InformationalResponseReceived():
                self.interim.append(event.stream_id)
            case events.DataReceived():
                self.bodies[event.stream_id] += event.data
            case events.StreamEnded():
                self.ended.add(event.stream_id)
            case events.StreamReset():
                self.resets[event.stream_id] = event.error_code
            case events.ConnectionTerminated():
                self.goodbye = event.error_code
