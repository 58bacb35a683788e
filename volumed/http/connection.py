"""One client connection: HTTP/1.0 and 1.1 requests in, answers out in order (http.md 1.1, 1.5).

Theory of operation
    Bytes go through the parser; each head makes an `Exchange`, which waits in line until those before it are answered.
    A request that has arrived whole may be answered on the spot (`Handler.answer_now`), all others get a task. A large
    body or one that the client holds back starts its task with the head and is fed while it arrives.

    Reading stops while too many requests wait in line or a body is not wanted yet; a handler that sends more than the
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
from volumed.errors import VolumedError
from volumed.http.body import NO_BODY, IncomingBody
from volumed.http.exchange import Exchange
from volumed.http.host import Host
from volumed.http.message import Headers, Request, Response
from volumed.http.outgoing import Outgoing
from volumed.http.protocol_rules import (
    BAD_REQUEST,
    TOO_LARGE,
    clean_line,
    decide_early,
    encode_refusal,
    is_usual_line,
    new_request,
)
from volumed.http.responses import empty_response

__all__ = ["HEAD_BYTES_MAX", "Connection"]

_log = logging.getLogger(__name__)

HEAD_BYTES_MAX = (1 << 20) + 4096
"""Request line and headers; more is answered 431."""
_STREAMED_BYTES_MIN = 128 << 10
"""From this length on a body is handled while it arrives."""
_WAITING_MAX = 64
"""Requests of one connection that wait in line before reading stops."""
_LINGER_S = 1.0

_NEWLINES = (b"\r", b"\n")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """The protocol object of one connection. ``public``: it came in on the read-only port."""

    __slots__ = (
        "_advancing",
        "_clock",
        "_closing",
        "_direct_left",
        "_head_bytes",
        "_headers",
        "_host",
        "_in_head",
        "_in_message",
        "_line",
        "_lingering_until",
        "_method",
        "_outgoing",
        "_parser",
        "_peer",
        "_queue",
        "_raw_headers",
        "_reading",
        "_receiving",
        "_target",
        "_transport",
        "public",
    )

    def __init__(self, host: Host, *, public: bool = False) -> None:
        self.public = public
        self._host = host
        self._clock = host.clock
        self._transport: asyncio.Transport
        self._outgoing: Outgoing
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Exchange] = deque()
        """Requests that are not answered yet, the one in progress first."""
        self._receiving: Exchange | None = None
        self._direct_left = 0
        """Bytes of a long body that go past the parser."""
        self._in_message = False
        self._in_head = False
        self._head_bytes = 0
        """Of a head that did not come in one segment."""
        self._line = b""
        """A request line whose end has not come yet."""
        self._method: str | None = None
        """What the parser was given a stand-in for."""
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._raw_headers: Headers = []
        self._peer = ("", 0)
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
        self._host.opened(self)

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
        first = self._queue[0] if self._queue else None
        if first is not None and first.body.length == 0 and first.request.room is not None:
            # COMPAT: a client that closes its sending side counts as gone, but is answered.
            first.request.room.set_result(False)
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
        if self._direct_left:
            data = self._feed_direct(data)
        if not self._in_message:
            data = self._take_line(data)
        if not data:
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(TOO_LARGE)
                return
        self._parse(data)

    # Parsing

    def _take_line(self, data: bytes) -> bytes:
        """Hold a request back until its first line is there, and make that line one that the parser takes.

        Only where a request starts a segment: what follows another in one segment must be plain.
        """
        data = (self._line + data).lstrip(b"\r\n") if self._line or data[:1] in _NEWLINES else data
        end = data.find(b"\n")
        if end < 0:
            self._line = data
            if len(data) > HEAD_BYTES_MAX:
                self._refuse(TOO_LARGE)
            return b""
        self._line = b""
        line = data[:end]
        if is_usual_line(line):
            return data
        line, self._method = clean_line(line)
        return line + data[end:]

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # COMPAT: offers to switch protocols are ignored.
            self._parser = httptools.HttpRequestParser(self)
            rest = data[upgrade.args[0] :]
            if rest and not self._closing:
                self.data_received(rest)
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
            self._parser = httptools.HttpRequestParser(self)
            self.on_message_complete()
        return data[len(piece) :]

    # Parser callbacks

    def on_message_begin(self) -> None:
        self._in_message = self._in_head = True
        self._head_bytes = 0
        self._target = b""
        self._headers = {}
        self._raw_headers = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            value = value.strip(b" \t")
            self._raw_headers.append((name, value))
            self._headers.setdefault(name.lower(), value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._closing:
            return
        parser = self._parser
        request = new_request(
            self._method or parser.get_method().decode(),
            self._target,
            self._headers,
            self._raw_headers,
            parser.get_http_version(),
            self._peer[0],
        )
        self._method = None
        exchange = Exchange(
            self,
            request,
            self._new_body(request),
            public=self.public,
            keep_alive=parser.should_keep_alive() and not self._host.stopping,
            server=self._host.server_name,
        )
        exchange.canned = canned = decide_early(request)
        if isinstance(canned, Response) and canned.status >= 400:
            exchange.keep_alive = False
        self._receiving = exchange
        self._queue.append(exchange)
        if not exchange.body.complete:
            self._expect_body(exchange)

    def on_body(self, data: bytes) -> None:
        if self._receiving is not None:
            self._receiving.body.feed(data)

    def on_message_complete(self) -> None:
        self._in_message = False
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
        self._update_reading()
        if not self._queue:
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
        exchange.streamed = body.length is not None and body.length >= _STREAMED_BYTES_MIN
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
            exchange.task = self._host.loop.create_task(self._run(exchange))

    async def _run(self, exchange: Exchange) -> None:
        """Have an exchange answered; whatever goes wrong, the client gets an answer or a closed connection."""
        try:
            await self._host.handler.answer(exchange)
        except ConnectionError:
            self.abort()
        except Exception as error:
            request = exchange.request
            # A failure with a name is a disk's or a peer's: where in the code it came up says nothing.
            trace = not isinstance(error, VolumedError)
            _log.error("%s %s %s: %s", request.request_id.decode(), request.method, request.path, error, exc_info=trace)
            if exchange.head_sent:
                self.abort()
            else:
                exchange.reply(empty_response(500))

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
        if self._host.stopping and self._receiving is None and not self._in_message:
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
        receiving = self._receiving
        full = len(self._queue) > _WAITING_MAX or (receiving is not None and receiving.body.is_full)
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
        if self._outgoing.unsent:
            self.abort()
        elif not self._queue and self._line:
            # COMPAT: half a request line is read as if it were whole.
            self._refuse(BAD_REQUEST)
        elif not self._queue:
            self._closing = True
            self._outgoing.close()
        elif self._receiving is not None and (self._receiving.body.is_awaited or not self._receiving.started):
            own = self._transport.get_extra_info("sockname") or ("", 0)
            ends = f"{join_host_port(*own[:2])}->{join_host_port(*self._peer[:2])}"
            self._fail_body(self._receiving, f"read tcp {ends}: i/o timeout")

    def close_if_idle(self) -> None:
        """The front stops: close now unless a request is in progress."""
        if not self._queue and not self._in_message:
            self._closing = True
            self._outgoing.close()
