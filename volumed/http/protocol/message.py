"""Requests and responses as plain values, the same for the needle lane and for the framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

__all__ = ["Body", "Headers", "Request", "Response"]

Headers = list[tuple[bytes, bytes]]
Body = bytes | memoryview | AsyncIterator[bytes | memoryview] | None


@dataclass(slots=True)
class Request:
    """One request head; the body is handed over separately.

    Paths and query are those of the request target (`volumed.http.text.paths.split_target`).
    """

    method: str
    raw_target: bytes
    """The target as received."""
    raw_path: bytes
    """Its path, still percent-encoded."""
    path: str
    """The decoded path; bytes that are not UTF-8 are surrogate escapes."""
    query_string: bytes = b""
    """What follows the first `?`, undecoded."""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    """Lower-case names; of a repeated header the first value."""
    raw_headers: Headers = field(default_factory=list)
    """All headers in the order and spelling received."""
    http_version: str = "1.1"
    peer_ip: str = ""
    request_id: bytes = b""
    """`X-Amz-Request-Id` of the answer (http.md 1.4)."""
    on_sent: Callable[[], None] | None = None
    """Called once when the last byte of the answer has left this process, or the client is gone."""
    room: asyncio.Future[bool] | None = None
    """What the handler waits for while too much is in flight; False ends the wait, since the client has left."""


@dataclass(slots=True)
class Response:
    """An answer without what every answer carries (status line, `Date`, `Server`, request id, length).

    `content_length` is needed where the body does not tell: for iterators, and for HEAD, whose body is None
    while the length is that of the GET. None with an iterator means a chunked body.
    """

    status: int
    headers: Headers = field(default_factory=list)
    body: Body = None
    content_length: int | None = None
    identified: bool = True
    """Whether `Server` and `X-Amz-Request-Id` are sent (not with redirects to a clean path or static files)."""

    def __post_init__(self) -> None:
        if self.content_length is None and (self.body is None or isinstance(self.body, bytes | memoryview)):
            self.content_length = len(self.body or b"")
