"""What a volume has that its shards do not know, when they become a volume in its place (docs/spec/erasure-coding.md
5.9, R10).

A volume stays beside its shards after an encode, and lies there again after a decode. What it has taken since then is
nowhere else. Which of it is newer, `volumed.storage.ec_newer` says.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from volumed.erasure.columns import Progress
from volumed.errors import DiskError
from volumed.formats.idx import ROW_LENGTH, Row, decode_rows, pack_rows
from volumed.formats.needle import record_length
from volumed.formats.superblock import SUPERBLOCK_LENGTH_MAX, SuperBlock
from volumed.storage.ec_newer import Comparison, Restored, VolumeRows
from volumed.storage.fileio import File, FileIO
from volumed.storage.index_scan import scan_rows
from volumed.storage.map_records import VolumeProgress
from volumed.storage.site import VolumePaths

__all__ = ["Kept", "Present", "append_kept", "find_present", "newer_in"]


class Present(NamedTuple):
    """A volume at one moment."""

    dat: File
    idx: File
    idx_bytes: int


class Kept(NamedTuple):
    """What is to be taken over."""

    rows: list[Row]
    """Of needles, in the order of their records."""
    deleted: frozenset[int]

    def length(self, version: int) -> int:
        """Bytes of the records."""
        return sum(record_length(size, version) for _, _, size in self.rows)


def find_present(files: FileIO, places: Collection[VolumePaths], width: int) -> Present | None:
    """A volume that nobody has mounted; of several places for its index the first counts. Raises `OSError`."""
    for paths in places:
        try:
            dat = files.open(paths.data(".dat"), writable=False)
            idx = files.open(paths.index(".idx"), writable=False)
        except FileNotFoundError:
            continue
        size = files.size(idx)
        return Present(dat, idx, size - size % ROW_LENGTH[width])
    return None


def newer_in(files: FileIO, present: Present, shards: Restored, width: int, progress: Progress) -> Kept:
    """What the volume has of its own. Raises `OSError`, `EcInterrupted`, and `DiskError` when the records of the two
    cannot be in one file."""
    import numpy as np

    superblock = SuperBlock.decode(files.read_at(present.dat, 0, SUPERBLOCK_LENGTH_MAX))
    found, version = superblock.version, shards.superblock.version
    if found != version:
        raise DiskError(f"{present.dat.path} has version {found}, the shards {version}")
    rows = decode_rows(files.read_at(present.idx, 0, present.idx_bytes), width)
    entries = scan_rows(*rows, version, VolumeProgress())
    comparison = Comparison(files, VolumeRows(superblock, present.dat, entries), shards, width, progress)
    newer = np.flatnonzero(comparison.newer())
    order = newer[np.argsort(entries.offsets[newer])]
    columns = (entries.keys[order].tolist(), entries.offsets[order].tolist(), entries.sizes[order].tolist())
    deleted = entries.keys[comparison.deleted()].tolist()
    return Kept(list(zip(*columns, strict=True)), frozenset(deleted).difference(shards.deleted))


def append_kept(
    files: FileIO, present: Present, kept: Kept, dat: File, idx: File, width: int, version: int, progress: Progress
) -> None:
    """Append it to the files of a volume that is being made. Raises `OSError`, `EcInterrupted`."""
    end, rows = files.size(dat), []
    for key, offset, size in kept.rows:
        progress.require_running()
        length = record_length(size, version)
        files.copy(present.dat, dat, end, length, source_offset=offset)
        rows.append((key, end, size))
        end += length
    files.write_at(idx, files.size(idx), [pack_rows(rows, width)])
    files.sync(dat)
    files.sync(idx)
