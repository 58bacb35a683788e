"""Requests out of the bytes of a connection (http.md 1.1, 1.5): the parser, and what it has to be spared or told."""

from __future__ import annotations

from collections.abc import Callable

import httptools

from volumed.http.protocol.message import Headers, Request
from volumed.http.protocol.protocol_rules import clean_line, is_usual_line, new_request

__all__ = ["HEAD_BYTES_MAX", "HeadTooLarge", "RequestReader"]

HEAD_BYTES_MAX = (1 << 20) + 4096
"""Request line and headers; more is answered 431."""
_NEWLINES = (b"\r", b"\n")


class HeadTooLarge(Exception):
    """More than `HEAD_BYTES_MAX` and still no end."""


class RequestReader:
    """Calls ``on_request`` with each head and whether the connection may stay open behind it, ``on_body`` with each
    piece of its body, ``on_end`` behind it."""

    __slots__ = (
        "_head_bytes",
        "_headers",
        "_in_head",
        "_method",
        "_on_end",
        "_on_request",
        "_parser",
        "_raw_headers",
        "_target",
        "in_message",
        "line",
        "on_body",
        "peer_ip",
    )

    def __init__(
        self,
        on_request: Callable[[Request, bool], None],
        on_body: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        self._on_request = on_request
        self.on_body = on_body
        self._on_end = on_end
        self.peer_ip = ""
        self.in_message = False
        """Whether a request has begun and not ended."""
        self.line = b""
        """A request line whose end has not come yet."""
        self._in_head = False
        self._head_bytes = 0
        """Of a head that did not come in one segment."""
        self._method: str | None = None
        """What the parser was given a stand-in for."""
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._raw_headers: Headers = []
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        """The next bytes. Raises `HeadTooLarge`, or `httptools.HttpParserError` for what is not HTTP."""
        while data:
            if not self.in_message:
                data = self._take_line(data)
                if not data:
                    return
            if self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > HEAD_BYTES_MAX:
                    raise HeadTooLarge
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                # COMPAT: offers to switch protocols are ignored.
                self._parser = httptools.HttpRequestParser(self)
                data = data[upgrade.args[0] :]

    def skip_body(self) -> None:
        """The rest of a body went past the reader; the next byte starts a request."""
        self._parser = httptools.HttpRequestParser(self)
        self.on_message_complete()

    def _take_line(self, data: bytes) -> bytes:
        """Hold a request back until its first line is there, and make that line one that the parser takes.

        Only where a request starts a segment: what follows another in one segment must be plain.
        """
        data = (self.line + data).lstrip(b"\r\n") if self.line or data[:1] in _NEWLINES else data
        end = data.find(b"\n")
        if end < 0:
            self.line = data
            if len(data) > HEAD_BYTES_MAX:
                raise HeadTooLarge
            return b""
        self.line = b""
        line = data[:end]
        if is_usual_line(line):
            return data
        line, self._method = clean_line(line)
        return line + data[end:]

    # Parser callbacks, `on_body` among them

    def on_message_begin(self) -> None:
        self.in_message = self._in_head = True
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
        parser = self._parser
        method, self._method = self._method or parser.get_method().decode(), None
        request = new_request(
            method, self._target, self._headers, self._raw_headers, parser.get_http_version(), self.peer_ip
        )
        self._on_request(request, parser.should_keep_alive())

    def on_message_complete(self) -> None:
        self.in_message = False
        self._on_end()
