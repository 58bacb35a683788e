"""A form that is read while it arrives: the rules and error texts of `volumed.http.rules.multipart`, without the body.

`FormStream` gives the parts one after the other as events: `PartStart`, pieces of data (bytes), `PartEnd`. Between two
calls it keeps no more than a line, the headers of a part, or what may be the start of a boundary.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

from volumed.http.rules.form_rules import (
    FALSE_BOUNDARIES_MAX,
    LINE_BYTES_MAX,
    PART_HEADER_BYTES_MAX,
    PARTS_MAX,
    Malformed,
    SeparatorRules,
    closes_part,
    find_headers_end,
    parse_boundary,
    parse_headers,
    part_names,
)

__all__ = ["Event", "FormStream", "PartEnd", "PartStart"]


class PartStart(NamedTuple):
    """Headers by lower-case name; names are empty when the part has none."""

    headers: dict[bytes, bytes]
    filename: str
    field_name: str


class PartEnd(NamedTuple):
    """The data of a part are over."""

    truncated: bool
    """The body ended before the part did."""


Event = PartStart | bytes | PartEnd
_Steps = Generator[Event | None, None, None]
"""None asks for more of the body."""


class FormStream:
    """`feed` the body, then `finish`. Both raise `Malformed`."""

    def __init__(self, content_type: bytes) -> None:
        """Raises `FormatError` when the type is none of a form."""
        boundary = b"--" + parse_boundary(content_type)
        self._rules = SeparatorRules(boundary)
        self._boundary = boundary
        self._buffer = bytearray()
        self._ended = False
        self._steps = self._parts()

    def feed(self, data: bytes) -> Iterator[Event]:
        """What these bytes complete."""
        self._buffer += data
        return self._run()

    def finish(self) -> Iterator[Event]:
        """The body is complete."""
        self._ended = True
        return self._run()

    def _run(self) -> Iterator[Event]:
        for event in self._steps:
            if event is None:
                return
            yield event

    def _parts(self) -> _Steps:
        for number in range(PARTS_MAX):
            yield from self._seek_part(first=number == 0)
            yield from self._read_headers()
            yield from self._read_data()
        raise Malformed("multipart: too many parts")

    def _seek_part(self, *, first: bool) -> _Steps:
        self._rules.start(first=first)
        while True:
            while not (b"\n" in self._buffer or self._ended or len(self._buffer) > LINE_BYTES_MAX):
                yield None
            end = self._buffer.find(b"\n", 0, LINE_BYTES_MAX) + 1
            if not end and len(self._buffer) > LINE_BYTES_MAX:
                raise Malformed("multipart: NextPart: bufio: buffer full")
            line = self._take(end or len(self._buffer))
            if self._rules.opens_part(line, end > 0):
                return

    def _read_headers(self) -> _Steps:
        while True:
            block = bytes(self._buffer[:PART_HEADER_BYTES_MAX])
            if end := find_headers_end(block):
                self._take(end.end())
                headers = parse_headers(block[: end.start(1)])
                yield PartStart(headers, *part_names(headers))
                return
            if len(block) == PART_HEADER_BYTES_MAX:
                raise Malformed("multipart: message too large")
            if self._ended:
                parse_headers(block)
                raise Malformed("EOF")
            yield None

    def _read_data(self) -> _Steps:
        """Data up to the boundary, which stays in the buffer."""
        while len(self._buffer) < len(self._boundary) + 2 and not self._ended:
            yield None
        after = len(self._boundary)
        if self._buffer.startswith(self._boundary) and closes_part(bytes(self._buffer[after : after + 2])):
            yield PartEnd(truncated=False)
            return
        delimiter = self._rules.newline + self._boundary
        refused = 0
        searched = 0
        while True:
            found = self._buffer.find(delimiter, searched)
            behind = found + len(delimiter)
            if found >= 0 and (behind + 2 <= len(self._buffer) or self._ended):
                if closes_part(bytes(self._buffer[behind : behind + 2])):
                    if found:
                        yield self._take(found)
                    yield PartEnd(truncated=False)
                    return
                refused += 1
                if refused > FALSE_BOUNDARIES_MAX:
                    raise Malformed("multipart: message too large")
                searched = behind
                continue
            if self._ended:
                if self._buffer:
                    yield self._take(len(self._buffer))
                yield PartEnd(truncated=True)
                return
            # What follows may still turn out to be the boundary.
            certain = found if found >= 0 else max(searched, len(self._buffer) - len(delimiter) + 1)
            if certain > 0:
                yield self._take(certain)
            searched = 0
            yield None

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken
