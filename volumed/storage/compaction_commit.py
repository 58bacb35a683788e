"""A vacuum's commit: what was written meanwhile, then the new files in the place of the old (storage.md 7.3, 7.4).

Every function here may wait for the disk. None touches the volume: the loop thread says up to which row to follow,
holds back writes before `swap_files`, and takes the new files over after it (``workers.compaction_commit``).

The order of `swap_files` makes a process that is killed anywhere harmless (`volumed.storage.compaction_recovery`):
before the marker is durable the old files count, after it the new ones. Nothing is acknowledged in between.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator

from volumed.errors import CompactionError
from volumed.formats.idx import Row, iter_rows, pack_rows
from volumed.formats.needle import record_length
from volumed.formats.superblock import SUPERBLOCK_LENGTH_MAX, SuperBlock
from volumed.storage.compaction import Compacted
from volumed.storage.fileio import FileIO
from volumed.storage.site import VolumePaths
from volumed.storage.volume import NewFiles, Volume

__all__ = ["SwapInterrupted", "finish_swap", "follow", "swap_files"]

_log = logging.getLogger(__name__)


class SwapInterrupted(CompactionError):
    """The files could be replaced only in part. The next start finishes it; until then the old ones, which this process
    has open, may be read but not written."""


def follow(volume: Volume, new: Compacted, idx_bytes: int) -> list[Row]:
    """Repeat the rows of the volume's `.idx` up to ``idx_bytes`` in the new files: per key the last one, in their
    order. Their rows in the new index, for the map. Raises `OSError`.

    DEVIATE: records are copied as they are, tombstones and empty objects too, and all five bytes of an offset count
    (P4; docs/spec/storage.md 7.4).
    """
    files, width, row_length = volume.site.files, volume.site.offset_width, volume.site.row_length
    content = files.read_at(volume.idx, new.followed, idx_bytes - new.followed)
    last: dict[int, Row] = {}
    for row in iter_rows(content, width):
        last.pop(row[0], None)
        last[row[0]] = row
    rows = list(last.values())
    moved = []
    at = new.dat_end
    for key, _, size in rows:
        moved.append((key, at, size))
        at += record_length(size, volume.version)
    for start, length, target in _runs(rows, moved, volume.version):
        files.copy(volume.dat, new.dat, target, length, source_offset=start)
    packed = pack_rows(moved, width)
    files.write_at(new.idx, new.progress.idx_bytes, [packed])
    new.dat_end, new.followed = at, idx_bytes
    new.progress.idx_bytes += len(packed)
    new.progress.last_row = packed[-row_length:] or new.progress.last_row
    return moved


def swap_files(volume: Volume, new: Compacted) -> NewFiles:
    """Put the new files in the place of the old. Nothing may write to the volume meanwhile.

    Raises `SwapInterrupted`, and `CompactionError` or `OSError`: then nothing has happened.
    """
    files, paths = volume.site.files, volume.paths
    if not (files.exists(paths.data(".cpd")) and files.exists(paths.index(".cpx"))):
        raise CompactionError.swap_aborted(volume.volume_id)
    _require_revisions(files, volume, new)
    files.sync(new.dat)
    files.sync(new.idx)
    marker = paths.data(".cpc")
    try:
        files.sync(files.open(marker, create=True))
        files.sync_directory(paths.data_directory)
        files.rename(paths.data(".cpd"), paths.data(".dat"))
    except OSError:
        _withdraw_marker(files, marker, paths)
        raise
    try:
        files.rename(paths.index(".cpx"), paths.index(".idx"))
        modified_at_s = files.mtime_ns(new.dat) // 10**9
        return NewFiles(files.open(paths.data(".dat")), files.open(paths.index(".idx")), modified_at_s)
    except OSError as error:
        raise SwapInterrupted(f"volume {volume.volume_id} is replaced in part: {error}") from error


def finish_swap(files: FileIO, paths: VolumePaths) -> None:
    """Make the renames durable and take the marker away. A failure is only logged: with the marker the next start does
    the same once more."""
    try:
        for directory in paths.directories():
            files.sync_directory(directory)
        for extension in (".ldb", ".rdb"):
            shutil.rmtree(paths.index(extension), ignore_errors=True)
        files.remove(paths.data(".cpc"))
        files.sync_directory(paths.data_directory)
    except OSError as error:
        _log.error("%s: finishing a vacuum: %s", paths.base_name, error)


def _runs(rows: list[Row], moved: list[Row], version: int) -> Iterator[tuple[int, int, int]]:
    """(start, length, place in the new file) of what can be copied at once."""
    start = end = target = 0
    for (_, offset, size), (_, place, _) in zip(rows, moved, strict=True):
        if offset != end:
            if end > start:
                yield start, end - start, target
            start, end, target = offset, offset, place
        end += record_length(size, version)
    if end > start:
        yield start, end - start, target


def _require_revisions(files: FileIO, volume: Volume, new: Compacted) -> None:
    expected = volume.superblock.compaction_revision
    found = SuperBlock.decode(files.read_at(volume.dat, 0, SUPERBLOCK_LENGTH_MAX)).compaction_revision
    if found != expected:
        raise CompactionError.other_revision(found, expected)
    copied = SuperBlock.decode(files.read_at(new.dat, 0, SUPERBLOCK_LENGTH_MAX)).compaction_revision
    if copied != new.progress.compaction_revision:
        raise CompactionError.other_revision(copied, new.progress.compaction_revision)


def _withdraw_marker(files: FileIO, marker: str, paths: VolumePaths) -> None:
    """While it is there, a crash would bring the copies back, and with them the past."""
    try:
        files.remove(marker)
        files.sync_directory(paths.data_directory)
    except OSError as error:
        raise SwapInterrupted(f"{marker} cannot be removed: {error}") from error
