"""Form uploads: the file and the text fields of a complete `multipart/form-data` body (http.md 4.2).

Data are slices of the body.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from volumed.errors import FormatError, SizeLimitExceeded
from volumed.formats.needle import Buffer
from volumed.formats.numbers import go_text
from volumed.http.rules.form_rules import (
    FALSE_BOUNDARIES_MAX,
    FIELD_BYTES_MAX,
    LINE_BYTES_MAX,
    PART_HEADER_BYTES_MAX,
    PARTS_MAX,
    Malformed,
    SeparatorRules,
    closes_part,
    find_headers_end,
    is_quoted_printable,
    is_text_field,
    parse_boundary,
    parse_headers,
    part_names,
)
from volumed.http.text.quotedprintable import decode_quoted_printable

__all__ = ["FormFile", "parse_form_data"]

_WINDOW_BYTES = 256 << 10


@dataclass(slots=True)
class _Part:
    headers: dict[bytes, bytes]
    filename: str
    field_name: str
    data: memoryview
    truncated: bool
    """The body ended before the part did."""

    def content(self, size_limit_bytes: int) -> memoryview:
        if len(self.data) > size_limit_bytes:
            raise SizeLimitExceeded.file(size_limit_bytes)
        if self.truncated:
            raise FormatError("unexpected EOF")
        if is_quoted_printable(self.headers):
            return memoryview(decode_quoted_printable(self.data))
        return self.data


@dataclass(slots=True)
class FormFile:
    """The part that is stored, and the honoured text fields of the others (first value each)."""

    data: memoryview
    filename: str
    """As sent, paths included; empty when no part has one."""
    headers: dict[bytes, bytes]
    """Of the part: lower-case names, first value."""
    fields: dict[str, str] = field(default_factory=dict)


def parse_form_data(content_type: bytes, body: Buffer, size_limit_bytes: int) -> FormFile:
    """Choose the part to store: the first with a file name, else the first.

    Raises `FormatError`, or `SizeLimitExceeded` for data over the limit.
    """
    parts = _Scanner(memoryview(body), parse_boundary(content_type)).parts()
    first = next(parts)
    chosen = FormFile(first.content(size_limit_bytes), first.filename, first.headers)
    fields = _text_field(first)
    # COMPAT: once there is a first part, whatever is wrong between later ones only ends the search.
    with contextlib.suppress(Malformed):
        for part in parts:
            if part.filename and not chosen.filename:
                chosen = FormFile(part.content(size_limit_bytes), part.filename, part.headers)
            for name, value in _text_field(part).items():
                fields.setdefault(name, value)
    chosen.fields = fields
    return chosen


def _text_field(part: _Part) -> dict[str, str]:
    if not is_text_field(part.filename, part.field_name) or part.truncated or len(part.data) > FIELD_BYTES_MAX:
        return {}
    return {part.field_name: go_text(bytes(part.data))}


class _Scanner:
    """Walks over a body; `_at` is the position of the next unread byte."""

    def __init__(self, body: memoryview, boundary: bytes) -> None:
        self._body = body
        self._at = 0
        self._boundary = b"--" + boundary
        self._rules = SeparatorRules(self._boundary)

    def parts(self) -> Iterator[_Part]:
        """All parts in order. Raises `Malformed` where the reference's reader gives an error, also at the end."""
        for number in range(PARTS_MAX):
            self._seek_part(first=number == 0)
            headers = self._read_headers()
            start = self._at
            end = self._find_end(start)
            self._at = len(self._body) if end is None else end
            yield _Part(headers, *part_names(headers), self._body[start : self._at], truncated=end is None)
            if self._closes():
                return
        raise Malformed("multipart: too many parts")

    def _closes(self) -> bool:
        """Whether exactly the final boundary is left, as nearly always behind the last part."""
        closing = self._rules.newline + self._boundary + b"--"
        return self._body[self._at :] in (closing, closing + self._rules.newline)

    def _seek_part(self, *, first: bool) -> None:
        """Read up to and including the next boundary line."""
        self._rules.start(first=first)
        while not self._rules.opens_part(*self._read_line()):
            pass

    def _read_line(self) -> tuple[bytes, bool]:
        """(line with its end, whether it has one)."""
        window = bytes(self._body[self._at : self._at + LINE_BYTES_MAX])
        end = window.find(b"\n") + 1
        if not end and self._at + LINE_BYTES_MAX < len(self._body):
            raise Malformed("multipart: NextPart: bufio: buffer full")
        line = window[: end or len(window)]
        self._at += len(line)
        return line, end > 0

    def _read_headers(self) -> dict[bytes, bytes]:
        """Header lines up to and including the blank one."""
        for window in (LINE_BYTES_MAX, PART_HEADER_BYTES_MAX):
            block = bytes(self._body[self._at : self._at + window])
            if end := find_headers_end(block):
                self._at += end.end()
                return parse_headers(block[: end.start(1)])
        if len(block) == PART_HEADER_BYTES_MAX:
            raise Malformed("multipart: message too large")
        parse_headers(block)
        raise Malformed("EOF")

    def _find_end(self, start: int) -> int | None:
        """Where the part that starts here ends; None when its boundary never comes."""
        if self._body[start : start + len(self._boundary)] == self._boundary:
            after = start + len(self._boundary)
            if closes_part(bytes(self._body[after : after + 2])):
                return start
        return _find_boundary(self._body, self._rules.newline + self._boundary, start)


def _find_boundary(body: memoryview, delimiter: bytes, start: int) -> int | None:
    """Position of the first delimiter that closes a part; copies no more than a window at a time."""
    overlap = len(delimiter) + 1
    refused = 0
    for at in range(start, len(body), _WINDOW_BYTES):
        window = bytes(body[at : at + _WINDOW_BYTES + overlap])
        found = window.find(delimiter)
        while 0 <= found < _WINDOW_BYTES:
            behind = found + len(delimiter)
            if closes_part(window[behind : behind + 2]):
                return at + found
            refused += 1
            if refused > FALSE_BOUNDARIES_MAX:
                raise Malformed("multipart: message too large")
            found = window.find(delimiter, behind)
    return None
