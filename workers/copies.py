"""Volumes on their way in from other servers (``volumed.bus.copy_calls``, docs/spec/grpc.md 3.16).

Theory of operation
    A front pulls the files and hands over block by block; background threads write them. Only mounting happens on the
    loop thread. A copy that does not end well leaves nothing: it is removed when its front says so or is gone, and,
    should this process end before, when the disk is opened the next time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
from volumed.errors import NodeError, VolumeBusy, VolumedError, VolumeExists, VolumeLoadError
from volumed.formats.idx import decode_rows
from volumed.storage.append_search import AppendTimes
from volumed.storage.disk import Disk
from volumed.storage.incoming import COPIED_EXTENSIONS, IncomingVolume
from volumed.storage.index_scan import live_deletions
from volumed.storage.volume import Volume
from workers.arrivals import Arrival, Arrivals
from workers.host import Shell, Work

__all__ = ["Copies"]

Mount = Callable[[int, str, Callable[[VolumeStatistics | None], None], Callable[[Exception], None]], None]
"""Mounts a volume of a collection, now or later: takes what to do then, and what to do when it cannot be mounted."""


class _Copy(Arrival):
    """One volume."""

    def __init__(self, request: OpenCopy, incoming: IncomingVolume) -> None:
        super().__init__(f"the copy of volume {request.volume_id}", request.staging_path)
        self.volume_id = request.volume_id
        self.collection = request.collection
        self.incoming = incoming


class Copies(Arrivals[_Copy]):
    """The copies of one disk."""

    def __init__(
        self,
        disk: Disk,
        shell: Shell,
        reserve_bytes: Callable[[], int],
        tell_changes: Callable[[list[VolumeStatistics], list[VolumeStatistics]], None],
        mount: Mount,
    ) -> None:
        """``reserve_bytes``: how much to preallocate for a `.dat`; ``tell_changes`` takes mounted and gone volumes."""
        super().__init__(shell)
        self._disk = disk
        self._reserve_bytes = reserve_bytes
        self._tell_changes = tell_changes
        self._mount_volume = mount
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {
            OpenCopy: self._open,
            WriteCopy: self._write,
            EndCopiedFile: self._end_file,
            MountCopy: self._mount,
            LiveDeletions: self._live_deletions,
            CloseCopy: self._end,
        }

    # Calls

    def _open(self, request: OpenCopy, reply: Reply) -> None:
        volume_id = request.volume_id
        if volume_id in self._disk.volumes:
            raise VolumeExists.of(volume_id)
        if volume_id in self._disk.arriving:
            raise VolumeBusy.arriving(volume_id)
        site = self._disk.site
        incoming = IncomingVolume(site.files, site.paths(request.collection, volume_id))
        copy = _Copy(request, incoming)
        number = self._add(copy)
        self._disk.arriving.add(volume_id)

        def failed(error: Exception) -> None:
            self._discard(number, copy)
            reply.error(error)

        self._work(copy, lambda: incoming.begin(request.source), lambda _: reply.result(CopyOpened(number)), failed)

    def _write(self, request: WriteCopy, reply: Reply) -> None:
        copy = self._find_file(request)
        block = copy.staged.view(request.length)
        reserve_bytes = self._reserve_bytes() if request.extension == ".dat" else 0

        def write() -> None:
            copy.incoming.write(request.extension, block, reserve_bytes)

        self._work(copy, write, lambda _: reply.result(), reply.error)

    def _end_file(self, request: EndCopiedFile, reply: Reply) -> None:
        copy = self._find_file(request)

        def end() -> None:
            copy.incoming.end_file(request.extension, request.modified_at_ns)

        self._work(copy, end, lambda _: reply.result(), reply.error)

    def _mount(self, request: MountCopy, reply: Reply) -> None:
        copy = self._find(request.copy_id)

        def complete() -> None:
            copy.incoming.complete(request.dat_bytes, request.idx_bytes)

        def completed(_: None) -> None:
            if copy.doomed:
                raise NodeError(f"{copy.name} was given up")
            self._disk.arriving.discard(copy.volume_id)
            copy.busy = True
            self._mount_volume(copy.volume_id, copy.collection, mounted, failed)

        def mounted(statistics: VolumeStatistics | None) -> None:
            copy.busy = False
            self._tell_changes([statistics] if statistics else [], [])
            volume = self._disk.volumes[copy.volume_id]
            self._work(copy, lambda: _describe(volume), reply.result, reply.error)

        def failed(error: Exception) -> None:
            copy.busy = False
            reply.error(VolumeLoadError.after_copy(copy.volume_id, str(error)))
            self._rest(copy)

        self._work(copy, complete, completed, reply.error, Work.COPY)

    def _live_deletions(self, request: LiveDeletions, reply: Reply) -> None:
        copy = self._find(request.copy_id)
        volume = self._disk.volumes[copy.volume_id]
        self._work(copy, lambda: _count_live_deletions(volume), reply.result, reply.error, Work.COPY)

    def _end(self, request: CloseCopy, reply: Reply) -> None:
        if request.keep:
            self._forget(request.copy_id, self._find(request.copy_id))
            reply.result()
        else:
            self._close(request.copy_id, reply)

    # Inside

    def _find_file(self, request: WriteCopy | EndCopiedFile) -> _Copy:
        if request.extension not in COPIED_EXTENSIONS:
            raise NodeError(f"no volume has a file {request.extension}")
        return self._find(request.copy_id)

    def _remove(self, arrival: _Copy, ended: Callable[[object], None]) -> None:
        disk = self._disk
        if disk.is_flushing(arrival.volume_id):
            self._shell.after_flush(lambda: self._remove(arrival, ended))
        elif arrival.volume_id in disk.volumes:
            try:
                self._tell_changes([], [disk.delete(DeleteVolume(arrival.volume_id, keep_remote_data=True))])
            except VolumedError as error:
                ended(error)
            else:
                ended(None)
        else:
            self._work(arrival, arrival.incoming.discard, ended, ended, Work.COPY)

    def _forget(self, number: int, arrival: _Copy) -> None:
        super()._forget(number, arrival)
        self._disk.arriving.discard(arrival.volume_id)


def _describe(volume: Volume) -> CopyMounted:
    """On a background thread."""
    counters = volume.progress.counters
    is_tiered = bool(volume.info.files)
    return CopyMounted(
        file_count=counters.file_count,
        file_deleted_count=counters.deleted_count,
        last_append_at_ns=0 if is_tiered else _append_times(volume).last(),
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
