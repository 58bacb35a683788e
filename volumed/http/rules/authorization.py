"""Whether a request may do what it asks for: white list and tokens on HTTP (docs/spec/http.md 1.7, 8.2).

Every check costs one comparison with None when it is not configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volumed.errors import ClientError, FormatError
from volumed.formats.numbers import go_bytes, go_text
from volumed.http.protocol.message import Headers, Request
from volumed.http.text.headertext import clean_value
from volumed.http.text.paths import ParsedPath, parse_read_path
from volumed.http.text.query import parse_query
from volumed.security.access import Access

if TYPE_CHECKING:
    from volumed.security.tokens import TokenKey

__all__ = ["WrongToken", "check_read", "check_write", "is_listed", "issued", "passed_on", "self_signed"]

_BEARER = b"bearer"
_COOKIE = b"AT"
_COOKIE_BYTES = frozenset(range(0x20, 0x7F)) - frozenset(b'";\\')


class WrongToken(ClientError):
    """No token, or not the right one; 401."""

    def __init__(self) -> None:
        super().__init__("wrong jwt")


def is_listed(request: Request, access: Access) -> bool:
    """Whether the client's address may write."""
    return access.white_list is None or access.white_list.allows(request.peer_ip)


def check_read(request: Request, access: Access) -> None:
    """Raise `WrongToken` unless the request may read its path, be that a file id or not."""
    if access.read_key is not None:
        _check(request, access.read_key)


def check_write(request: Request, access: Access) -> None:
    """Raise `WrongToken` unless the request may write or delete its path."""
    if access.write_key is not None:
        _check(request, access.write_key)


def passed_on(request: Request) -> Headers:
    """The caller's token, from wherever it came, as a header for another server."""
    token = _token(request)
    return [_header(token)] if token else []


def self_signed(key: TokenKey | None, raw_path: bytes) -> Headers:
    """A token of our own for what ``raw_path`` names at another server; nothing without a key."""
    return [] if key is None else issued(key, _file_id(parse_read_path(go_text(raw_path))))


def issued(key: TokenKey | None, file_id: str) -> Headers:
    """A token of our own for a file id; nothing without a key."""
    return [] if key is None else [_header(key.issue(file_id))]


def _header(token: bytes) -> tuple[bytes, bytes]:
    return b"Authorization", b"Bearer " + clean_value(token)


def _check(request: Request, key: TokenKey) -> None:
    try:
        file_id = _file_id(parse_read_path(request.path))
    except FormatError:
        raise WrongToken from None
    if not key.allows(_token(request), file_id):
        raise WrongToken


def _file_id(path: ParsedPath) -> str:
    """The text that the claim must equal: as the path spells it, without the `_delta` of a chunk in a series."""
    fid, underscore, _ = path.fid_text.rpartition("_")
    return f"{path.vid_text},{fid if fid and underscore else path.fid_text}"


def _token(request: Request) -> bytes:
    """The first that is there of query, `Authorization` and cookie, right or wrong."""
    if request.query_string and (token := parse_query(request.query_string).get("jwt")):
        return go_bytes(token)
    authorization = request.headers.get(b"authorization", b"")
    if len(authorization) > len(_BEARER) + 1 and authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) + 1 :]
    return _cookie_token(request) if b"cookie" in request.headers else b""


def _cookie_token(request: Request) -> bytes:
    """The first well-formed cookie of that name in all `Cookie` headers."""
    for name, line in request.raw_headers:
        if name.lower() != b"cookie":
            continue
        for pair in line.split(b";"):
            cookie, _, value = pair.strip(b" \t").partition(b"=")
            if cookie.rstrip(b" \t") != _COOKIE:
                continue
            if len(value) > 1 and value[:1] == value[-1:] == b'"':
                value = value[1:-1]
            if _COOKIE_BYTES.issuperset(value):
                return value
    return b""
