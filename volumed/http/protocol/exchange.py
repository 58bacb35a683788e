"""One request on a connection and the answer to it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Protocol

from volumed.http.protocol.body import IncomingBody
from volumed.http.protocol.head import encode_head
from volumed.http.protocol.message import Request, Response

__all__ = ["Exchange", "Stream"]

_JOINED_BYTES_MAX = 64 << 10
"""Up to this size copying head and body into one buffer is cheaper than a second one."""
_BODILESS = frozenset({204, 304})
_LEFT_UNREAD_MAX = 256 << 10
"""A longer rest of a request body is not read for the sake of the connection."""


class Stream(Protocol):
    """The connection, or one stream of it, as an exchange needs it.

    Beside these methods it owes the handlers of a request: `Request.on_sent` is called once, when the answer's last
    byte is with the kernel or the client is gone; a task in progress is cancelled when the client is gone, and
    `Request.room` is set to False when it is half gone; with `Host.limits_uploads` an upload starts with its head.
    """

    def write(self, data: bytes | memoryview) -> None: ...

    def write_all(self, parts: Sequence[bytes | memoryview]) -> None: ...

    async def drained(self) -> None:
        """Wait until the client has taken nearly everything; raises `ConnectionError` when it is gone."""
        ...

    def abort(self) -> None: ...

    def finished(self, exchange: Exchange) -> None:
        """The answer was written; it need not have been sent."""
        ...

    def run_handler(self, exchange: Exchange) -> None: ...


class Exchange:
    """What a handler answers through: `reply_raw`, `reply`, or `send`, once."""

    __slots__ = (
        "_chunked",
        "_server",
        "_stream",
        "body",
        "canned",
        "eager",
        "expects_continue",
        "head_sent",
        "identified",
        "keep_alive",
        "public",
        "request",
        "started",
        "status",
        "streamed",
        "task",
    )

    def __init__(
        self, stream: Stream, request: Request, body: IncomingBody, *, public: bool, keep_alive: bool, server: bytes
    ) -> None:
        self._stream = stream
        self._server = server
        self._chunked = False
        self.request = request
        self.body = body
        self.public = public
        self.keep_alive = keep_alive
        self.expects_continue = False
        self.head_sent = False
        self.identified = True
        """Whether a page answers with `Server` and request id."""
        self.started = False
        self.status = 0
        """Of the answer; 0 until its head is decided."""
        self.eager = False
        """The handler is to know of the request before its body has come."""
        self.streamed = False
        """The body is long: it is handled while it arrives."""
        self.canned: Response | bytes | None = None
        """An answer that was decided before any handler."""
        self.task: asyncio.Task[None] | None = None

    @property
    def is_early(self) -> bool:
        """Whether the handler is to start before the body has come."""
        before = self.streamed or self.eager or self.expects_continue
        return before or (self.body.length is None and not self.body.complete)

    # For answers that are complete

    def reply_raw(self, head: bytes, body: bytes | memoryview = b"") -> None:
        """Send a finished head and body."""
        self.head_sent = True
        if not body:
            self._stream.write(head)
        elif len(body) <= _JOINED_BYTES_MAX:
            self._stream.write(b"".join((head, body)))
        else:
            self._stream.write_all((head, body))
        self._stream.finished(self)

    def reply(self, response: Response) -> None:
        """Send a response whose body is at hand."""
        body = response.body
        assert body is None or isinstance(body, bytes | memoryview)
        whole = body if body is not None and self._has_body(response.status) else b""
        self.reply_raw(self.encode_head(response), whole)

    def run_handler(self) -> None:
        """After `Handler.answer_now` took the request: have the handlers answer it after all."""
        self._stream.run_handler(self)

    # For answers that take their time

    async def send(self, response: Response) -> None:
        """Send any response; one with an iterator as it comes, at the client's pace. When the iterator fails, the
        connection is broken off, so that nobody takes a part for the whole."""
        body = response.body
        if body is None or isinstance(body, bytes | memoryview):
            self.reply(response)
            return
        try:
            self.start(response)
            async with contextlib.AsyncExitStack() as stack:
                if hasattr(body, "aclose"):
                    stack.push_async_callback(body.aclose)
                if self._has_body(response.status):
                    async for piece in body:
                        await self.write(piece)
        except BaseException:
            self._stream.abort()
            raise
        self.end()

    def start(self, response: Response) -> None:
        """Send the head; then `write` and `end`."""
        head = self.encode_head(response)
        self.head_sent = True
        self._stream.write(head)

    async def write(self, piece: bytes | memoryview) -> None:
        """A piece of the body."""
        if piece:
            if self._chunked:
                self._stream.write_all((b"%x\r\n" % len(piece), piece, b"\r\n"))
            else:
                self._stream.write(piece)
            await self._stream.drained()

    def end(self) -> None:
        """The body is complete."""
        if self._chunked:
            self._stream.write(b"0\r\n\r\n")
        self._stream.finished(self)

    def encode_head(self, response: Response) -> bytes:
        """The head with what the connection decides: framing, and whether it stays open."""
        if self.keep_alive and not self.can_stay_open:
            self.keep_alive = False
        self.note_head(response)
        http10 = self.request.http_version == "1.0"
        if response.content_length is None and self._has_body(response.status):
            self._chunked = not http10
            self.keep_alive = self.keep_alive and not http10
        connection = b""
        if self.keep_alive and http10:
            connection = b"keep-alive"
        elif not self.keep_alive and not http10:
            connection = b"close"
        return encode_head(response, self.request, int(time.time()), server=self._server, connection=connection)

    def note_head(self, response: Response) -> None:
        """The answer is decided; what its head says in any version of HTTP."""
        self.status = response.status
        if self.request.method == "HEAD" and response.status >= 300 and not response.content_length:
            # COMPAT: the reference tells a length with HEAD only when it knows the file's.
            response.content_length = None

    async def gone(self) -> None:
        """Wait until the client is gone: the task of the exchange is then cancelled."""
        await asyncio.get_running_loop().create_future()

    @property
    def can_stay_open(self) -> bool:
        """Whether the next request can follow: nearly all of the body has come, and the client does not wait for
        leave to send it."""
        body = self.body
        if body.complete:
            return True
        missing = body.missing
        if missing is None or missing > _LEFT_UNREAD_MAX:
            return False
        return body.wanted or not self.expects_continue

    def _has_body(self, status: int) -> bool:
        return self.request.method != "HEAD" and status not in _BODILESS
