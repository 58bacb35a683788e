"""Is a volume what its index says? (docs/spec/grpc.md 3.29)

The files are looked at as they are now: `.idx` under its name and with its present length, records where the rows say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from volumed.errors import CorruptNeedle, VolumedError
from volumed.formats.checksum import crc32c, matches
from volumed.formats.idx import ROW_LENGTH, decode_rows
from volumed.formats.needle import HEADER_LENGTH, decode_header, decode_record, padding_length, record_length
from volumed.formats.superblock import SUPERBLOCK_LENGTH
from volumed.storage.compaction_check import plainly_intact
from volumed.storage.long_record import read_layout
from volumed.storage.mounted import MountedVolume

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Findings", "scrub_volume"]

_BLOCK_BYTES = 4 << 20
_FINDINGS_MAX = 10_000
"""Of one volume; who has more has no use for them."""


class Findings(NamedTuple):
    """What is wrong with a volume, and how many rows its index has."""

    rows: int
    texts: list[str]


class _Rows(NamedTuple):
    """All rows of an index, in file order."""

    keys: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int32]
    lengths: NDArray[np.int64]
    """Of the records, in bytes; 0 for a deletion that has none."""


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
    rows = _decode(volume.read_index(whole), volume)
    texts = [] if whole == length else [f"expected an index file of size {length}, got {whole}"]
    texts += _overlaps(rows)
    if full:
        texts += _damaged(volume, rows, check)
        texts += _size_difference(volume_id, dat_end, rows)
    return Findings(len(rows.keys), texts[:_FINDINGS_MAX])


def _decode(content: bytes, volume: MountedVolume) -> _Rows:
    import numpy as np

    keys, offsets, sizes = decode_rows(content, volume.offset_width)
    fixed = record_length(0, volume.version) - padding_length(0, volume.version)
    lengths = (np.maximum(sizes, 0).astype(np.int64) + fixed | 7) + 1
    lengths[(offsets == 0) & (sizes < 0)] = 0
    return _Rows(keys, offsets, sizes, lengths)


def _overlaps(rows: _Rows) -> list[str]:
    import numpy as np

    stored = np.flatnonzero(rows.lengths)
    order = stored[np.argsort(rows.offsets[stored], kind="stable")]
    starts, ends = rows.offsets[order], rows.offsets[order] + rows.lengths[order] - 1
    return [
        f"needle {rows.keys[order[at]]} (#{order[at] + 1}) at [{starts[at]}-{ends[at]}] overlaps "
        f"needle {rows.keys[order[at - 1]]} at [{starts[at - 1]}-{ends[at - 1]}]"
        for at in np.flatnonzero(starts[1:] <= ends[:-1])[:_FINDINGS_MAX] + 1
    ]


def _size_difference(volume_id: int, dat_end: int, rows: _Rows) -> list[str]:
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


def _damaged(volume: MountedVolume, rows: _Rows, check: Callable[[], None]) -> list[str]:
    """Texts in the order of the rows; the records are read in the order of the file."""
    found: dict[int, str] = {}
    for group in _groups(rows):
        check()
        for row, error in _check_group(volume, rows, group):
            found[row] = f"failed to read needle {rows.keys[row]} on volume {volume.state.volume_id}: {error.text}"
        if len(found) > _FINDINGS_MAX:
            break
    return [found[row] for row in sorted(found)]


def _groups(rows: _Rows) -> Iterator[NDArray[np.int64]]:
    """Row numbers of records that lie together within a block; a longer one comes alone."""
    import numpy as np

    stored = np.flatnonzero(rows.lengths)
    order = stored[np.argsort(rows.offsets[stored], kind="stable")]
    offsets = rows.offsets[order]
    ends = np.maximum.accumulate(offsets + rows.lengths[order]) if len(order) else offsets
    first = 0
    while first < len(order):
        limit = offsets[first] + _BLOCK_BYTES
        behind = max(first + 1, int(np.searchsorted(ends, limit, side="right")))
        yield order[first:behind]
        first = behind


def _check_group(volume: MountedVolume, rows: _Rows, group: NDArray[np.int64]) -> Iterator[tuple[int, VolumedError]]:
    import numpy as np

    start = int(rows.offsets[group[0]])
    starts = rows.offsets[group] - start
    ends = starts + rows.lengths[group]
    if ends[-1] > _BLOCK_BYTES:
        yield from _failure(int(group[0]), _check_long, volume, start, int(rows.sizes[group[0]]))
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


def _check_long(volume: MountedVolume, offset: int, size: int) -> None:
    """A record in pieces. Raises `CorruptNeedle`, `DiskError`."""
    _, key, found = decode_header(volume.read(offset, HEADER_LENGTH))
    if found != size:
        raise CorruptNeedle.size_mismatch(offset, key, found, size)
    record = read_layout(volume.read, volume.version, size, offset)
    checksum = 0
    for at in range(record.data_start, record.data_end, _BLOCK_BYTES):
        length = min(_BLOCK_BYTES, record.data_end - at)
        checksum = crc32c(volume.read(offset + at, length), checksum)
    if not matches(checksum, record.needle.checksum):
        raise CorruptNeedle.crc(key, checksum, record.needle.checksum)
