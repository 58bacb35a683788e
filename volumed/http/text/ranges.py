"""Range requests: parsing and multipart framing (http.md 3.10)."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

__all__ = [
    "ByteRange",
    "MultipartBody",
    "RangeKind",
    "RangeSet",
    "content_range",
    "frame_ranges",
    "parse_range",
]

_NUMBER = re.compile(r"[+-]?0*([0-9]{1,19})")
_INT64_MAX = (1 << 63) - 1
_BLANKS = " \t\r\n"
_ITEMS_MAX = 1000
"""DEVIATE: more are refused. The reference takes any number; a head could ask for hundreds of thousands of parts."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`length` bytes from `start`, within the representation."""

    start: int
    length: int


class RangeKind(enum.Enum):
    """What a Range header asks for."""

    PARTIAL = enum.auto()
    """One or more ranges: 206."""
    EMPTY = enum.auto()
    """No ranges, or together longer than the whole: 200 with an empty body."""
    INVALID = enum.auto()
    """416 `invalid range`."""
    NO_OVERLAP = enum.auto()
    """416 `invalid range: failed to overlap`."""


@dataclass(frozen=True, slots=True)
class RangeSet:
    """`ranges` is non-empty only for PARTIAL."""

    kind: RangeKind
    ranges: tuple[ByteRange, ...] = ()


class _InvalidRange(Exception):
    pass


def parse_range(raw: bytes, size: int) -> RangeSet:
    """Decide a non-empty Range header for a representation of `size` bytes."""
    unit, equals, items = raw.decode("latin-1").partition("=")
    if unit != "bytes" or not equals or items.count(",") >= _ITEMS_MAX:
        return RangeSet(RangeKind.INVALID)
    stripped = [item.strip(_BLANKS) for item in items.split(",")]
    try:
        parsed = [_parse_item(item, size) for item in stripped if item]
    except _InvalidRange:
        return RangeSet(RangeKind.INVALID)
    ranges = tuple(item for item in parsed if item is not None)
    if parsed and not ranges:
        return RangeSet(RangeKind.NO_OVERLAP)
    if not ranges or sum(item.length for item in ranges) > size:
        return RangeSet(RangeKind.EMPTY)
    return RangeSet(RangeKind.PARTIAL, ranges)


def _parse_item(item: str, size: int) -> ByteRange | None:
    first, dash, last = item.partition("-")
    first, last = first.strip(_BLANKS), last.strip(_BLANKS)
    if not dash:
        raise _InvalidRange
    if not first:
        length = min(_number(last), size)
        return ByteRange(size - length, length)
    start = _number(first)
    if start >= size:
        return None
    end = min(_number(last), size - 1) if last else size - 1
    if end < start:
        raise _InvalidRange
    return ByteRange(start, end - start + 1)


def _number(text: str) -> int:
    match = _NUMBER.fullmatch(text)
    value = int(match[1]) if match else _INT64_MAX + 1
    if value > _INT64_MAX or (value and text.startswith("-")):
        raise _InvalidRange
    return value


def content_range(item: ByteRange, size: int) -> bytes:
    """Value of `Content-Range`; an empty range ends before it starts, as in `bytes 16-15/16`."""
    return b"bytes %d-%d/%d" % (item.start, item.start + item.length - 1, size)


@dataclass(frozen=True, slots=True)
class MultipartBody:
    """A `multipart/byteranges` body: literal framing and ranges of the representation in sending order."""

    content_type: bytes
    segments: tuple[bytes | ByteRange, ...]
    length: int


def frame_ranges(ranges: tuple[ByteRange, ...], size: int, mime: bytes, boundary: bytes) -> MultipartBody:
    """Frame several ranges; `mime` may be empty, `boundary` is 60 hex digits of the caller's choice."""
    segments: list[bytes | ByteRange] = []
    opening = b""
    for item in ranges:
        part_head = (opening, boundary, content_range(item, size), mime)
        segments.append(b"%b--%b\r\nContent-Range: %b\r\nContent-Type: %b\r\n\r\n" % part_head)
        segments.append(item)
        opening = b"\r\n"
    segments.append(b"\r\n--%b--\r\n" % boundary)
    length = sum(part.length if isinstance(part, ByteRange) else len(part) for part in segments)
    return MultipartBody(b"multipart/byteranges; boundary=" + boundary, tuple(segments), length)
