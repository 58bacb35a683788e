"""The commit of a vacuum, step by step between loop thread and background (docs/spec/storage.md 7.3).

    1. the new index into the needle map, slice by slice, under a map id of its own      volume in full use
    2. what was written since, in rounds, until little is left; flush                     volume in full use
    3. the rest, flush, marker, renames                                                   writes wait, reads go on
    4. one map transaction makes the new files the volume's                               loop thread
    5. durability of the renames, the marker goes; old entries leave the map in slices    volume in full use

Until the marker of step 3 is on the disk everything can be undone, by this process or the next one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

from volumed.errors import CompactionError, DiskError, VolumedError
from volumed.formats.idx import Row
from volumed.storage.compaction import Compacted, Compaction
from volumed.storage.compaction_commit import SwapInterrupted, finish_swap, follow, swap_files
from volumed.storage.compaction_map import SLICE_ROWS, NewEntries
from volumed.storage.disk import Disk, StoreBatch
from volumed.storage.fileio import disk_error
from volumed.storage.needle_map import MapError
from volumed.storage.volume import NewFiles
from workers.host import Shell, Work, nothing
from workers.map_slices import drop_entries

__all__ = ["CommitDone", "CompactionCommit"]

T = TypeVar("T")

CommitDone = Callable[[VolumedError | None], None]

_LITTLE_BYTES = 4 << 10
"""Rows of the index that are left for the time when writes wait."""


class CompactionCommit:
    """One commit. Used on the loop thread; nobody else commits or compacts the volume meanwhile."""

    def __init__(self, disk: Disk, shell: Shell, compaction: Compaction, new: Compacted, done: CommitDone) -> None:
        self._disk = disk
        self._shell = shell
        self._compaction = compaction
        self._volume = compaction.volume
        self._new = new
        self._done = done
        self._files = disk.site.files
        self._slice_bytes = SLICE_ROWS * self._volume.site.row_length
        self._copied = new.progress.idx_bytes
        """Rows behind this one came with step 2."""
        self._entries: NewEntries | None = None
        self._flushed = False
        self._paused = False

    def begin(self) -> None:
        """Start; ``done`` is called with None when the volume has its new files, else with what went wrong: then it
        has its old ones."""
        try:
            self._entries = NewEntries(self._disk.site.map, self._volume.site.offset_width, self._volume.version)
        except MapError as error:
            self._fail(error)
            return
        self._new.progress.map_id = self._entries.map_id
        self._index(0)

    # 1

    def _index(self, at: int) -> None:
        length = min(self._slice_bytes, self._copied - at)
        if not length:
            self._follow()
            return

        def add(content: bytes) -> None:
            self._require_entries().add(content)
            self._index(at + length)

        self._aside(functools.partial(self._files.read_at, self._new.idx, at, length), add)

    # 2 and the first part of 3

    def _follow(self) -> None:
        """The next rows that the new files lack."""
        volume = self._volume
        if volume.generation != self._compaction.generation:
            raise CompactionError(f"volume {volume.volume_id} has changed while it was compacted")
        missing = volume.progress.idx_bytes - self._new.followed
        if not missing and self._paused:
            self._swap()
        elif missing > _LITTLE_BYTES or self._paused:
            upto = self._new.followed + min(missing, self._slice_bytes)
            self._aside(functools.partial(follow, volume, self._new, upto), self._followed)
        elif not self._flushed:
            self._flushed = True
            self._aside(self._flush, lambda _: self._follow())
        else:
            self._pause()

    def _followed(self, rows: list[Row]) -> None:
        self._require_entries().follow(rows, self._new)
        self._follow()

    def _flush(self) -> None:
        """Most of what step 3 would have to wait for."""
        self._files.sync(self._new.dat)
        self._files.sync(self._new.idx)

    # 3

    def _pause(self) -> None:
        if self._volume.flushing:
            self._shell.after_flush(self._try_follow)
            return
        self._volume.begin_placing()
        self._shell.hold()
        self._paused = True
        self._follow()

    def _try_follow(self) -> None:
        self._guarded(self._follow)

    def _swap(self) -> None:
        work = functools.partial(swap_files, self._volume, self._new)
        # What fails behind the renames ends the process: the next one loads what is there.
        self._shell.in_background(work, self._take_files, self._fail, Work.COPY)

    # 4

    def _take_files(self, files: NewFiles) -> None:
        volume, new = self._volume, self._new
        with self._disk.site.map.begin() as txn:
            old_map_id = volume.map_id
            volume.take_files(files, self._compaction.superblock, new.dat_end, new.progress, txn)
        volume.committed()
        self._resume()
        drop_entries(self._disk, self._shell, old_map_id)
        done = functools.partial(self._done, None)
        self._shell.in_background(self._finish, lambda _: done(), lambda _: done(), Work.COPY)

    # 5

    def _finish(self) -> None:
        finish_swap(self._files, self._volume.paths)
        self._compaction.close()

    # Failure

    def _fail(self, error: Exception) -> None:
        """Everything as before, unless the files were replaced in part: then this process must end, and the next one
        finishes it."""
        if isinstance(error, SwapInterrupted):
            raise error
        if self._paused:
            self._resume()
        if self._entries is not None:
            drop_entries(self._disk, self._shell, self._entries.map_id)
        self._done(_as_domain_error(error))

    def _resume(self) -> None:
        self._paused = False
        self._volume.end_placing()
        self._shell.release(StoreBatch([]), nothing)

    # Inside

    def _aside(self, work: Callable[[], T], step: Callable[[T], None]) -> None:
        """``work`` in the background, then ``step``; what fails in either ends the commit."""

        def done(result: T) -> None:
            self._guarded(functools.partial(step, result))

        self._shell.in_background(work, done, self._fail, Work.COPY)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            self._compaction.require_running()
            step()
        except (VolumedError, OSError, MapError) as error:
            self._fail(error)

    def _require_entries(self) -> NewEntries:
        assert self._entries is not None
        return self._entries


def _as_domain_error(error: Exception) -> VolumedError:
    if isinstance(error, VolumedError):
        return error
    if isinstance(error, OSError):
        return disk_error("replace the volume's files", error)
    return DiskError(f"needle map: {error}")
