"""Volumes on their way in from other servers (``volumed.bus.copy_calls``, docs/spec/grpc.md 3.16).

Theory of operation
    A front pulls the files and hands over block by block; background threads write them, one block of a copy at a
    time. Only mounting happens on the loop thread. A copy that does not end well leaves nothing: it is discarded when
    its front says so or is gone, and, should this process end before, when the disk is opened the next time.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from volumed.bus.calls import DeleteVolume
from volumed.bus.copy_calls import (
    CloseCopy,
    CopyMounted,
    CopyOpened,
    EndCopiedFile,
    LiveDeletions,
    LiveDeletionsView,
    MountCopy,
    OpenCopy,
    WriteCopy,
)
from volumed.bus.events import VolumeStatistics
from volumed.bus.router import Reply
from volumed.bus.staging import StagedBlocks
from volumed.errors import NodeError, VolumeBusy, VolumedError, VolumeExists, VolumeLoadError
from volumed.formats.idx import decode_rows
from volumed.storage.append_search import AppendTimes
from volumed.storage.disk import Disk
from volumed.storage.fileio import disk_error
from volumed.storage.incoming import COPIED_EXTENSIONS, IncomingVolume
from volumed.storage.index_scan import live_deletions
from volumed.storage.volume import Volume
from workers.host import Shell, Work

__all__ = ["Copies"]

_log = logging.getLogger(__name__)
T = TypeVar("T")


def _nothing() -> None:
    pass


class _Copy:
    """One volume. ``busy``: a thread works on it, then comes ``when_idle``; ``doomed``: it is being discarded."""

    __slots__ = ("busy", "collection", "doomed", "incoming", "staged", "volume_id", "when_idle")

    def __init__(self, request: OpenCopy, incoming: IncomingVolume) -> None:
        self.volume_id = request.volume_id
        self.collection = request.collection
        self.incoming = incoming
        try:
            self.staged = StagedBlocks(request.staging_path)
        except (OSError, ValueError) as error:
            raise NodeError(f"cannot map {request.staging_path}: {error}") from error
        self.busy = False
        self.doomed = False
        self.when_idle: Callable[[], None] = _nothing


class Copies:
    """The copies of one disk. Used on the loop thread."""

    def __init__(
        self,
        disk: Disk,
        shell: Shell,
        reserve_bytes: Callable[[], int],
        tell_changes: Callable[[list[VolumeStatistics], list[VolumeStatistics]], None],
    ) -> None:
        """``reserve_bytes``: how much to preallocate for a `.dat`; ``tell_changes`` takes mounted and gone volumes."""
        self._disk = disk
        self._files = disk.site.files
        self._shell = shell
        self._reserve_bytes = reserve_bytes
        self._tell_changes = tell_changes
        self._numbers = itertools.count(1)
        self._copies: dict[int, _Copy] = {}
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {
            OpenCopy: self._open,
            WriteCopy: self._write,
            EndCopiedFile: self._end_file,
            MountCopy: self._mount,
            LiveDeletions: self._live_deletions,
            CloseCopy: self._close,
        }

    def tick(self) -> None:
        """Discard what belongs to a front that is gone."""
        for copy_id, copy in list(self._copies.items()):
            if not copy.doomed and copy.staged.is_abandoned():
                _log.warning("the copy of volume %d was abandoned", copy.volume_id)
                self._discard(copy_id, copy, None)

    # Calls

    def _open(self, request: OpenCopy, reply: Reply) -> None:
        volume_id = request.volume_id
        if volume_id in self._disk.volumes:
            raise VolumeExists.of(volume_id)
        if volume_id in self._disk.arriving:
            raise VolumeBusy(f"volume {volume_id} is being copied already")
        incoming = IncomingVolume(self._files, self._disk.site.paths(request.collection, volume_id))
        copy = _Copy(request, incoming)
        copy_id = next(self._numbers)
        self._copies[copy_id] = copy
        self._disk.arriving.add(volume_id)

        def failed(error: Exception) -> None:
            self._discard(copy_id, copy, None)
            reply.error(error)

        self._work(copy, lambda: incoming.begin(request.source), lambda _: reply.result(CopyOpened(copy_id)), failed)

    def _write(self, request: WriteCopy, reply: Reply) -> None:
        copy = self._find(request.copy_id, request.extension)
        block = copy.staged.view(request.length)
        reserve_bytes = self._reserve_bytes() if request.extension == ".dat" else 0
        self._work(
            copy,
            lambda: copy.incoming.write(request.extension, block, reserve_bytes),
            lambda _: reply.result(),
            reply.error,
        )

    def _end_file(self, request: EndCopiedFile, reply: Reply) -> None:
        copy = self._find(request.copy_id, request.extension)
        self._work(
            copy,
            lambda: copy.incoming.end_file(request.extension, request.modified_at_ns),
            lambda _: reply.result(),
            reply.error,
        )

    def _mount(self, request: MountCopy, reply: Reply) -> None:
        copy = self._find(request.copy_id)

        def named(_: None) -> None:
            if copy.doomed:
                raise NodeError(f"the copy of volume {copy.volume_id} was given up")
            self._disk.arriving.discard(copy.volume_id)
            try:
                mounted = self._disk.mount(copy.volume_id, copy.collection)
            except VolumedError as error:
                raise VolumeLoadError.after_copy(copy.volume_id, error.text) from None
            self._tell_changes([mounted] if mounted else [], [])
            volume = self._disk.volumes[copy.volume_id]
            self._work(copy, lambda: _mounted(volume), reply.result, reply.error)

        def complete() -> None:
            copy.incoming.complete(request.dat_bytes, request.idx_bytes)

        self._work(copy, complete, named, reply.error, Work.COPY)

    def _live_deletions(self, request: LiveDeletions, reply: Reply) -> None:
        copy = self._find(request.copy_id)
        volume = self._disk.volumes[copy.volume_id]
        self._work(copy, lambda: _count_live_deletions(volume), reply.result, reply.error, Work.COPY)

    def _close(self, request: CloseCopy, reply: Reply) -> None:
        copy = self._copies.get(request.copy_id)
        if copy is None:
            reply.result()
        elif request.keep:
            self._forget(request.copy_id, copy)
            reply.result()
        else:
            self._discard(request.copy_id, copy, reply)

    # Inside

    def _find(self, copy_id: int, extension: str = ".dat") -> _Copy:
        copy = self._copies.get(copy_id)
        if copy is None or copy.busy or copy.doomed or extension not in COPIED_EXTENSIONS:
            raise NodeError(f"there is no copy {copy_id} that waits for {extension}")
        return copy

    def _work(
        self,
        copy: _Copy,
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[Exception], None],
        kind: Work = Work.PIECE,
    ) -> None:
        """Run ``work`` aside; nothing else happens to the copy meanwhile."""
        copy.busy = True

        def ended(result: T) -> None:
            copy.busy = False
            try:
                done(result)
            except Exception as error:
                failed(error)
            copy.when_idle()

        def broken(error: Exception) -> None:
            copy.busy = False
            if isinstance(error, OSError):
                error = disk_error(f"copy volume {copy.volume_id}", error)
            failed(error)
            copy.when_idle()

        self._shell.in_background(work, ended, broken, kind)

    def _discard(self, copy_id: int, copy: _Copy, reply: Reply | None) -> None:
        """Remove the volume; what a thread still does with it is waited for."""
        disk = self._disk
        copy.doomed = True
        again = partial(self._discard, copy_id, copy, reply)
        if copy.busy:
            copy.when_idle = again
        elif disk.is_flushing(copy.volume_id):
            self._shell.after_flush(again)
        elif copy.volume_id in disk.volumes:
            self._discarded(copy_id, copy, reply, self._delete(copy.volume_id))
        else:
            ended = partial(self._discarded, copy_id, copy, reply)
            self._work(copy, copy.incoming.discard, ended, ended, Work.COPY)

    def _delete(self, volume_id: int) -> Exception | None:
        try:
            self._tell_changes([], [self._disk.delete(DeleteVolume(volume_id))])
        except VolumedError as error:
            return error
        return None

    def _discarded(self, copy_id: int, copy: _Copy, reply: Reply | None, error: Exception | None) -> None:
        if error is not None:
            _log.error("volume %d: what was copied cannot be removed: %s", copy.volume_id, error)
        self._forget(copy_id, copy)
        if reply is not None:
            reply.result()

    def _forget(self, copy_id: int, copy: _Copy) -> None:
        del self._copies[copy_id]
        self._disk.arriving.discard(copy.volume_id)
        copy.staged.close()


def _mounted(volume: Volume) -> CopyMounted:
    """On a background thread."""
    counters = volume.progress.counters
    return CopyMounted(
        file_count=counters.file_count,
        file_deleted_count=counters.deleted_count,
        last_append_at_ns=_append_times(volume).last(),
        modified_at_s=volume.modified_at_s,
    )


def _count_live_deletions(volume: Volume) -> LiveDeletionsView:
    """On a background thread."""
    times = _append_times(volume)
    content = times.io.read_at(times.idx, 0, times.idx_bytes)
    return LiveDeletionsView(live_deletions(*decode_rows(content, times.offset_width)))


def _append_times(volume: Volume) -> AppendTimes:
    return AppendTimes(
        volume.site.files,
        volume.dat,
        volume.idx,
        volume.progress.idx_bytes,
        volume.version,
        volume.site.offset_width,
    )
