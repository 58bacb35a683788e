"""Response heads as bytes: status line, the headers every answer has, request ids (http.md 1.4)."""

from __future__ import annotations

import random
import time
from http import HTTPStatus

from volumed import REFERENCE_VERSION, SIZE_LIMITS
from volumed.http.protocol.message import Headers, Request, Response
from volumed.http.text.conditional import format_http_date

__all__ = ["common_lines", "cors_headers", "encode_head", "head_fields", "new_request_id", "server_name"]

_BODILESS = frozenset({204, 304})
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
# COMPAT: the reference's words where the standard library has others.
_REASONS |= {413: b"Request Entity Too Large", 416: b"Requested Range Not Satisfiable"}


def server_name(offset_width: int = 5) -> bytes:
    """Value of `Server`: the volume size that offsets of this width allow, and the version."""
    return f"SeaweedFS Volume {SIZE_LIMITS[offset_width]} {REFERENCE_VERSION}".encode()


_SERVER = server_name()


def new_request_id() -> bytes:
    """A fresh `X-Amz-Request-Id`: nanoseconds and eight random digits in upper-case hex."""
    return b"%X%08X" % (time.time_ns(), random.getrandbits(32))


def cors_headers(request: Request) -> Headers:
    """What store handlers add for requests that name an origin."""
    if not request.headers.get(b"origin"):
        return []
    return [(b"Access-Control-Allow-Origin", b"*"), (b"Access-Control-Allow-Credentials", b"true")]


class _Clock:
    """The lines that change once a second."""

    def __init__(self) -> None:
        self._key: tuple[int, bytes] = (-1, b"")
        self._lines = b""

    def lines(self, now_s: int, server: bytes) -> bytes:
        if self._key != (now_s, server):
            self._key = (now_s, server)
            self._lines = b"Server: %b\r\nDate: %b\r\nX-Amz-Request-Id: " % (server, format_http_date(now_s))
        return self._lines


_clock = _Clock()


def common_lines(request_id: bytes, now_s: int, server: bytes = _SERVER) -> bytes:
    """Header lines of every answer of the store: `Server`, `Date`, `X-Amz-Request-Id`."""
    return b"%b%b\r\n" % (_clock.lines(now_s, server), request_id)


def encode_head(
    response: Response, request: Request, now_s: int, *, server: bytes = _SERVER, connection: bytes = b""
) -> bytes:
    """Status line and headers, blank line included.

    `connection` is the value of `Connection`, none when empty. A response that is not `identified` gets `Date` alone.
    """
    lines = [f"HTTP/{request.http_version} {response.status} ".encode(), _reason(response.status), b"\r\n"]
    lines.append(_identity(response, request, now_s, server))
    lines += [b"%b: %b\r\n" % header for header in response.headers]
    if response.content_length is not None and response.status not in _BODILESS:
        lines.append(b"Content-Length: %d\r\n" % response.content_length)
    elif response.content_length is None and request.http_version != "1.0" and request.method != "HEAD":
        lines.append(b"Transfer-Encoding: chunked\r\n")
    if connection:
        lines.append(b"Connection: %b\r\n" % connection)
    lines.append(b"\r\n")
    return b"".join(lines)


def head_fields(response: Response, request: Request, now_s: int, *, server: bytes = _SERVER) -> Headers:
    """The same headers one by one, without those that describe an HTTP/1 connection."""
    lines = _identity(response, request, now_s, server).splitlines()
    fields = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    fields += response.headers
    if response.content_length is not None and response.status not in _BODILESS:
        fields.append((b"Content-Length", b"%d" % response.content_length))
    return fields


def _reason(status: int) -> bytes:
    return _REASONS.get(status, b"status code %d" % status)


def _identity(response: Response, request: Request, now_s: int, server: bytes) -> bytes:
    """The common lines without those that the response sets itself (stored pairs may)."""
    if not response.identified:
        return b"Date: %b\r\n" % format_http_date(now_s)
    own = {name for name, _ in response.headers}
    lines = common_lines(request.request_id, now_s, server)
    if own.isdisjoint((b"Server", b"Date", b"X-Amz-Request-Id")):
        return lines
    return b"".join(line for line in lines.splitlines(keepends=True) if line.partition(b":")[0] not in own)
