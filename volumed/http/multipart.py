"""Form uploads: the file and the text fields of a complete `multipart/form-data` body (http.md 4.2).

Error texts are what the reference's form reader says, since clients print them. Data are slices of the body.
"""

from __future__ import annotations

import binascii
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from volumed.errors import FormatError, SizeLimitExceeded
from volumed.formats.needle import Buffer
from volumed.formats.numbers import go_bytes, go_text, quote
from volumed.http.mediatype import parse_media_type

__all__ = ["FIELDS", "FormFile", "parse_form_data"]

FIELDS = frozenset({"ts", "ttl", "cm"})
"""Text fields that are honoured; others are ignored."""

_PARTS_MAX = 1000
_FIELD_BYTES_MAX = 1024
_PART_HEADERS_MAX = 10_000
_PART_HEADER_BYTES_MAX = 64 << 10
_LINE_BYTES_MAX = 4096
"""Longest line before and between parts."""
_FALSE_BOUNDARIES_MAX = 100_000
"""Boundaries inside data, followed by other text."""
_WINDOW_BYTES = 256 << 10

_HEADER_NAME = re.compile(rb"[!#$%&'*+\-.0-9A-Z^_`a-z|~ ]+")
_HEADER_VALUE = re.compile(rb"[\t -~\x80-\xff]*")
_HEADERS_END = re.compile(rb"(?:^|\n)(\r?\n)")
_BLANKS = (b" ", b"\t")
_AFTER_BOUNDARY = (b"", b" ", b"\t", b"\r", b"\n")


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
        if self.headers.get(b"content-transfer-encoding", b"").lower() == b"quoted-printable":
            return memoryview(binascii.a2b_qp(self.data))
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
    parts = _Scanner(memoryview(body), _boundary(content_type)).parts()
    first = next(parts)
    chosen = FormFile(first.content(size_limit_bytes), first.filename, first.headers)
    fields = _text_field(first)
    # COMPAT: once there is a first part, whatever is wrong between later ones only ends the search.
    with contextlib.suppress(_Malformed):
        for part in parts:
            if part.filename and not chosen.filename:
                chosen = FormFile(part.content(size_limit_bytes), part.filename, part.headers)
            for name, value in _text_field(part).items():
                fields.setdefault(name, value)
    chosen.fields = fields
    return chosen


def _boundary(content_type: bytes) -> bytes:
    try:
        kind, parameters = parse_media_type(go_text(content_type))
    except FormatError:
        kind = ""
    if kind not in ("multipart/form-data", "multipart/mixed"):
        raise FormatError("request Content-Type isn't multipart/form-data")
    if "boundary" not in parameters:
        raise FormatError("no multipart boundary param in Content-Type")
    if not parameters["boundary"]:
        raise FormatError("multipart: boundary is empty")
    return go_bytes(parameters["boundary"])


def _text_field(part: _Part) -> dict[str, str]:
    if part.field_name not in FIELDS or part.filename or part.truncated or len(part.data) > _FIELD_BYTES_MAX:
        return {}
    return {part.field_name: go_text(bytes(part.data))}


def _part_names(headers: dict[bytes, bytes]) -> tuple[str, str]:
    """(file name, field name) of a part; a disposition that cannot be read gives none."""
    try:
        _, parameters = parse_media_type(go_text(headers.get(b"content-disposition", b"")))
    except FormatError:
        return "", ""
    return parameters.get("filename", ""), parameters.get("name", "")


class _Malformed(FormatError):
    """The framing of the form is broken."""


class _Scanner:
    """Walks over a body; `_at` is the position of the next unread byte."""

    def __init__(self, body: memoryview, boundary: bytes) -> None:
        self._body = body
        self._at = 0
        self._newline = b"\r\n"
        self._boundary = b"--" + boundary

    def parts(self) -> Iterator[_Part]:
        """All parts in order. Raises `_Malformed` where the reference's reader gives an error, also at the end."""
        for number in range(_PARTS_MAX):
            self._seek_part(first=number == 0)
            headers = self._read_headers()
            start = self._at
            end = self._find_end(start)
            self._at = len(self._body) if end is None else end
            yield _Part(headers, *_part_names(headers), self._body[start : self._at], truncated=end is None)
            if self._closes():
                return
        raise _Malformed("multipart: too many parts")

    def _closes(self) -> bool:
        """Whether exactly the final boundary is left, as nearly always behind the last part."""
        closing = self._newline + self._boundary + b"--"
        return self._body[self._at :] in (closing, closing + self._newline)

    def _seek_part(self, *, first: bool) -> None:
        """Read up to and including the next boundary line."""
        separator_seen = False
        while True:
            line, complete = self._read_line()
            tail = line[len(self._boundary) :] if line.startswith(self._boundary) else None
            if tail is not None and self._is_opening(tail, first):
                return
            if tail is not None and tail[:2] == b"--" and tail[2:].lstrip(b" \t") in (b"", self._newline):
                raise _Malformed("EOF")
            if not complete:
                raise _Malformed("multipart: NextPart: EOF")
            if separator_seen:
                raise _Malformed(f"multipart: expecting a new Part; got line {quote(go_text(line))}")
            if first:
                continue
            if line != self._newline:
                raise _Malformed(f"multipart: unexpected line in Next(): {quote(go_text(line))}")
            separator_seen = True

    def _is_opening(self, tail: bytes, first: bool) -> bool:
        rest = tail.lstrip(b" \t")
        if first and rest == b"\n":
            self._newline = b"\n"
        return rest == self._newline

    def _read_line(self) -> tuple[bytes, bool]:
        """(line with its end, whether it has one)."""
        window = bytes(self._body[self._at : self._at + _LINE_BYTES_MAX])
        end = window.find(b"\n") + 1
        if not end and self._at + _LINE_BYTES_MAX < len(self._body):
            raise _Malformed("multipart: NextPart: bufio: buffer full")
        line = window[: end or len(window)]
        self._at += len(line)
        return line, end > 0

    def _read_headers(self) -> dict[bytes, bytes]:
        """Header lines up to and including the blank one."""
        for window in (_LINE_BYTES_MAX, _PART_HEADER_BYTES_MAX):
            block = bytes(self._body[self._at : self._at + window])
            if end := _HEADERS_END.search(block):
                self._at += end.end()
                return _parse_headers(block[: end.start(1)])
        if len(block) == _PART_HEADER_BYTES_MAX:
            raise _Malformed("multipart: message too large")
        _parse_headers(block)
        raise _Malformed("EOF")

    def _find_end(self, start: int) -> int | None:
        """Where the part that starts here ends; None when its boundary never comes."""
        if self._body[start : start + len(self._boundary)] == self._boundary:
            after = start + len(self._boundary)
            if _closes_part(bytes(self._body[after : after + 2])):
                return start
        return _find_boundary(self._body, self._newline + self._boundary, start)


def _closes_part(after: bytes) -> bool:
    """COMPAT: a boundary followed by anything else is data. `after` holds up to two bytes."""
    return after[:1] in _AFTER_BOUNDARY or after == b"--"


def _find_boundary(body: memoryview, delimiter: bytes, start: int) -> int | None:
    """Position of the first delimiter that closes a part; copies no more than a window at a time."""
    overlap = len(delimiter) + 1
    refused = 0
    for at in range(start, len(body), _WINDOW_BYTES):
        window = bytes(body[at : at + _WINDOW_BYTES + overlap])
        found = window.find(delimiter)
        while 0 <= found < _WINDOW_BYTES:
            behind = found + len(delimiter)
            if _closes_part(window[behind : behind + 2]):
                return at + found
            refused += 1
            if refused > _FALSE_BOUNDARIES_MAX:
                raise _Malformed("multipart: message too large")
            found = window.find(delimiter, behind)
    return None


def _parse_headers(block: bytes) -> dict[bytes, bytes]:
    """Headers of complete lines; the last line may lack its end."""
    headers: dict[bytes, bytes] = {}
    *ended, rest = block.split(b"\n")
    lines = [line.removesuffix(b"\r") for line in ended] + ([rest] if rest else [])
    if len(lines) > _PART_HEADERS_MAX:
        raise _Malformed("multipart: message too large")
    if lines and lines[0].startswith(_BLANKS):
        raise _Malformed(f"malformed MIME header initial line: {quote(go_text(lines[0]))}")
    for line in _unfold(lines):
        name, _, value = line.partition(b":")
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise _Malformed(f"malformed MIME header line: {quote(go_text(line))}")
        headers.setdefault(name.lower(), value.strip(b" \t"))
    return headers


def _unfold(lines: list[bytes]) -> Iterator[bytes]:
    """Join continuation lines to the line they continue, which must have a colon of its own."""
    current = b""
    for line in lines:
        if line.startswith(_BLANKS):
            current = current.rstrip(b" \t") + b" " + line.strip(b" \t")
            continue
        if current:
            yield current
        if b":" not in line:
            raise _Malformed(f"malformed MIME header: missing colon: {quote(go_text(line))}")
        current = line
    if current:
        yield current
