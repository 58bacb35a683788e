"""What the rows of an `.idx` file add up to: map entries, counters, marks. Pure computation on arrays.

Rows are applied in order and later ones win (docs/spec/storage.md 4.1, 4.2); counters follow the load rule
(docs/spec/grpc.md 3.33). The results are those of a loop over the rows, which would take seconds per million.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volumed.formats.idx import DELETED
from volumed.formats.needle import padding_length, record_length
from volumed.storage.map_records import Counters, VolumeProgress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MapEntries", "apply_row", "live_deletions", "record_lengths", "scan_rows"]

_ALIGNMENT = 8


class MapEntries(NamedTuple):
    """One entry per key that was ever put: ascending keys, offset of the last put, its size (negative = deleted)."""

    keys: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int32]


def scan_rows(
    keys: NDArray[np.uint64],
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int32],
    version: int,
    progress: VolumeProgress,
) -> MapEntries:
    """Entries that the rows lead to; counters and marks are set in ``progress``, which must be fresh."""
    import numpy as np

    if not len(keys):
        return MapEntries(keys, offsets, sizes)
    _set_marks(keys, offsets, sizes, version, progress)
    order = np.argsort(keys, kind="stable")
    keys, offsets, sizes = keys[order], offsets[order], sizes[order]
    live = (offsets != 0) & (sizes >= 0)
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys[1:] != keys[:-1]
    progress.counters = _count(sizes, live, first)

    starts = np.flatnonzero(first)
    ends = np.append(starts[1:], len(keys)) - 1
    last_put = np.maximum.reduceat(np.where(live, np.arange(len(keys)), -1), starts)
    known = last_put >= 0
    last_put, deleted = last_put[known], ~live[ends[known]]
    put_sizes = sizes[last_put]
    gone = np.where(put_sizes == 0, DELETED, -put_sizes)
    entry_sizes = np.where(deleted, gone, put_sizes).astype(np.int32)
    return MapEntries(keys[last_put], offsets[last_put], entry_sizes)


def apply_row(
    key: int, offset: int, size: int, old: tuple[int, int] | None, version: int, progress: VolumeProgress
) -> tuple[int, int] | None:
    """One row after those that ``progress`` stands for: the key's new entry, None = as before."""
    old_size = None if old is None else old[1]
    progress.max_key = max(progress.max_key, key)
    if offset >= progress.tail_offset and offset:
        progress.tail_key, progress.tail_offset, progress.tail_size = key, offset, size
    if offset and size >= 0:
        progress.counters.put(size, old_size)
        if size:
            end = offset + record_length(size, version)
            progress.max_record_end = max(progress.max_record_end, end)
        return offset, size
    progress.counters.delete(old_size)
    if old is None or old[1] < 0:
        return None
    return old[0], -old[1] or DELETED


def live_deletions(keys: NDArray[np.uint64], offsets: NDArray[np.int64], sizes: NDArray[np.int32]) -> int:
    """How often a row ended the life of a needle that is not empty: what the reference counts while it runs."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    keys, offsets, sizes = keys[order], offsets[order], sizes[order]
    was_live = (offsets[:-1] != 0) & (sizes[:-1] > 0)
    return int(np.count_nonzero(was_live & (keys[1:] == keys[:-1])))


def _set_marks(
    keys: NDArray[np.uint64],
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int32],
    version: int,
    progress: VolumeProgress,
) -> None:
    import numpy as np

    progress.max_key = int(keys.max())
    tail = len(offsets) - 1 - int(np.argmax(offsets[::-1]))
    if offsets[tail]:
        progress.tail_key, progress.tail_offset = int(keys[tail]), int(offsets[tail])
        progress.tail_size = int(sizes[tail])
    stored = (offsets != 0) & (sizes > 0)
    if stored.any():
        progress.max_record_end = int((offsets[stored] + record_lengths(sizes[stored], version)).max())


def record_lengths(sizes: NDArray[np.int32], version: int) -> NDArray[np.int64]:
    """`volumed.formats.needle.record_length` of live needles."""
    import numpy as np

    fixed = record_length(0, version) - padding_length(0, version)
    lengths: NDArray[np.int64] = (sizes.astype(np.int64) + fixed | _ALIGNMENT - 1) + 1
    return lengths


def _count(sizes: NDArray[np.int32], live: NDArray[np.bool_], first: NDArray[np.bool_]) -> Counters:
    """Counters over rows sorted by key, in file order within a key."""
    import numpy as np

    wide = sizes.astype(np.int64)
    was_live = np.zeros(len(sizes), dtype=bool)
    was_live[1:] = live[:-1] & ~first[1:]
    replaced = np.flatnonzero(was_live)
    return Counters(
        file_count=int(np.count_nonzero(live)),
        content_bytes=int(wide[live].sum()),
        deleted_count=int(np.count_nonzero(was_live & live) + np.count_nonzero(~live)),
        deleted_bytes=int(wide[replaced - 1].sum()),
    )
