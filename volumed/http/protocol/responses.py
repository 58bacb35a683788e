"""The kinds of answers that are not a needle (http.md 1.1, 1.4)."""

from __future__ import annotations

import html
from typing import Any
from urllib.parse import quote_from_bytes

from volumed.http.protocol.message import Request, Response
from volumed.http.text.jsontext import encode_json, error_body

__all__ = [
    "empty_response",
    "error_response",
    "json_response",
    "options_response",
    "plain_text_error",
    "redirect_response",
]

_JSON_HEADERS = ((b"Content-Type", b"application/json"), (b"X-Content-Type-Options", b"nosniff"))
_TEXT_HEADERS = ((b"Content-Type", b"text/plain; charset=utf-8"), (b"X-Content-Type-Options", b"nosniff"))
_ASCII = bytes(range(0x80)).decode()


def empty_response(status: int) -> Response:
    """No body, no Content-Type."""
    return Response(status)


def json_response(status: int, value: Any, *, pretty: bool = False) -> Response:
    """JSON of `value`, or `value` itself when it is encoded already (bytes)."""
    body = value if isinstance(value, bytes) else encode_json(value, pretty=pretty)
    return Response(status, list(_JSON_HEADERS), body)


def error_response(status: int, text: str, *, pretty: bool = False) -> Response:
    """`{"error":"<text>"}`; an error without a text has an empty body."""
    return json_response(status, error_body(text, pretty=pretty)) if text else empty_response(status)


def plain_text_error(status: int, text: str) -> Response:
    """An error as one line of text."""
    return Response(status, list(_TEXT_HEADERS), text.encode("utf-8", "surrogateescape") + b"\n")


def options_response(*, public: bool) -> Response:
    """Answer to OPTIONS on the admin or the public port (http.md 1.3)."""
    methods = b"GET, OPTIONS" if public else b"PUT, POST, GET, DELETE, OPTIONS"
    return Response(200, [(b"Access-Control-Allow-Methods", methods), (b"Access-Control-Allow-Headers", b"*")])


_STATUS_TEXTS = {301: "Moved Permanently", 307: "Temporary Redirect"}


def redirect_response(request: Request, status: int, location: bytes) -> Response:
    """301 or 307 to `location`; only a GET gets the small HTML body."""
    target = quote_from_bytes(location, safe=_ASCII)
    response = Response(status, [(b"Location", target.encode())])
    if request.method in ("GET", "HEAD"):
        response.headers.append((b"Content-Type", b"text/html; charset=utf-8"))
    if request.method == "GET":
        link = html.escape(target, quote=False).replace('"', "&#34;").replace("'", "&#39;")
        response.body = f'<a href="{link}">{_STATUS_TEXTS[status]}</a>.\n\n'.encode()
        response.content_length = len(response.body)
    return response
