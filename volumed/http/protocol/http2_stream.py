"""One request on an HTTP/2 connection and the answer to it (docs/spec/http.md 1.5, 1.6).

`Http2Exchange` is what handlers see; it hands heads and pieces to its `Http2Stream`, which keeps what the client does
not take yet. The connection (`volumed.http.protocol.http2`) decides when a stream may send.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from volumed.http.protocol.body import IncomingBody
from volumed.http.protocol.exchange import Exchange
from volumed.http.protocol.head import head_fields
from volumed.http.protocol.message import Headers, Request, Response

__all__ = ["Http2Exchange", "Http2Stream", "StreamOwner"]

_CONNECTION_FIELDS = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
"""What describes a connection of HTTP/1 has no place here."""


class StreamOwner(Protocol):
    """The connection as its streams need it."""

    def send_head(self, stream: Http2Stream, fields: Headers, *, last: bool) -> None: ...

    def has_data(self, stream: Http2Stream) -> None:
        """The stream has something to send, or its end."""
        ...

    def consumed(self, stream: Http2Stream, length: int) -> None:
        """The client may send that many more bytes."""
        ...

    def send_continue(self, stream: Http2Stream) -> None: ...

    def break_off(self, stream: Http2Stream) -> None:
        """Tell the client that the answer will not be completed."""
        ...

    def run_handler(self, stream: Http2Stream) -> None: ...


class Http2Stream:
    """Implements `volumed.http.protocol.exchange.Stream`."""

    __slots__ = (
        "_owner",
        "_pending",
        "_unconsumed",
        "_waiter",
        "active_at",
        "ending",
        "exchange",
        "gone",
        "stream_id",
    )

    def __init__(self, owner: StreamOwner, stream_id: int, now: float) -> None:
        self._owner = owner
        self.stream_id = stream_id
        self.exchange: Exchange
        self.active_at = now
        """When a byte of a body was last sent or received."""
        self.ending = False
        """Nothing follows what is pending."""
        self.gone = False
        """Nothing can be sent any more."""
        self._pending: deque[memoryview] = deque()
        self._unconsumed = 0
        self._waiter: asyncio.Future[None] | None = None

    # The body of the request

    def receive(self, data: bytes, length: int) -> None:
        """A piece of the body. ``length`` is what it costs of the windows."""
        self._unconsumed += length
        self.exchange.body.feed(data)
        self.update_credit()

    def update_credit(self) -> None:
        """Let the client send on as soon as the body can take more."""
        if self._unconsumed and not self.exchange.body.is_full:
            length, self._unconsumed = self._unconsumed, 0
            self._owner.consumed(self, length)

    def send_continue(self) -> None:
        if self.exchange.expects_continue and not self.exchange.head_sent and not self.gone:
            self._owner.send_continue(self)

    # The answer

    def send_head(self, fields: Headers, *, last: bool) -> None:
        if not self.gone:
            self._owner.send_head(self, fields, last=last)

    def write(self, data: bytes | memoryview) -> None:
        if not self.gone and data:
            self._pending.append(memoryview(data))
            self._owner.has_data(self)

    def write_all(self, parts: Sequence[bytes | memoryview]) -> None:
        for part in parts:
            self.write(part)

    def finished(self, _exchange: Exchange) -> None:
        self.ending = True
        self._owner.has_data(self)

    async def drained(self) -> None:
        if self._pending and not self.gone:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.gone:
            raise ConnectionResetError

    def abort(self) -> None:
        if not self.gone:
            self._owner.break_off(self)

    def run_handler(self, _exchange: Exchange) -> None:
        self._owner.run_handler(self)

    # The connection's side

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    def take(self, length: int) -> memoryview:
        """The next bytes to send, at most ``length``. Only when there are any."""
        piece = self._pending[0]
        if len(piece) > length:
            self._pending[0] = piece[length:]
            return piece[:length]
        self._pending.popleft()
        if not self._pending:
            self._wake()
        return piece

    def leave(self, *, complete: bool) -> Callable[[], None] | None:
        """The stream has ended. Returns what is to be called once the bytes sent are with the kernel; when the answer
        is not ``complete`` the handler is stopped."""
        self.gone = True
        self._pending.clear()
        self._wake()
        exchange = self.exchange
        on_sent, exchange.request.on_sent = exchange.request.on_sent, None
        if not exchange.body.complete:
            exchange.body.fail("unexpected EOF")
            exchange.body.drop()
        if not complete and exchange.task is not None:
            exchange.task.cancel()
        return on_sent

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Http2Exchange(Exchange):
    """An exchange whose heads are fields instead of lines and whose bodies need no framing."""

    __slots__ = ("_lane",)

    def __init__(
        self, stream: Http2Stream, request: Request, body: IncomingBody, *, public: bool, server: bytes
    ) -> None:
        super().__init__(stream, request, body, public=public, keep_alive=True, server=server)
        self._lane = stream
        stream.exchange = self

    def reply(self, response: Response) -> None:
        body = response.body
        assert body is None or isinstance(body, bytes | memoryview)
        whole = body if body is not None and self._has_body(response.status) else b""
        self._send_head(response, last=not whole)
        self._lane.ending = True
        self._lane.write(whole)

    def start(self, response: Response) -> None:
        self._send_head(response, last=False)

    async def write(self, piece: bytes | memoryview) -> None:
        if piece:
            self._lane.write(piece)
            await self._lane.drained()

    def end(self) -> None:
        self._lane.finished(self)

    def _send_head(self, response: Response, *, last: bool) -> None:
        self.note_head(response)
        self.head_sent = True
        fields = [(b":status", b"%d" % response.status)]
        for name, value in head_fields(response, self.request, int(time.time()), server=self._server):
            lowered = name.lower()
            if lowered not in _CONNECTION_FIELDS:
                fields.append((lowered, value.strip()))
        self._lane.send_head(fields, last=last)
