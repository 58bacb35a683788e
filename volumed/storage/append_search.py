"""Where the records newer than a time begin: a binary search over the rows of `.idx` (docs/spec/storage.md 8).

It takes for granted that append times ascend with the rows. After a vacuum, whose rows are in key order, the place
found is only near; whoever follows a volume compares compaction revisions, and bears to get a record twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from volumed.errors import CorruptNeedle, FormatError
from volumed.formats.idx import ROW_LENGTH, unpack_row
from volumed.formats.needle import append_time_offset
from volumed.storage.fileio import File, FileIO

__all__ = ["AppendTimes", "find_first"]

_TIME_LENGTH = 8
_VERSION_WITH_TIME = 3


def find_first(rows: int, offset_of: Callable[[int], int], is_newer: Callable[[int], bool]) -> int | None:
    """The first row that is newer, None when there is none. Rows with offset 0 have no record, so no time: they are
    stepped over. ``is_newer`` must ascend over the rows that have one."""
    low, high = 0, rows
    found = None
    while low < high:
        middle = (low + high) // 2
        probe = middle
        while probe < high and not offset_of(probe):
            probe += 1
        if probe == high:
            high = middle
        elif is_newer(probe):
            found, high = probe, middle
        else:
            low = probe + 1
    return found


class AppendTimes(NamedTuple):
    """The append times of a volume's records as its files tell them. Reads the disk."""

    io: FileIO
    dat: File
    idx: File
    idx_bytes: int
    """How much of `.idx` counts."""
    version: int
    offset_width: int

    def first_newer(self, since_ns: int) -> int | None:
        """Offset of the first record that was appended later, None when there is none. Raises `FormatError`,
        `CorruptNeedle`, `OSError`."""
        row_length = ROW_LENGTH[self.offset_width]
        if self.idx_bytes % row_length:
            raise FormatError(f"unexpected file {self.idx.path} size: {self.idx_bytes}")
        found = find_first(
            self.idx_bytes // row_length,
            lambda row: self._row(row)[0],
            lambda row: self._time(*self._row(row)) > since_ns,
        )
        return None if found is None else self._row(found)[0]

    def last(self) -> int:
        """When the record of the last row was appended, a tombstone as well as any other; rows without a record are
        stepped over. 0 when there is none, or when the version keeps no times. Raises as `first_newer`."""
        for row in range(self.idx_bytes // ROW_LENGTH[self.offset_width] - 1, -1, -1):
            offset, size = self._row(row)
            if offset:
                return self._time(offset, size)
        return 0

    def _row(self, row: int) -> tuple[int, int]:
        """Offset and size."""
        length = ROW_LENGTH[self.offset_width]
        raw = self.io.read_at(self.idx, row * length, length)
        _, offset, size = unpack_row(raw, 0, self.offset_width)
        return offset, size

    def _time(self, offset: int, size: int) -> int:
        if self.version < _VERSION_WITH_TIME:
            return 0
        raw = self.io.read_at(self.dat, offset + append_time_offset(size), _TIME_LENGTH)
        if len(raw) < _TIME_LENGTH:
            raise CorruptNeedle.eof()
        return int.from_bytes(raw, "big")
