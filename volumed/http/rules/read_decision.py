"""What a GET or HEAD of a needle is answered with (http.md 3.4 to 3.8, 3.10): heads and byte ranges, no data moved.

The steps, for a caller that has found the needle and compared the cookie:

1. `not_modified_plan`: 304, before anything is decompressed or fetched.
2. The representation: `stored_representation` for a needle whose data are at hand; `Representation(size)` for one read
   page by page; the manifest's total length for an expanded chunk manifest.
3. `body_plan`: status, headers and what to send.
4. `with_sniffed_type` when `ReadPlan.sniff` says that the type comes from the body's first bytes.

`plan_read` does all of it for data at hand. `plain_get_head` is the shortcut for what most requests are: it shares
every rule with the long way and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from volumed.formats.needle import FLAG_CHUNK_MANIFEST, FLAG_GZIP, FLAG_PAIRS, Buffer, Needle
from volumed.formats.numbers import go_bytes, go_text
from volumed.http.protocol.head import common_lines
from volumed.http.protocol.message import Headers, Request
from volumed.http.rules.manifest import ChunkManifest
from volumed.http.text.compression import DECOMPRESSED_BYTES_MAX, gunzip, is_gzip
from volumed.http.text.conditional import format_etag, format_http_date, not_modified
from volumed.http.text.disposition import content_disposition
from volumed.http.text.headertext import clean_value
from volumed.http.text.mime import extension, mime_by_extension
from volumed.http.text.pairs import pairs_to_headers
from volumed.http.text.paths import ParsedPath
from volumed.http.text.query import Form, go_bool
from volumed.http.text.ranges import ByteRange, RangeKind, content_range, frame_ranges, parse_range
from volumed.http.text.sniff import SNIFF_BYTES, sniff

__all__ = [
    "ReadPlan",
    "Representation",
    "body_plan",
    "expands_manifest",
    "is_plain_get",
    "not_modified_plan",
    "plain_get_head",
    "plan_at_hand",
    "plan_read",
    "stored_representation",
    "with_sniffed_type",
]

_Fields = dict[bytes, bytes]
"""Response headers by canonical name: setting one twice replaces it."""
Boundary = Callable[[], bytes]

_OCTET_STREAM = b"application/octet-stream"
_SPECIAL_FLAGS = FLAG_GZIP | FLAG_CHUNK_MANIFEST | FLAG_PAIRS
_SPECIAL_HEADERS = frozenset({b"range", b"if-modified-since", b"if-none-match", b"origin"})
_OVERRIDES = {
    "response-cache-control": b"Cache-Control",
    "response-content-disposition": b"Content-Disposition",
    "response-content-encoding": b"Content-Encoding",
    "response-content-language": b"Content-Language",
    "response-content-type": b"Content-Type",
    "response-expires": b"Expires",
}


@dataclass(slots=True)
class Representation:
    """The bytes that ranges and lengths refer to."""

    size: int
    data: Buffer | None = None
    """None: not at hand."""
    encoding: bytes = b""
    """`gzip` when compressed bytes are sent as they are stored."""


@dataclass(slots=True)
class ReadPlan:
    """An answer: the headers without length and common ones, and what to send of the representation."""

    status: int
    headers: Headers
    content_length: int = 0
    segments: tuple[bytes | ByteRange, ...] = ()
    """Literal bytes and ranges of the representation in sending order; empty for HEAD."""
    sniff: bool = False
    """The Content-Type is still to be taken from the first bytes sent: `with_sniffed_type`."""


class _Label(NamedTuple):
    """What a file is called and said to be; either may be empty."""

    filename: bytes
    mime: bytes


def is_plain_get(request: Request) -> bool:
    """Whether nothing in the request asks for more than the file itself (then `plain_get_head` may do)."""
    return (
        request.method == "GET"
        and not request.query_string
        and _SPECIAL_HEADERS.isdisjoint(request.headers)
    )


def plain_get_head(
    needle: Needle, path: ParsedPath, request_id: bytes, now_s: int, server: bytes
) -> bytes | None:
    """Whole head of a 200 for a plain GET over HTTP/1.1; the body is `needle.data`.

    None when the needle itself needs the long way: compressed, a manifest, or with pairs.
    """
    if needle.flags & _SPECIAL_FLAGS:
        return None
    label = _needle_label(needle, path)
    kind = label.mime or (sniff(needle.data) if needle.data else b"")
    return b"HTTP/1.1 200 OK\r\n%b%bEtag: %b\r\nAccept-Ranges: bytes\r\n%b%bContent-Length: %d\r\n\r\n" % (
        common_lines(request_id, now_s, server),
        b"Last-Modified: %b\r\n" % format_http_date(needle.last_modified) if needle.last_modified else b"",
        format_etag(needle.checksum),
        b"Content-Type: %b\r\n" % kind if kind else b"",
        b"Content-Disposition: %b\r\n" % content_disposition(label.filename) if label.filename else b"",
        len(needle.data),
    )


def not_modified_plan(request: Request, needle: Needle) -> ReadPlan | None:
    """The 304, or None when the file is to be sent."""
    if not not_modified(request.headers, format_etag(needle.checksum), needle.last_modified):
        return None
    return ReadPlan(304, list(_last_modified(needle).items()))


def expands_manifest(needle: Needle, query: Form) -> bool:
    """Whether the needle is a manifest whose file is wanted, not the manifest itself."""
    return needle.is_chunk_manifest and query.get("cm") != "false"


def stored_representation(
    needle: Needle, accept_encoding: bytes, plain_bytes_max: int = DECOMPRESSED_BYTES_MAX
) -> Representation:
    """What to send of data at hand (http.md 3.7). Raises `DecompressedTooLarge`."""
    data = needle.data
    if not needle.is_gzipped or not is_gzip(data):
        return Representation(len(data), data)
    # COMPAT: any occurrence of the word counts, also `gzip;q=0`.
    if b"gzip" in accept_encoding:
        return Representation(len(data), data, b"gzip")
    # COMPAT: data that only start like gzip are sent as nothing.
    plain = gunzip(data, plain_bytes_max) or b""
    return Representation(len(plain), plain)


def body_plan(
    request: Request,
    query: Form,
    path: ParsedPath,
    needle: Needle,
    representation: Representation,
    boundary: Boundary,
    manifest: ChunkManifest | None = None,
) -> ReadPlan:
    """Decide the answer for a file that is sent.

    `manifest` is that of an expanded file; name and type then come from it. `boundary` is asked for 60 hex digits
    when several ranges are sent.
    """
    label = _needle_label(needle, path) if manifest is None else _manifest_label(manifest, path)
    fields = _last_modified(needle)
    fields[b"Etag"] = format_etag(needle.checksum)
    fields.update(pairs_to_headers(needle.pairs))
    if manifest is not None:
        fields[b"X-File-Store"] = b"chunked"
    if representation.encoding:
        fields[b"Content-Encoding"] = representation.encoding
    fields[b"Accept-Ranges"] = b"bytes"
    if label.mime:
        fields[b"Content-Type"] = label.mime
    _apply_query(fields, query, label.filename)
    return _send(request, fields, label.mime, representation.size, boundary)


def with_sniffed_type(plan: ReadPlan, first: Buffer) -> None:
    """Complete a plan with the type of the first bytes that are sent."""
    plan.headers.append((b"Content-Type", sniff(first)))
    plan.sniff = False


def plan_read(
    request: Request,
    query: Form,
    path: ParsedPath,
    needle: Needle,
    boundary: Boundary,
    plain_bytes_max: int = DECOMPRESSED_BYTES_MAX,
) -> tuple[ReadPlan, Representation]:
    """Plan and representation for a needle whose data are at hand and that is sent as it is. Raises
    `DecompressedTooLarge`."""
    if plan := not_modified_plan(request, needle):
        return plan, Representation(0, b"")
    accepted = request.headers.get(b"accept-encoding", b"")
    representation = stored_representation(needle, accepted, plain_bytes_max)
    return plan_at_hand(request, query, path, needle, representation, boundary), representation


def plan_at_hand(
    request: Request,
    query: Form,
    path: ParsedPath,
    needle: Needle,
    representation: Representation,
    boundary: Boundary,
    manifest: ChunkManifest | None = None,
) -> ReadPlan:
    """`body_plan`, complete with the type, for a representation whose data are at hand."""
    plan = body_plan(request, query, path, needle, representation, boundary, manifest)
    if plan.sniff and representation.data is not None:
        start = next(part.start for part in plan.segments if isinstance(part, ByteRange))
        with_sniffed_type(plan, representation.data[start : start + min(plan.content_length, SNIFF_BYTES)])
    return plan


def _last_modified(needle: Needle) -> _Fields:
    return {b"Last-Modified": format_http_date(needle.last_modified)} if needle.last_modified else {}


def _needle_label(needle: Needle, path: ParsedPath) -> _Label:
    return _label(go_bytes(path.filename) or needle.name, needle.mime)


def _manifest_label(manifest: ChunkManifest, path: ParsedPath) -> _Label:
    return _label(go_bytes(path.filename or manifest.name), go_bytes(manifest.mime))


def _label(filename: bytes, stored_mime: bytes) -> _Label:
    if stored_mime and not stored_mime.startswith(_OCTET_STREAM):
        return _Label(filename, clean_value(stored_mime))
    guess = mime_by_extension(extension(go_text(filename))) if b"." in filename else ""
    return _Label(filename, guess.encode())


def _apply_query(fields: _Fields, query: Form, filename: bytes) -> None:
    """Header overrides and the disposition (http.md 3.6)."""
    for name, value in query.items():
        if header := _OVERRIDES.get(name.lower()):
            fields[header] = clean_value(go_bytes(value))
    if filename and not fields.get(b"Content-Disposition"):
        attachment = go_bool(query.get("dl", ""))
        fields[b"Content-Disposition"] = content_disposition(filename, attachment)


def _send(request: Request, fields: _Fields, mime: bytes, size: int, boundary: Boundary) -> ReadPlan:
    if request.method == "HEAD":
        return ReadPlan(200, list(fields.items()), size)
    wanted = request.headers.get(b"range")
    if not wanted:
        return _send_whole(200, fields, ByteRange(0, size))
    parsed = parse_range(wanted, size)
    if parsed.kind is RangeKind.EMPTY:
        return ReadPlan(200, list(fields.items()))
    if parsed.kind is not RangeKind.PARTIAL:
        return _refuse_range(fields, size, overlapping=parsed.kind is RangeKind.INVALID)
    if len(parsed.ranges) == 1:
        fields[b"Content-Range"] = content_range(parsed.ranges[0], size)
        return _send_whole(206, fields, parsed.ranges[0])
    framed = frame_ranges(parsed.ranges, size, mime, boundary())
    fields[b"Content-Type"] = framed.content_type
    return ReadPlan(206, list(fields.items()), framed.length, framed.segments)


def _send_whole(status: int, fields: _Fields, part: ByteRange) -> ReadPlan:
    untyped = b"Content-Type" not in fields and not fields.get(b"Content-Encoding")
    return ReadPlan(status, list(fields.items()), part.length, (part,), sniff=untyped and part.length > 0)


def _refuse_range(fields: _Fields, size: int, *, overlapping: bool) -> ReadPlan:
    if overlapping:
        text = b"invalid range\n"
    else:
        text = b"invalid range: failed to overlap\n"
        fields[b"Content-Range"] = b"bytes */%d" % size
    fields[b"Content-Type"] = b"text/plain; charset=utf-8"
    fields[b"X-Content-Type-Options"] = b"nosniff"
    return ReadPlan(416, list(fields.items()), len(text), (text,))
