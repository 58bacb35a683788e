"""A metrics page: the counters of one process in a file that is mapped into memory and outlives the process.

Only its owner writes a page; whoever else maps it reads numbers, since all cells are aligned and 8 bytes wide. The
successor of a killed owner goes on counting where it ended.

Layout: header cells, a directory of series, cells. The directory only grows: an entry is written behind its end and
counts from the moment the header says that the directory is longer. A crash in between leaves nothing to be seen.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

__all__ = ["CELLS_MAX", "DIRECTORY_BYTES", "MetricsPage", "Series", "read_page"]

_CELL = 8
_HEADER_CELLS = 8
_LENGTH, _DROPPED = range(2)
"""Header cells: bytes of the directory that count, series without room."""
_DIRECTORY_AT = _HEADER_CELLS * _CELL
DIRECTORY_BYTES = 48 << 10
_CELLS_FROM = _HEADER_CELLS + DIRECTORY_BYTES // _CELL
CELLS_MAX = 2048
_CELLS_END = _CELLS_FROM + CELLS_MAX
_SCRATCH_CELLS = 32
"""Behind the end: where a series without room counts, for nobody. As long as the longest series."""
_PAGE_BYTES = (_CELLS_END + _SCRATCH_CELLS) * _CELL
_PREFIX_BYTES = 2


class Series(NamedTuple):
    """One series as read: its metric's name, the values of its labels, its cells, and the last one as a float."""

    name: str
    labels: tuple[str, ...]
    cells: list[int]
    float_cell: float


class _Entry(NamedTuple):
    """A line of the directory. ``first`` is an index into all cells of the page."""

    name: str
    labels: tuple[str, ...]
    first: int
    length: int


_decoder = msgspec.msgpack.Decoder(_Entry)


class MetricsPage:
    """The owner's side. ``cells`` and ``floats`` are the same memory as integers and as doubles."""

    def __init__(self, path: str) -> None:
        """Open or create the page."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, _PAGE_BYTES)
            self._map = mmap.mmap(fd, _PAGE_BYTES)
        finally:
            os.close(fd)
        self._bytes = memoryview(self._map)
        self.cells = self._bytes.cast("q")
        self.floats = self._bytes.cast("d")
        self._free = _CELLS_FROM
        self._known: dict[tuple[str, tuple[str, ...]], int] = {}
        for entry in _entries(self._bytes, self.cells[_LENGTH]):
            self._known[entry.name, entry.labels] = entry.first
            self._free = entry.first + entry.length

    def series(self) -> Iterator[tuple[str, int]]:
        """Name and first cell of all series that are there."""
        for (name, _), first in self._known.items():
            yield name, first

    def find(self, name: str, labels: tuple[str, ...], count: int) -> int:
        """Index of the first of ``count`` cells of a series, which is added if it is new. When the page is full that
        is counted, and the cells are such as nobody reads."""
        first = self._known.get((name, labels))
        if first is None:
            first = self._add(_Entry(name, labels, self._free, count))
        return first

    def close(self) -> None:
        """Unmap; nothing may be counted any more."""
        for view in (self.cells, self.floats, self._bytes):
            view.release()
        self._map.close()

    def _add(self, entry: _Entry) -> int:
        raw = msgspec.msgpack.encode(entry)
        line = len(raw).to_bytes(_PREFIX_BYTES, "little") + raw
        length = self.cells[_LENGTH]
        if length + len(line) > DIRECTORY_BYTES or entry.first + entry.length > _CELLS_END:
            self.cells[_DROPPED] += 1
            return _CELLS_END
        at = _DIRECTORY_AT + length
        self._bytes[at : at + len(line)] = line
        self.cells[_LENGTH] = length + len(line)
        self._free += entry.length
        self._known[entry.name, entry.labels] = entry.first
        return entry.first


def read_page(path: str) -> tuple[list[Series], int]:
    """All series of somebody's page and how many series found no room in it; of one that is just being made, none.
    Raises `OSError`.

    Each number is whole; a histogram's buckets and sum may be one observation apart."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < _PAGE_BYTES:
            return [], 0
        with (
            mmap.mmap(file.fileno(), _PAGE_BYTES, prot=mmap.PROT_READ) as page,
            memoryview(page) as raw,
            raw.cast("q") as cells,
            raw.cast("d") as floats,
        ):
            return list(_read(raw, cells, floats)), cells[_DROPPED]


def _read(raw: memoryview, cells: memoryview[int], floats: memoryview[float]) -> Iterator[Series]:
    for name, labels, first, length in _entries(raw, cells[_LENGTH]):
        yield Series(name, labels, cells[first : first + length].tolist(), floats[first + length - 1])


def _entries(page: memoryview, length: int) -> Iterator[_Entry]:
    at, end = _DIRECTORY_AT, _DIRECTORY_AT + length
    while at < end:
        size = int.from_bytes(page[at : at + _PREFIX_BYTES], "little")
        at += _PREFIX_BYTES
        yield _decoder.decode(page[at : at + size])
        at += size
