"""A vacuum's entries in the needle map: prepared under a map id that nobody reads, in slices short enough for the loop
thread to do between other things."""

from __future__ import annotations

from collections.abc import Sequence

from volumed.formats.idx import Row, decode_rows
from volumed.storage.compaction import Compacted
from volumed.storage.index_scan import apply_row
from volumed.storage.needle_map import NeedleMap

__all__ = ["SLICE_ROWS", "NewEntries", "drop_slice"]

SLICE_ROWS = 4096
"""Takes a few milliseconds."""


class NewEntries:
    """Used on the loop thread. Everything raises `MapError`; what it leaves then, `drop_slice` removes."""

    def __init__(self, needle_map: NeedleMap, offset_width: int, version: int) -> None:
        self._map = needle_map
        self._width = offset_width
        self._version = version
        with needle_map.begin() as txn:
            self.map_id = txn.next_generation()

    def add(self, content: bytes) -> None:
        """Rows of the new index as the copying wrote them: one per key, ascending, all live."""
        with self._map.begin() as txn:
            txn.put_entries(self.map_id, *decode_rows(content, self._width))

    def follow(self, rows: Sequence[Row], new: Compacted) -> None:
        """Rows that came behind, in order; counters and marks of ``new`` follow too."""
        with self._map.begin() as txn:
            for key, offset, size in rows:
                known = txn.get(self.map_id, key)
                entry = apply_row(key, offset, size, known, self._version, new.progress)
                if entry is not None:
                    txn.put(self.map_id, key, *entry)


def drop_slice(needle_map: NeedleMap, map_id: int) -> bool:
    """Remove some entries of a map id that is not used any more; whether there are others. Raises `MapError`."""
    with needle_map.begin() as txn:
        return txn.drop_entries(map_id, SLICE_ROWS)
