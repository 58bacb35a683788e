"""Rules of multipart forms, for a body that is complete (``multipart``) and for one on its way (``form_stream``).

Error texts are what the reference's form reader says, since clients print them (http.md 4.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from volumed.errors import FormatError
from volumed.formats.numbers import go_bytes, go_text, quote
from volumed.http.text.mediatype import parse_media_type

__all__ = [
    "FALSE_BOUNDARIES_MAX",
    "FIELD_BYTES_MAX",
    "LINE_BYTES_MAX",
    "PARTS_MAX",
    "PART_HEADER_BYTES_MAX",
    "Malformed",
    "SeparatorRules",
    "closes_part",
    "find_headers_end",
    "is_quoted_printable",
    "is_text_field",
    "parse_boundary",
    "parse_headers",
    "part_names",
]

_FIELDS = frozenset({"ts", "ttl", "cm"})
"""Text fields that are honoured; others are ignored."""
FIELD_BYTES_MAX = 1024
PARTS_MAX = 1000
PART_HEADER_BYTES_MAX = 64 << 10
LINE_BYTES_MAX = 4096
"""Longest line before and between parts."""
FALSE_BOUNDARIES_MAX = 100_000
"""Boundaries inside data, followed by other text."""

_PART_HEADERS_MAX = 10_000
_HEADER_NAME = re.compile(rb"[!#$%&'*+\-.0-9A-Z^_`a-z|~ ]+")
_HEADER_VALUE = re.compile(rb"[\t -~\x80-\xff]*")
_HEADERS_END = re.compile(rb"(?:^|\n)(\r?\n)")
_BLANKS = (b" ", b"\t")
_AFTER_BOUNDARY = (b"", b" ", b"\t", b"\r", b"\n")


class Malformed(FormatError):
    """The framing of the form is broken."""


class SeparatorRules:
    """What the lines before a part mean. ``boundary`` includes its two dashes."""

    def __init__(self, boundary: bytes) -> None:
        self._boundary = boundary
        self.newline = b"\r\n"
        self._first = True
        self._separator_seen = False

    def start(self, *, first: bool) -> None:
        """The next line is the first one of the body, or behind a part."""
        self._first = first
        self._separator_seen = False

    def opens_part(self, line: bytes, complete: bool) -> bool:
        """Whether a part starts behind this line, which is ``complete`` if its end is there. Raises `Malformed`."""
        tail = line[len(self._boundary) :] if line.startswith(self._boundary) else None
        if tail is not None and self._is_opening(tail):
            return True
        if tail is not None and tail[:2] == b"--" and tail[2:].lstrip(b" \t") in (b"", self.newline):
            raise Malformed("EOF")
        if not complete:
            raise Malformed("multipart: NextPart: EOF")
        if self._separator_seen:
            raise Malformed(f"multipart: expecting a new Part; got line {quote(go_text(line))}")
        if not self._first:
            if line != self.newline:
                raise Malformed(f"multipart: unexpected line in Next(): {quote(go_text(line))}")
            self._separator_seen = True
        return False

    def _is_opening(self, tail: bytes) -> bool:
        rest = tail.lstrip(b" \t")
        if self._first and rest == b"\n":
            self.newline = b"\n"
        return rest == self.newline


def parse_boundary(content_type: bytes) -> bytes:
    """The boundary of a form. Raises `FormatError` when the type is none of a form."""
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


def find_headers_end(block: bytes) -> re.Match[bytes] | None:
    """The blank line behind the headers of a part, as group 1."""
    return _HEADERS_END.search(block)


def part_names(headers: dict[bytes, bytes]) -> tuple[str, str]:
    """(file name, field name) of a part; a disposition that cannot be read gives none."""
    try:
        _, parameters = parse_media_type(go_text(headers.get(b"content-disposition", b"")))
    except FormatError:
        return "", ""
    return parameters.get("filename", ""), parameters.get("name", "")


def is_text_field(filename: str, field_name: str) -> bool:
    """Whether the part is a text field that is honoured, if it is short enough (`FIELD_BYTES_MAX`)."""
    return field_name in _FIELDS and not filename


def is_quoted_printable(headers: dict[bytes, bytes]) -> bool:
    """Whether the data of a part are to be decoded."""
    return headers.get(b"content-transfer-encoding", b"").lower() == b"quoted-printable"


def closes_part(after: bytes) -> bool:
    """COMPAT: a boundary followed by anything else is data. `after` holds up to two bytes."""
    return after[:1] in _AFTER_BOUNDARY or after == b"--"


def parse_headers(block: bytes) -> dict[bytes, bytes]:
    """Headers of complete lines; the last line may lack its end."""
    headers: dict[bytes, bytes] = {}
    *ended, rest = block.split(b"\n")
    lines = [line.removesuffix(b"\r") for line in ended] + ([rest] if rest else [])
    if len(lines) > _PART_HEADERS_MAX:
        raise Malformed("multipart: message too large")
    if lines and lines[0].startswith(_BLANKS):
        raise Malformed(f"malformed MIME header initial line: {quote(go_text(lines[0]))}")
    for line in _unfold(lines):
        name, _, value = line.partition(b":")
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise Malformed(f"malformed MIME header line: {quote(go_text(line))}")
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
            raise Malformed(f"malformed MIME header: missing colon: {quote(go_text(line))}")
        current = line
    if current:
        yield current
