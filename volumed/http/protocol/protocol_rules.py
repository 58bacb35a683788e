"""Rules that need no connection: request lines, and what is answered before any handler (http.md 1.1)."""

from __future__ import annotations

import re

from volumed.errors import FormatError
from volumed.http.protocol.head import new_request_id
from volumed.http.protocol.message import Headers, Request, Response
from volumed.http.protocol.responses import redirect_response
from volumed.http.text.paths import decode_path, normalised_path, split_target

__all__ = [
    "BAD_REQUEST",
    "TOO_LARGE",
    "clean_line",
    "could_be_a_line",
    "decide_early",
    "encode_refusal",
    "is_usual_line",
    "new_request",
    "refusal_response",
]

_HEADERS_MAX = 10_000

BAD_REQUEST = b"400 Bad Request"
TOO_LARGE = b"431 Request Header Fields Too Large"
_MISSING_HOST = b"400 Bad Request: missing required Host header"
_BAD_VERSION = b"505 HTTP Version Not Supported: unsupported protocol version"
_UNKNOWN_ENCODING = b"501 Not Implemented"
_BODIES = {_UNKNOWN_ENCODING: b"Unsupported transfer encoding"}
"""Bodies of refusals that are not the same as the reason."""
_ERROR_HEADERS = b"\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"

_TOKEN = re.compile(rb"[!#$%&'*+\-.0-9A-Z^_`a-z|~]+")
_BLANK = re.compile(rb"[\x00-\x20\x7f]")
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_USUAL_STARTS = frozenset({b"GET ", b"PUT ", b"POST", b"HEAD", b"DELE"})
_PARSER_METHODS = frozenset(
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK".split()
)


def is_usual_line(line: bytes) -> bool:
    """Whether the parser surely takes this request line."""
    return line[:4] in _USUAL_STARTS and line.isascii()


def clean_line(line: bytes) -> tuple[bytes, str | None]:
    """A request line that the parser takes, and the method if it got a stand-in.

    COMPAT: the reference takes any token as a method and any byte in a target; the parser knows the registered methods
    and ASCII.
    """
    method, _, target = line.partition(b" ")
    replaced = None
    if _TOKEN.fullmatch(method) and method not in _PARSER_METHODS:
        method, replaced = b"PATCH", method.decode()
    return method + b" " + _NOT_ASCII.sub(lambda found: b"%%%02X" % found[0][0], target), replaced


def could_be_a_line(method: bytes, target: bytes) -> bool:
    """Whether method and target, which came on their own, would make one request line and no more: targets are passed
    on to other servers."""
    return _TOKEN.fullmatch(method) is not None and _BLANK.search(target) is None


def new_request(
    method: str, target: bytes, headers: dict[bytes, bytes], raw_headers: Headers, version: str, peer_ip: str
) -> Request:
    """The request of a parsed head. A target that cannot be decoded gives an empty path, which is refused."""
    raw_path, query = split_target(target)
    try:
        path = decode_path(raw_path)
    except FormatError:
        path = ""
    return Request(
        method=method,
        raw_target=target,
        raw_path=raw_path,
        path=path,
        query_string=query,
        headers=headers,
        raw_headers=raw_headers,
        http_version=version,
        peer_ip=peer_ip,
        request_id=new_request_id(),
    )


def decide_early(request: Request) -> Response | bytes | None:
    """What is answered before any handler is asked: a refusal (`encode_refusal`), a response, or nothing."""
    if request.http_version not in ("1.0", "1.1", "2"):
        return _BAD_VERSION if request.http_version[0] != "0" else BAD_REQUEST
    if request.http_version == "1.1" and b"host" not in request.headers:
        return _MISSING_HOST
    if len(request.headers) < len(request.raw_headers) and _has_two_hosts(request.raw_headers):
        return BAD_REQUEST
    if request.headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        return _UNKNOWN_ENCODING
    if len(request.raw_headers) > _HEADERS_MAX:
        return TOO_LARGE
    if not request.path:
        if request.raw_target == b"*" and request.method == "OPTIONS":
            return Response(200, identified=False)
        return Response(400, identified=False) if request.raw_target == b"*" else BAD_REQUEST
    expectation = request.headers.get(b"expect")
    if expectation is not None and b"100-continue" not in expectation.lower():
        return Response(417, identified=False)
    cleaned = normalised_path(request.raw_path)
    if cleaned is None:
        return None
    query = b"?" + request.query_string if request.query_string else b""
    response = redirect_response(request, 307, cleaned + query)
    response.identified = False
    return response


def _has_two_hosts(headers: Headers) -> bool:
    return sum(name.lower() == b"host" for name, _ in headers) > 1


def encode_refusal(text: bytes) -> bytes:
    """The whole answer to what is no proper request; most texts are also the body."""
    return b"HTTP/1.1 " + text + _ERROR_HEADERS + _BODIES.get(text, text)


def refusal_response(text: bytes) -> Response:
    """The same as a response, for a connection that goes on."""
    return Response(int(text[:3]), [(b"Content-Type", b"text/plain; charset=utf-8")], _BODIES.get(text, text))
