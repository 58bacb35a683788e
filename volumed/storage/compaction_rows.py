"""The live needles of an index, read piece by piece: at the worst, a volume has as many rows as memory can bear."""

from __future__ import annotations

from volumed.formats.idx import ROW_LENGTH, decode_rows, row_count
from volumed.storage.compaction_plan import LiveNeedles, live_needles
from volumed.storage.fileio import File, FileIO

__all__ = ["read_live_needles"]

_PIECE_ROWS = 1 << 18


def read_live_needles(files: FileIO, idx: File, idx_bytes: int, width: int) -> LiveNeedles | None:
    """What the first ``idx_bytes`` of an index leave alive; None when it is shorter. Raises `OSError`."""
    import numpy as np

    count = row_count(idx_bytes, width)
    keys = np.empty(count, np.uint64)
    offsets = np.empty(count, np.int64)
    sizes = np.empty(count, np.int32)
    for first in range(0, count, _PIECE_ROWS):
        last = min(first + _PIECE_ROWS, count)
        length = (last - first) * ROW_LENGTH[width]
        content = files.read_at(idx, first * ROW_LENGTH[width], length)
        if len(content) < length:
            return None
        keys[first:last], offsets[first:last], sizes[first:last] = decode_rows(content, width)
    return live_needles(keys, offsets, sizes)
