"""One line per case: builders of raw HTTP requests."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = [
    "COOKIE", "TEXT", "TS", "WHEN", "ZIPPED", "Case", "closing", "cut", "delete", "fid", "form", "get", "head",
    "manifest", "measured", "parts", "pipeline", "post", "public", "put", "raw", "request", "zipped",
]  # fmt: skip

TS = "ts=1700000000"
"""Query that gives an object a known time."""
WHEN = "Tue, 14 Nov 2023 22:13:20 GMT"
"""The same time as HTTP writes it."""
COOKIE = "aaaaaaaa"
TEXT = b"All work and no play makes Jack a dull boy.\n" * 40
ZIPPED = gzip.compress(TEXT, mtime=0)


class Case(NamedTuple):
    """What is sent on one new connection, and how to read what comes back."""

    name: str
    data: bytes
    methods: tuple[str, ...]
    """One per request: an answer to HEAD has no body."""
    public: bool = False
    """Sent to the public port."""
    zipped: bool = False
    """Data compressed by the server take part: compressors differ, so their bytes, lengths and checksums do."""
    measured: bool = False
    """A status document: what is measured is left out."""
    later: bytes = b""
    """Sent when the interim answer has come."""
    cut: bool = False
    """The client closes its sending side at once."""
    until_closed: bool = False
    """All that comes until the connection is closed belongs to the answer."""


def fid(key: int, volume: int = 1, cookie: str = COOKIE) -> str:
    """Path of a file id. Each topic has its own range of keys, so that a failure stays local."""
    return f"/{volume},{key:04x}{cookie}"


def raw(name: str, data: bytes, *methods: str) -> Case:
    """Bytes as they are."""
    return Case(name, data, methods or (data.partition(b" ")[0].decode("latin-1"),))


def request(name: str, method: str, target: str, *headers: str, body: bytes = b"") -> Case:
    """A well-formed HTTP/1.1 request; characters of ``target`` and ``headers`` go out as Latin-1."""
    lines = [f"{method} {target} HTTP/1.1", "Host: a", *headers]
    if body or method in ("PUT", "POST"):
        lines.append(f"Content-Length: {len(body)}")
    return raw(name, "\r\n".join([*lines, "", ""]).encode("latin-1") + body, method)


def get(name: str, target: str, *headers: str) -> Case:
    return request(name, "GET", target, *headers)


def head(name: str, target: str, *headers: str) -> Case:
    return request(name, "HEAD", target, *headers)


def put(name: str, target: str, body: bytes | str, *headers: str) -> Case:
    return request(name, "PUT", target, *headers, body=_encoded(body))


def post(name: str, target: str, body: bytes | str, *headers: str) -> Case:
    return request(name, "POST", target, *headers, body=_encoded(body))


def delete(name: str, target: str, *headers: str) -> Case:
    return request(name, "DELETE", target, *headers)


def form(name: str, target: str, part: Sequence[str], data: bytes | str, *headers: str) -> Case:
    """A form with one part: its header lines and its data."""
    return parts(name, target, (part, data), headers=headers)


def parts(
    name: str,
    target: str,
    *content: tuple[Sequence[str], bytes | str],
    headers: Sequence[str] = (),
    end: str = "--b--\r\n",
) -> Case:
    """A form with several parts."""
    body = b"".join("\r\n".join(["--b", *lines, "", ""]).encode() + _encoded(data) + b"\r\n" for lines, data in content)
    return post(name, target, body + end.encode(), "Content-Type: multipart/form-data; boundary=b", *headers)


def manifest(*chunks: tuple[str, int, int], **fields: Any) -> bytes:
    """A chunk manifest; chunks are (file id, offset, size)."""
    listed = [{"fid": chunk, "offset": offset, "size": size} for chunk, offset, size in chunks]
    return json.dumps({**fields, "chunks": listed}).encode()


def pipeline(name: str, *cases: Case) -> Case:
    """Several requests sent at once on one connection."""
    return Case(name, b"".join(case.data for case in cases), tuple(method for case in cases for method in case.methods))


def public(case: Case) -> Case:
    """The same to the public port."""
    return case._replace(public=True)


def zipped(case: Case) -> Case:
    """See `Case.zipped`."""
    return case._replace(zipped=True)


def measured(case: Case) -> Case:
    """See `Case.measured`."""
    return case._replace(measured=True)


def closing(case: Case) -> Case:
    """See `Case.until_closed`."""
    return case._replace(until_closed=True)


def cut(case: Case) -> Case:
    """See `Case.cut`."""
    return case._replace(cut=True)


def _encoded(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
