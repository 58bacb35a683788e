"""A minimal ASGI server side: one exchange handed to an application of HTTP scope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from volumed.http.protocol.exchange import Exchange
from volumed.http.protocol.message import Response
from volumed.http.text.headertext import canonical_name

__all__ = ["AsgiApplication", "run_application"]

Message = dict[str, Any]
AsgiApplication = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


async def run_application(application: AsgiApplication, exchange: Exchange) -> None:
    """Have ``application`` answer. It finds the `Exchange` in its scope as ``volumed.exchange``."""
    request = exchange.request
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": request.http_version,
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.raw_path,
        "query_string": request.query_string,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": (request.peer_ip, 0),
        "server": None,
        "volumed.exchange": exchange,
    }
    call = _Call(exchange)
    await application(scope, call.receive, call.send)
    call.check_ended()


class _Call:
    """The two channels of one ASGI call."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._chunks = exchange.body.chunks()
        self._asked = False
        self._received = False
        self._response: Response | None = None
        self._started = False
        self._ended = False

    async def receive(self) -> Message:
        if not self._asked:
            # The application asks once before it looks at the request: that alone must not call for the body.
            self._asked = True
            if not self._exchange.body.complete:
                return {"type": "http.request", "body": b"", "more_body": True}
        if self._received:
            await self._exchange.gone()
            return {"type": "http.disconnect"}
        piece = await anext(self._chunks, None)
        self._received = piece is None
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._response = _response_of(message, identified=self._exchange.identified)
        elif message["type"] == "http.response.body":
            await self._send_body(message.get("body", b""), message.get("more_body", False))

    def check_ended(self) -> None:
        if not self._ended:
            raise RuntimeError("the application returned without a complete response")

    async def _send_body(self, piece: bytes, more: bool) -> None:
        response = self._response
        if response is None:
            raise RuntimeError("the application sent a body before a head")
        if not more and not self._started:
            self._ended = True
            response.body = piece or None
            if response.content_length is None and self._exchange.request.method != "HEAD":
                response.content_length = len(piece)
            self._exchange.reply(response)
            return
        if not self._started:
            self._started = True
            self._exchange.start(response)
        await self._exchange.write(piece)
        if not more:
            self._ended = True
            self._exchange.end()


def _response_of(message: Message, *, identified: bool) -> Response:
    headers, length = [], None
    for name, value in message.get("headers", ()):
        if name == b"content-length":
            length = int(value)
        else:
            headers.append((canonical_name(name), bytes(value)))
    response = Response(message["status"], headers, identified=identified)
    response.content_length = length
    return response
