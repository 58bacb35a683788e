"""The files of the status page (http.md 6.4), and how they are served: as the file server of the reference does.

All files are read once, at start. A request selects an entry of that table; it never becomes part of a path on disk.
"""

from __future__ import annotations

import html
import posixpath
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from volumed.http.pages.routes import STATIC_PREFIX
from volumed.http.protocol.message import Headers, Request, Response
from volumed.http.protocol.responses import plain_text_error, redirect_response
from volumed.http.text.ranges import RangeKind, content_range, frame_ranges, parse_range

__all__ = ["static_response"]

_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".ico": b"image/x-icon",
    ".js": b"text/javascript; charset=utf-8",
    ".png": b"image/png",
}
_INDEX = "/index.html"
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_STAR_IN_LIST = re.compile(rb'[ \t,]*(?:(?:W/)?"[^"]*"[ \t,]*)*\*')
"""A list of entity tags with a ``*``: the only condition that a file without tag and date can meet."""


@dataclass(frozen=True, slots=True)
class _File:
    mime: bytes
    content: bytes


_Entry = _File | bytes
"""A file, or the listing of a directory."""


def static_response(request: Request) -> Response:
    """Answer for ``/favicon.ico`` and everything below ``/seaweedfsstatic``, whatever the method."""
    if request.path + "/" == STATIC_PREFIX:
        query = b"?" + request.query_string if request.query_string else b""
        response = redirect_response(request, 307, STATIC_PREFIX.encode() + query)
    else:
        response = _serve(request, "/" + request.path.removeprefix(STATIC_PREFIX).lstrip("/"))
    response.identified = False
    return response


def _serve(request: Request, path: str) -> Response:
    if path.endswith(_INDEX):
        return _moved(request, "./")
    if _NOT_UTF8.search(path):
        return plain_text_error(500, "500 Internal Server Error")  # COMPAT: of paths that are not UTF-8
    name = posixpath.normpath(path)
    entry = _ENTRIES.get(name)
    if entry is None:
        return plain_text_error(404, "404 page not found")
    base = posixpath.basename(path.rstrip("/"))
    if isinstance(entry, bytes):
        if not path.endswith("/"):
            return _moved(request, base + "/")
        return Response(200, [(b"Content-Type", b"text/html; charset=utf-8")], entry)
    return _moved(request, "../" + base) if path.endswith("/") else _file_response(request, entry)


def _moved(request: Request, target: str) -> Response:
    query = b"?" + request.query_string if request.query_string else b""
    return Response(301, [(b"Location", target.encode() + query)])


def _file_response(request: Request, file: _File) -> Response:
    headers = request.headers
    is_read = request.method in ("GET", "HEAD")
    if (wanted := headers.get(b"if-match")) and not _STAR_IN_LIST.match(wanted):
        return Response(412)
    if _STAR_IN_LIST.match(headers.get(b"if-none-match", b"")):
        return Response(304 if is_read else 412)
    answer: Headers = [(b"Accept-Ranges", b"bytes")]
    asked = headers.get(b"range")
    # Without a tag and a date there is nothing that If-Range could agree with.
    if not asked or (is_read and headers.get(b"if-range")):
        return Response(200, [*answer, (b"Content-Type", file.mime)], file.content)
    return _part_of(file, asked, answer)


def _part_of(file: _File, asked: bytes, answer: Headers) -> Response:
    size = len(file.content)
    found = parse_range(asked, size)
    if found.kind is RangeKind.INVALID:
        return plain_text_error(416, "invalid range")
    if found.kind is RangeKind.NO_OVERLAP:
        refusal = plain_text_error(416, "invalid range: failed to overlap")
        refusal.headers.insert(0, (b"Content-Range", b"bytes */%d" % size))
        return refusal
    if found.kind is RangeKind.EMPTY:
        return Response(200, [*answer, (b"Content-Type", file.mime)], file.content)
    if len(found.ranges) == 1:
        (part,) = found.ranges
        answer += [(b"Content-Range", content_range(part, size)), (b"Content-Type", file.mime)]
        return Response(206, answer, file.content[part.start : part.start + part.length])
    framed = frame_ranges(found.ranges, size, file.mime, secrets.token_hex(30).encode())
    pieces = (
        piece if isinstance(piece, bytes) else file.content[piece.start : piece.start + piece.length]
        for piece in framed.segments
    )
    return Response(206, [*answer, (b"Content-Type", framed.content_type)], b"".join(pieces))


def _load(directory: Traversable, path: str) -> Iterator[tuple[str, _Entry]]:
    """Every entry below a directory of the package, the directory itself included."""
    names = []
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        below = posixpath.join(path, entry.name)
        if entry.is_dir():
            names.append(entry.name + "/")
            yield from _load(entry, below)
        elif (mime := _TYPES.get(posixpath.splitext(entry.name)[1])) is not None:
            names.append(entry.name)
            yield below, _File(mime, entry.read_bytes())
    links = "".join(f'<a href="{name}">{name}</a>\n' for name in map(html.escape, names))
    head = '<!doctype html>\n<meta name="viewport" content="width=device-width">\n'
    yield path, f"{head}<pre>\n{links}</pre>\n".encode()


_ENTRIES: dict[str, _Entry] = dict(_load(files("volumed.http.pages") / "assets", "/"))
