"""One client connection: HTTP/1.0 and 1.1 requests in, answers out in order (http.md 1.1, 1.5).

Theory of operation
    Bytes go through the parser; each head makes an `Exchange`, which waits in line until those before it are answered.
    A request that has arrived whole may be answered on the spot (`Handler.answer_now`), all others get a task. A large
    body or one that the client holds back starts its task with the head and is fed while it arrives.

    Reading stops while too much waits in line or a body is not wanted yet; a handler that sends more than the
    client takes waits in `drained`. When the client goes, its task is cancelled.

    One sweep of all connections each second replaces a timer per connection (`sweep`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

import httptools

from volumed.config.address import join_host_port
from volumed.http.protocol.answering import answer_exchange
from volumed.http.protocol.body import NO_BODY, IncomingBody
from volumed.http.protocol.exchange import Exchange
from volumed.http.protocol.host import Host
from volumed.http.protocol.message import Request, Response
from volumed.http.protocol.outgoing import Outgoing
from volumed.http.protocol.protocol_rules import BAD_REQUEST, TOO_LARGE, decide_early, encode_refusal
from volumed.http.protocol.request_reader import HeadTooLarge, RequestReader

__all__ = ["STREAMED_BYTES_MIN", "Connection"]

_log = logging.getLogger(__name__)

STREAMED_BYTES_MIN = 128 << 10
"""From this length on a body is handled while it arrives."""
_WAITING_MAX = 64
"""Requests of one connection that wait in line before reading stops."""
_AHEAD_BYTES_MAX = 1 << 20
"""Bytes that may come while requests wait in line before reading stops."""
_LINGER_S = 1.0

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """The protocol object of one connection. ``public``: it came in on the read-only port."""

    __slots__ = (
        "_advancing",
        "_ahead_bytes",
        "_clock",
        "_closing",
        "_direct_left",
        "_host",
        "_lingering_until",
        "_outgoing",
        "_peer",
        "_queue",
        "_reader",
        "_reading",
        "_receiving",
        "_transport",
        "public",
    )

    def __init__(self, host: Host, *, public: bool = False) -> None:
        self.public = public
        self._host = host
        self._clock = host.clock
        self._transport: asyncio.Transport
        self._outgoing: Outgoing
        self._reader = RequestReader(self._begin, self._take_body, self._end)
        self._queue: deque[Exchange] = deque()
        """Requests that are not answered yet, the one in progress first."""
        self._receiving: Exchange | None = None
        self._direct_left = 0
        """Bytes of a long body that go past the parser."""
        self._peer = ("", 0)
        self._ahead_bytes = 0
        self._reading = True
        self._advancing = False
        self._closing = False
        """No further request is taken."""
        self._lingering_until: float | None = None

    # Transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._outgoing = Outgoing(self._transport, self._clock)
        self._peer = transport.get_extra_info("peername") or self._peer
        self._reader.peer_ip = self._peer[0]
        self._host.opened(self)
        if self._host.stopping:
            # Its handshake had begun before: whoever closes idle connections has not seen it.
            self._host.loop.call_soon(self.close_if_idle)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._closing = True
        self._host.closed(self)
        self._outgoing.lose()
        for exchange in self._queue:
            exchange.body.fail("unexpected EOF")
            if exchange.task is not None:
                exchange.task.cancel()
            if exchange.request.on_sent is not None:
                exchange.request.on_sent()
                exchange.request.on_sent = None

    def eof_received(self) -> bool:
        self._closing = True
        self._end_waiting()
        if self._receiving is not None:
            self._fail_body(self._receiving, "unexpected EOF")
        # A client may close its sending side and still read the answers.
        return bool(self._queue) and self._lingering_until is None

    def pause_writing(self) -> None:
        self._outgoing.pause()

    def resume_writing(self) -> None:
        self._outgoing.resume()
        self._advance()
        self._update_reading()

    def data_received(self, data: bytes) -> None:
        self._outgoing.active_at = self._clock()
        if self._lingering_until is not None or (self._closing and self._receiving is None):
            return
        if len(self._queue) > 1:
            self._ahead_bytes += len(data)
        if self._direct_left:
            data = self._feed_direct(data)
        if data:
            self._read(data)

    # Receiving

    def _read(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except HeadTooLarge:
            self._refuse(TOO_LARGE)
        except httptools.HttpParserError:
            self._fail_parsing()
        else:
            receiving = self._receiving
            if receiving is None:
                return
            if receiving.streamed:
                self._direct_left = receiving.body.missing or 0
            if self._host.limits_uploads and not receiving.started:
                receiving.eager = True
                self._start_if_first(receiving)

    def _fail_parsing(self) -> None:
        """What comes is not HTTP; bytes behind the last request of a connection are none of our business."""
        if self._receiving is not None:
            self._fail_body(self._receiving, "invalid byte in chunk length")
        elif not self._closing:
            self._refuse(BAD_REQUEST)

    def _feed_direct(self, data: bytes) -> bytes:
        """Hand a segment of a long body over; returns what belongs to the next request."""
        assert self._receiving is not None
        piece = data[: self._direct_left]
        self._direct_left -= len(piece)
        self._receiving.body.feed(piece)
        if not self._direct_left:
            self._reader.skip_body()
        return data[len(piece) :]

    def _begin(self, request: Request, keep_alive: bool) -> None:
        """A head is complete."""
        if self._closing:
            return
        exchange = Exchange(
            self,
            request,
            self._new_body(request),
            public=self.public,
            keep_alive=keep_alive and not self._host.stopping,
            server=self._host.server_name,
        )
        exchange.canned = canned = decide_early(request)
        if canned is not None and isinstance(canned, Response) and canned.status >= 400:
            exchange.keep_alive = False
        self._receiving = exchange
        self._queue.append(exchange)
        if not exchange.body.complete:
            self._expect_body(exchange)

    def _take_body(self, data: bytes) -> None:
        if self._receiving is not None:
            self._receiving.body.feed(data)

    def _end(self) -> None:
        """A request is complete."""
        exchange = self._receiving
        if exchange is None:
            return
        self._receiving = None
        if not exchange.body.complete:
            exchange.body.finish()
        if not exchange.keep_alive:
            self._closing = True
        if not exchange.started:
            self._start_if_first(exchange)
        if self._queue:
            self._update_reading()
        else:
            self._settle()

    def _new_body(self, request: Request) -> IncomingBody:
        length = request.headers.get(b"content-length")
        if request.headers.get(b"transfer-encoding"):
            return IncomingBody(None, None, self._send_continue, self._update_reading)
        if length is None or not length.strip(b"0"):
            return NO_BODY
        return IncomingBody(int(length), self._host.pool, self._send_continue, self._update_reading)

    def _expect_body(self, exchange: Exchange) -> None:
        """Start early what may take long to arrive, or must be asked for."""
        body, request = exchange.body, exchange.request
        expectation = request.headers.get(b"expect", b"").lower()
        exchange.expects_continue = expectation == b"100-continue" and request.http_version == "1.1"
        exchange.streamed = body.length is not None and body.length >= STREAMED_BYTES_MIN
        if exchange.is_early or exchange.canned is not None:
            self._start_if_first(exchange)

    # Exchanges

    def _start_if_first(self, exchange: Exchange) -> None:
        """Start what is next in line, unless the client has yet to take the answers before it."""
        if self._queue and self._queue[0] is exchange and not self._outgoing.is_full:
            self._start(exchange)

    def _start(self, exchange: Exchange) -> None:
        exchange.started = True
        canned = exchange.canned
        if isinstance(canned, bytes):
            self._send_refusal(canned)
        elif canned is not None:
            exchange.reply(canned)
        elif not exchange.body.complete or not self._host.handler.answer_now(exchange):
            self.run_handler(exchange)

    def run_handler(self, exchange: Exchange) -> None:
        """Start the task that answers."""
        if not self._outgoing.lost:
            exchange.task = self._host.loop.create_task(answer_exchange(self._host.handler, exchange, self))

    def finished(self, exchange: Exchange) -> None:
        """The answer to ``exchange``, the first in line, was written."""
        self._queue.popleft()
        if self._outgoing.lost:
            return
        if exchange.request.on_sent is not None:
            self._outgoing.when_sent(exchange.request.on_sent)
        if not exchange.keep_alive:
            self._closing = True
            self._queue.clear()
        if self._receiving is exchange:
            exchange.body.drop()
        if not self._queue:
            self._settle()
        else:
            self._advance()
        self._update_reading()

    def _advance(self) -> None:
        """Start those in line that are ready, one after the other, without recursion."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._queue and not self._queue[0].started and not self._outgoing.is_full:
                exchange = self._queue[0]
                if not (exchange.body.has_ended or exchange.is_early or exchange.canned is not None):
                    break
                self._start(exchange)
        finally:
            self._advancing = False

    def _settle(self) -> None:
        """Nothing is in progress: close if this was the last request."""
        if self._host.stopping and self._receiving is None and not self._reader.in_message:
            self._closing = True
        if not self._closing or self._lingering_until is not None:
            return
        if self._receiving is None:
            self._outgoing.close()
        else:
            self._linger()

    def _linger(self) -> None:
        """Close the sending side and read on for a moment: closing with unread bytes would make the kernel reset the
        connection, and the client might lose the answer."""
        self._lingering_until = self._clock() + _LINGER_S
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _refuse(self, text: bytes) -> None:
        """Answer what is no request, after those before it, and close."""
        request = Request("GET", b"", b"", "")
        exchange = Exchange(self, request, NO_BODY, public=self.public, keep_alive=False, server=b"")
        exchange.canned = text
        self._closing = True
        self._queue.append(exchange)
        if self._queue[0] is exchange:
            self._start(exchange)

    def _send_refusal(self, text: bytes) -> None:
        self.write(encode_refusal(text))
        self._queue.clear()
        self._closing = True
        self._linger()

    def _fail_body(self, exchange: Exchange, text: str) -> None:
        """The rest of a body will not come; whoever handles the request answers that."""
        self._receiving = None
        self._closing = True
        self._direct_left = 0
        exchange.keep_alive = False
        exchange.body.fail(text)
        if not exchange.started:
            self._start_if_first(exchange)

    # Flow

    def write(self, data: bytes | memoryview) -> None:
        self._outgoing.write(data)

    def write_all(self, parts: Sequence[bytes | memoryview]) -> None:
        self._outgoing.write_all(parts)

    async def drained(self) -> None:
        await self._outgoing.drained()

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def _send_continue(self) -> None:
        first = self._queue[0] if self._queue else None
        if first is not None and first.expects_continue and not first.head_sent:
            self.write(_CONTINUE)

    def _update_reading(self) -> None:
        """Stop or resume reading."""
        if len(self._queue) <= 1:
            self._ahead_bytes = 0
        receiving = self._receiving
        full = (
            len(self._queue) > _WAITING_MAX
            or self._ahead_bytes > _AHEAD_BYTES_MAX
            or (receiving is not None and receiving.body.is_full)
        )
        if full is self._reading and not self._outgoing.lost:
            self._reading = not full
            if full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # Time

    def sweep(self, now: float) -> None:
        """Called about once a second: close what has been idle for too long."""
        if self._lingering_until is not None:
            if now >= self._lingering_until:
                self._outgoing.leave()
            return
        idle_s = self._outgoing.idle_s(now)
        timeout_s = self._host.idle_timeout_s
        if timeout_s <= 0 or idle_s < timeout_s:
            return
        if self._outgoing.holds_any:
            self.abort()
        elif not self._queue and self._reader.line:
            # COMPAT: half a request line is read as if it were whole.
            self._refuse(BAD_REQUEST)
        elif not self._queue:
            self._closing = True
            self._outgoing.close()
        elif self._receiving is not None and (self._receiving.body.is_awaited or not self._receiving.started):
            own = self._transport.get_extra_info("sockname") or ("", 0)
            ends = f"{join_host_port(*own[:2])}->{join_host_port(*self._peer[:2])}"
            self._fail_body(self._receiving, f"read tcp {ends}: i/o timeout")
        else:
            self._end_waiting()

    def _end_waiting(self) -> None:
        """COMPAT: a client that waits for room to read counts as gone when it has closed its sending side or was idle
        for too long, but is answered."""
        first = self._queue[0] if self._queue else None
        room = None if first is None or first.body.length != 0 else first.request.room
        if room is not None and not room.done():
            room.set_result(False)

    def close_if_idle(self) -> None:
        """The front stops: close now unless a request is in progress."""
        if not self._queue and not self._reader.in_message:
            self._closing = True
            self._outgoing.close()
