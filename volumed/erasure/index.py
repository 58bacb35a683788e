"""`.ecx`: the index of an erasure coded volume, sorted by needle id (docs/spec/erasure-coding.md 3.2).

Sealed when the volume is encoded; afterwards only `fold` changes it, the size of rows whose needle was deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple

from volumed.erasure.errors import BadEcIndex
from volumed.formats.idx import DELETED, ROW_LENGTH, Row, decode_rows, encode_rows, pack_row, unpack_row
from volumed.formats.superblock import SUPERBLOCK_LENGTH
from volumed.storage.compaction_plan import live_needles
from volumed.storage.fileio import Buffer, File, FileIO
from volumed.storage.index_scan import record_lengths

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EcIndexTotals", "find_row", "fold", "folded", "index_totals", "live_bytes", "seal_index", "search_index"]

_BLOCK_ROWS = 1 << 16
_PAGE_ROWS = 240
"""Rows of the last read of a search; about a page."""
_FENCES_MAX = 256
"""Of an index; about 20 KB of memory."""
_SIZE_LENGTH = 4


class EcIndexTotals(NamedTuple):
    """What an index adds up to (5.10)."""

    live: int
    deleted: int
    content_bytes: int
    """Sum of the sizes, whatever their sign; that of a row that was folded in is gone."""


def seal_index(idx: bytes, width: int) -> bytes:
    """The `.ecx` of an `.idx`: one row per live needle. A row that is cut short at the end is left out. About 60 bytes
    of memory per row for the moment."""
    whole = len(idx) - len(idx) % ROW_LENGTH[width]
    live = live_needles(*decode_rows(memoryview(idx)[:whole], width))
    return encode_rows(*live, width)


def find_row(files: FileIO, ecx: File, key: int, width: int) -> Row | None:
    """The row of a needle, whatever its size. Searches in the file: some reads of one row and one of a page."""
    return search_index(lambda at, length: files.read_at(ecx, at, length), files.size(ecx), key, width, {})


def search_index(
    read: Callable[[int, int], Buffer], length: int, key: int, width: int, fences: dict[int, int]
) -> Row | None:
    """The same with ``read(offset, length)`` on an index of ``length`` bytes; raises what that raises. The first steps,
    which are the same for many needles, are kept in ``fences``: ids by the number of the row, for one index only."""
    row_length = ROW_LENGTH[width]
    low, high = 0, length // row_length
    kept = high // (_FENCES_MAX // 2)  # there are twice as many steps at most that are wider
    while high - low > _PAGE_ROWS:
        middle = (low + high) // 2
        fence = fences.get(middle)
        if fence is None:
            fence = unpack_row(bytes(read(middle * row_length, row_length)), 0, width)[0]
            if high - low > kept:
                fences[middle] = fence
        if fence <= key:
            low = middle
        else:
            high = middle
    page = bytes(read(low * row_length, (high - low) * row_length))
    wanted = key.to_bytes(8, "big")
    at = page.find(wanted)
    while at >= 0 and at % row_length:
        at = page.find(wanted, at + 1)
    return unpack_row(page, at, width) if at >= 0 else None


def fold(files: FileIO, ecx: File, deleted: Collection[int], width: int) -> None:
    """Mark the rows of deleted needles, and flush; unknown ids do not matter.

    Raises `OSError`. Repeating it after a crash does no harm.
    """
    import numpy as np

    row_length = ROW_LENGTH[width]
    wanted = np.fromiter(deleted, np.uint64, len(deleted))
    mark = pack_row(0, 0, DELETED, width)[-_SIZE_LENGTH:]
    for first, (keys, _, _) in _blocks(files, ecx, width):
        # Those that are marked too: a flush that failed may have lost it, though the page cache still has it.
        for position in np.flatnonzero(np.isin(keys, wanted)).tolist():
            files.write_at(ecx, (first + position + 1) * row_length - _SIZE_LENGTH, [mark])
    files.sync(ecx)


def folded(files: FileIO, ecx: File, width: int) -> list[int]:
    """Needles that are marked as deleted; ascending. Raises `OSError`."""
    return [key for _, (keys, _, sizes) in _blocks(files, ecx, width) for key in keys[sizes < 0].tolist()]


def live_bytes(files: FileIO, ecx: File, width: int, version: int) -> int | None:
    """Where the last live record ends in the `.dat`, at least behind the superblock; None when nothing is live.

    Raises `OSError`, `BadEcIndex`: rows are cut short.
    """
    if files.size(ecx) % ROW_LENGTH[width]:
        raise BadEcIndex.odd_length(files.size(ecx))
    end = None
    for _, (_, offsets, sizes) in _blocks(files, ecx, width):
        live = (offsets != 0) & (sizes >= 0)
        if live.any():
            ends = offsets[live] + record_lengths(sizes[live], version)
            end = max(end or SUPERBLOCK_LENGTH, int(ends.max()))
    return end


def index_totals(files: FileIO, ecx: File, width: int) -> EcIndexTotals:
    """Counters of an index. Raises `OSError`."""
    import numpy as np

    live = deleted = content = 0
    for _, (_, _, sizes) in _blocks(files, ecx, width):
        is_live = sizes >= 0
        live += int(is_live.sum())
        deleted += int((~is_live).sum())
        content += int(np.abs(sizes[sizes != DELETED]).sum(dtype=np.int64))
    return EcIndexTotals(live, deleted, content)


def _blocks(
    files: FileIO, ecx: File, width: int
) -> Iterator[tuple[int, tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]]]:
    """(number of the first row, columns) of the whole rows, block by block."""
    row_length = ROW_LENGTH[width]
    count = files.size(ecx) // row_length
    for first in range(0, count, _BLOCK_ROWS):
        rows = min(_BLOCK_ROWS, count - first)
        yield first, decode_rows(files.read_at(ecx, first * row_length, rows * row_length), width)
