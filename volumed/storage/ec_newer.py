"""Which records of a volume are newer than the shards of its id (docs/spec/erasure-coding.md R10).

Theory of operation
    Needles in shards are never replaced: a record of the volume that is not the one in the shards is newer. A deletion
    in the shards has no time, and the volume may still have what it is about. It does not count for what was written
    after the encode, because later deletions go to both.

    While nothing has moved the volume's records, one that lies where the index of the shards says is that record, and
    nothing is read. After a vacuum or an earlier decode the ends of both records are compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple

from volumed.erasure.columns import Progress
from volumed.formats.idx import decode_rows
from volumed.formats.superblock import SuperBlock
from volumed.storage.fileio import File, FileIO
from volumed.storage.index_scan import MapEntries, record_lengths
from volumed.storage.record_marks import RecordMarks, read_marks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Comparison", "Restored", "VolumeRows", "written_after_encode"]

_BATCH_ROWS = 1 << 18


class Restored(NamedTuple):
    """What the shards say."""

    superblock: SuperBlock
    dat: File
    """The volume that was encoded, as far as its live needles reach."""
    ecx: File
    deleted: Collection[int]
    """By journals, which the index does not know yet."""
    encode_ts_ns: int
    """0: unknown."""
    dat_size: int
    """Of the `.dat` that was encoded; 0: unknown."""


class VolumeRows(NamedTuple):
    """What the volume has."""

    superblock: SuperBlock
    dat: File
    entries: MapEntries


def written_after_encode(times: NDArray[np.uint64], encode_ts_ns: int) -> NDArray[np.bool_]:
    """Whether records were appended after an encode run began. Unknown times and an unknown run, both 0: no."""
    found: NDArray[np.bool_] = (times > encode_ts_ns) & (encode_ts_ns > 0)
    return found


class Comparison:
    """A volume and shards of the same version. All arrays have one element per needle of the volume."""

    def __init__(self, files: FileIO, volume: VolumeRows, shards: Restored, width: int, progress: Progress) -> None:
        """Raises `OSError`."""
        import numpy as np

        self._files = files
        self._volume = volume
        self._shards = shards
        self._progress = progress
        keys, offsets, sizes = decode_rows(files.read_at(shards.ecx, 0, files.size(shards.ecx)), width)
        mine = volume.entries.keys
        at = np.minimum(np.searchsorted(keys, mine), len(keys) - 1)
        journaled = np.fromiter(shards.deleted, np.uint64, len(shards.deleted))
        self._is_known = keys[at] == mine
        self._offsets, self._sizes = offsets[at], sizes[at]
        self._is_deleted = self._is_known & ((self._sizes < 0) | np.isin(mine, journaled))

    def deleted(self) -> NDArray[np.bool_]:
        """What the volume has deleted, and the index of the shards has not."""
        found: NDArray[np.bool_] = (self._volume.entries.sizes < 0) & self._is_known & (self._sizes >= 0)
        return found

    def newer(self) -> NDArray[np.bool_]:
        """What the volume has of its own, or newer. Raises `OSError`, `EcInterrupted`."""
        import numpy as np

        _, offsets, sizes = self._volume.entries
        # A crash may have left rows of records that never reached the disk.
        ends = offsets + record_lengths(np.abs(sizes), self._shards.superblock.version)
        is_live = (sizes >= 0) & (ends <= self._files.size(self._volume.dat))
        in_both = is_live & self._is_known & ~self._is_deleted
        is_alike = in_both & (sizes == self._sizes)
        in_place = self._is_known & (offsets == self._offsets)
        is_unmoved = self._is_unmoved(is_alike & in_place)
        if is_unmoved:
            is_alike &= ~in_place
        is_later = self._written_later(is_live & self._is_deleted & ~(in_place & is_unmoved), is_unmoved=is_unmoved)
        is_own: NDArray[np.bool_] = (is_live & ~self._is_known) | (in_both & (sizes != self._sizes))
        return is_own | self._rewritten(is_alike) | is_later

    def _is_unmoved(self, in_place: NDArray[np.bool_]) -> bool:
        """Whether the volume is the file that was encoded, with what was appended since: then so is all before the last
        record that is the same. Another volume of the id may have the same revision."""
        import numpy as np

        found = self._volume.superblock.compaction_revision == self._shards.superblock.compaction_revision
        if not found or not in_place.any():
            return False
        last = np.zeros_like(in_place)
        last[np.argmax(np.where(in_place, self._volume.entries.offsets, 0))] = True
        return not self._rewritten(last).any()

    def _rewritten(self, which: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Those of ``which`` that are not the record in the shards."""
        import numpy as np

        entries, found = self._volume.entries, np.zeros_like(which)
        for rows in self._batches(which):
            mine = self._marks(self._volume.dat, entries.offsets[rows], entries.sizes[rows])
            theirs = self._marks(self._shards.dat, self._offsets[rows], entries.sizes[rows])
            found[rows] = mine.are_of(entries.keys[rows], entries.sizes[rows]) & ~mine.are_same(theirs)
        return found

    def _written_later(self, which: NDArray[np.bool_], *, is_unmoved: bool) -> NDArray[np.bool_]:
        """Those of ``which`` that were written after the encode."""
        import numpy as np

        entries, found = self._volume.entries, np.zeros_like(which)
        behind = self._shards.dat_size if is_unmoved else 0
        for rows in self._batches(which):
            mine = self._marks(self._volume.dat, entries.offsets[rows], entries.sizes[rows])
            is_behind = (entries.offsets[rows] >= behind) & (behind > 0)  # clocks may be set back
            is_later = written_after_encode(mine.times, self._shards.encode_ts_ns) | is_behind
            found[rows] = mine.are_of(entries.keys[rows], entries.sizes[rows]) & is_later
        return found

    def _batches(self, which: NDArray[np.bool_]) -> Iterator[NDArray[np.intp]]:
        """Their positions, in the order of their records."""
        import numpy as np

        rows = np.flatnonzero(which)
        rows = rows[np.argsort(self._volume.entries.offsets[rows])]
        for first in range(0, len(rows), _BATCH_ROWS):
            yield rows[first : first + _BATCH_ROWS]

    def _marks(self, dat: File, offsets: NDArray[np.int64], sizes: NDArray[np.int32]) -> RecordMarks:
        return read_marks(self._files, dat, offsets, sizes, self._shards.superblock.version, self._progress)
