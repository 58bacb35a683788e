"""Is a volume what its index says? (docs/spec/grpc.md 3.29)

The files are looked at as they are now: `.idx` under its name and with its present length, records where the rows say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from volumed.errors import VolumedError
from volumed.formats.idx import ROW_LENGTH
from volumed.formats.needle import decode_record
from volumed.formats.superblock import SUPERBLOCK_LENGTH
from volumed.storage.compaction_check import plainly_intact
from volumed.storage.index_check import FINDINGS_MAX, IndexRows, overlaps
from volumed.storage.mounted import MountedVolume
from volumed.storage.record_check import PIECE_BYTES, check_record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Findings", "scrub_volume"]


class Findings(NamedTuple):
    """What is wrong with a volume, and how many rows its index has."""

    rows: int
    texts: list[str]


def scrub_volume(volume: MountedVolume, index_length: int | None, *, full: bool, check: Callable[[], None]) -> Findings:
    """Look at the first ``index_length`` bytes of the index, None when there is none, and with ``full`` at every record
    that they name. ``check`` is called often, and raises to stop. Raises `VolumedError`."""
    volume_id = volume.state.volume_id
    path, length = volume.index_path, index_length
    if length is None:
        reason = "no such file or directory"
        return Findings(0, [f"failed to open IDX file {path} for volume {volume_id}: open {path}: {reason}"])
    dat_end = volume.state.end or SUPERBLOCK_LENGTH
    if not length:
        empty = f"zero-size IDX file for volume {volume_id} with store size {dat_end}"
        return Findings(0, [empty] if dat_end > SUPERBLOCK_LENGTH else [])
    row_length = ROW_LENGTH[volume.offset_width]
    whole = length - length % row_length
    rows = IndexRows.decode(volume.read_index(whole), volume.offset_width, volume.version)
    texts = [] if whole == length else [f"expected an index file of size {length}, got {whole}"]
    texts += overlaps(rows)
    if full:
        texts += _damaged(volume, rows, check)
        texts += _size_difference(volume_id, dat_end, rows)
    return Findings(len(rows.keys), texts[:FINDINGS_MAX])


def _size_difference(volume_id: int, dat_end: int, rows: IndexRows) -> list[str]:
    needed, count = SUPERBLOCK_LENGTH + int(rows.lengths.sum()), len(rows.keys)
    if needed > dat_end:
        return [
            f"data file for volume {volume_id} is smaller ({dat_end}) than the {count} needles it contains ({needed})"
        ]
    if needed < dat_end:
        return [
            f"data file size for volume {volume_id} ({dat_end}) doesn't match the size for {count} needles read "
            f"({needed})"
        ]
    return []


def _damaged(volume: MountedVolume, rows: IndexRows, check: Callable[[], None]) -> list[str]:
    """Texts in the order of the rows; the records are read in the order of the file."""
    found: dict[int, str] = {}
    for group in _groups(rows):
        check()
        for row, error in _check_group(volume, rows, group):
            found[row] = f"failed to read needle {rows.keys[row]} on volume {volume.state.volume_id}: {error.text}"
        if len(found) > FINDINGS_MAX:
            break
    return [found[row] for row in sorted(found)]


def _groups(rows: IndexRows) -> Iterator[NDArray[np.int64]]:
    """Row numbers of records that lie together within a block; a longer one comes alone."""
    import numpy as np

    stored = np.flatnonzero(rows.lengths)
    order = stored[np.argsort(rows.offsets[stored], kind="stable")]
    offsets = rows.offsets[order]
    ends = np.maximum.accumulate(offsets + rows.lengths[order]) if len(order) else offsets
    first = 0
    while first < len(order):
        limit = offsets[first] + PIECE_BYTES
        behind = max(first + 1, int(np.searchsorted(ends, limit, side="right")))
        yield order[first:behind]
        first = behind


def _check_group(
    volume: MountedVolume, rows: IndexRows, group: NDArray[np.int64]
) -> Iterator[tuple[int, VolumedError]]:
    import numpy as np

    start = int(rows.offsets[group[0]])
    starts = rows.offsets[group] - start
    ends = starts + rows.lengths[group]
    if ends[-1] > PIECE_BYTES:
        size = int(rows.sizes[group[0]])
        yield from _failure(int(group[0]), check_record, volume.read, volume.version, size, start)
        return
    try:
        block = volume.read_some(start, int(ends.max()))
    except VolumedError as error:
        yield from ((int(row), error) for row in group)
        return
    whole = ends <= len(block)
    sizes = np.maximum(rows.sizes[group], 0)
    good = np.zeros(len(group), dtype=bool)
    good[whole] = plainly_intact(block, starts[whole], sizes[whole], volume.version)
    for at in np.flatnonzero(~good):
        row, record = int(group[at]), block[starts[at] : ends[at]]
        offset, size = int(rows.offsets[row]), int(rows.sizes[row])
        yield from _failure(row, decode_record, record, volume.version, size, offset)


def _failure(row: int, look: Callable[..., object], *arguments: object) -> Iterator[tuple[int, VolumedError]]:
    """The row with the error that looking raises, if it does."""
    try:
        look(*arguments)
    except VolumedError as error:
        yield row, error
