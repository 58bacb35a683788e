"""Volumes of one disk whose data are in a remote tier, or on their way (docs/spec/grpc.md 5).

Theory of operation
    Nothing here waits for a backend on the loop thread. To mount such a volume its superblock is fetched in the
    background first; a move copies the data in the background, and only when they are complete the loop thread changes
    the volume over. While a move lasts the volume is sealed: it takes no writes, and deletions leave `.dat` alone.

    What is in remote tiers when the worker starts is mounted as soon as the backends are known. A backend that does
    not answer is asked again and again; meanwhile the volume is not there, and nothing else of the disk waits for it.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from volumed.bus.events import StorageBackends, VolumeStatistics
from volumed.bus.router import Reply
from volumed.bus.tier_calls import (
    DISTANT_BYTES_MAX,
    DistantBytes,
    FetchTier,
    ReadDistant,
    TierMove,
    TierMoveView,
    UploadTier,
    WatchTier,
)
from volumed.errors import ClientError, NodeError, VolumeBusy, VolumedError, VolumeNotFound
from volumed.formats.vif import RemoteFile
from volumed.formats.volumename import require_collection
from volumed.remote.backends import Backend, Backends
from volumed.remote.errors import RemoteError
from volumed.remote.transfer import Progress
from volumed.storage.disk import Disk
from volumed.storage.fileio import DistantFile, File
from volumed.storage.map_records import VolumeFlag
from volumed.storage.tier import (
    backend_for_fetch,
    backend_for_upload,
    fetch_data,
    forget_remote,
    name_remote,
    open_remote,
    remote_data,
    remove_quietly,
    upload_data,
)
from volumed.storage.volume import Volume
from volumed.storage.volume_load import RemoteDataNeeded
from workers.host import Shell, Work
from workers.mounting import Failed, Mounted, Mounting

__all__ = ["Tiering"]

_log = logging.getLogger(__name__)

_RETRY_S = 10.0
_SETTLE_S = 3.0
"""How long the disk is not announced as ready because of volumes in remote tiers."""
_ENDED_KEPT_MAX = 64


@dataclass(slots=True)
class _Move:
    """A move under way, or one that ended and was not looked at since."""

    volume: Volume
    progress: Progress
    ended: bool = False
    error: Exception | None = None


class Tiering:
    """Used on the loop thread. ``mounted`` is told of volumes that came by themselves, and with none when one did not
    come; ``changed`` of changes that the next report is to carry."""

    def __init__(
        self,
        disk: Disk,
        shell: Shell,
        mounting: Mounting,
        mounted: Callable[[list[VolumeStatistics]], None],
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._disk = disk
        self._shell = shell
        self._mounting = mounting
        self._mounted = mounted
        self._changed = changed
        self._clock = clock
        self._backends = Backends()
        self._known = False
        """The master has told its backends."""
        self._started_at = clock()
        self._opening: set[int] = set()
        self._retry_at = 0.0
        self._numbers = itertools.count(1)
        self._moves: dict[int, _Move] = {}
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {
            UploadTier: self._upload,
            FetchTier: self._fetch,
            WatchTier: self._watch,
            ReadDistant: self._read,
        }

    @property
    def settled(self) -> bool:
        """No volume is to be waited for."""
        waiting = not self._known or self._opening
        return not (self._disk.distant and waiting) or self._clock() - self._started_at > _SETTLE_S

    def told(self, event: StorageBackends) -> None:
        """The master's backends have come."""
        self._known = True
        self._backends.register(event.backends)
        self._open_waiting()

    def tick(self) -> None:
        """Try again what could not be opened; remove objects of volumes that were deleted."""
        if self._known and self._clock() >= self._retry_at:
            self._open_waiting()
        self.remove_orphans()

    def remove_orphans(self) -> None:
        """Remove the objects of deleted volumes, in the background and once."""
        for entry in self._disk.take_orphans():
            backend = self._backends.find(entry.backend_type, entry.backend_id)
            if backend is None:
                _log.error("%s object %s is left: the backend is unknown", entry.backend_name, entry.key)
            else:
                self._remove(backend, entry)

    def stop(self) -> None:
        """End all moves: the worker is stopping."""
        for move in self._moves.values():
            move.progress.stop()

    # Mounting

    def mount(self, volume_id: int, collection: str, done: Mounted, failed: Failed) -> None:
        """`Disk.mount`, later; if not all is here, when the superblock has come."""

        def not_mounted(error: Exception) -> None:
            if isinstance(error, RemoteDataNeeded):
                self._mount_distant(volume_id, error, done, failed)
            else:
                failed(error)

        self._mounting.mount(volume_id, collection, done, not_mounted)

    def _mount_distant(self, volume_id: int, needed: RemoteDataNeeded, done: Mounted, failed: Failed) -> None:
        def opened(remote: DistantFile) -> None:
            self._mounting.mount(volume_id, needed.collection, done, failed, remote)

        def work() -> DistantFile:
            return open_remote(self._backends, needed.entry, needed.dat_path)

        self._shell.in_background(work, opened, failed, Work.REMOTE)

    def _open_waiting(self) -> None:
        self._retry_at = self._clock() + _RETRY_S
        for volume_id in list(self._disk.distant):
            if volume_id not in self._opening:
                self._open_one(volume_id, self._disk.distant[volume_id])

    def _open_one(self, volume_id: int, needed: RemoteDataNeeded) -> None:
        self._opening.add(volume_id)

        def done(statistics: VolumeStatistics | None) -> None:
            self._opening.discard(volume_id)
            self._mounted([statistics] if statistics else [])

        def failed(error: Exception) -> None:
            self._opening.discard(volume_id)
            _log.error("new volume %d error %s", volume_id, error)
            self._mounted([])

        self._mount_distant(volume_id, needed, done, failed)

    # Moves

    def _upload(self, request: UploadTier, reply: Reply) -> None:
        volume = self._find(request.volume_id, request.collection)
        if volume.is_remote:
            reply.result(TierMove(0))
            return
        backend = backend_for_upload(self._backends, request.destination, volume)
        if self._disk.is_flushing(volume.volume_id):
            self._shell.after_flush(lambda: _serve(self._upload, request, reply))
            return
        flags = volume.flags
        self._seal(volume)
        files, path = self._disk.site.files, volume.dat.path
        progress = Progress(files.size(volume.dat))
        move = self._begin(volume, progress, reply)

        def uploaded(entry: RemoteFile) -> None:
            try:
                name_remote(volume, entry)
            except VolumedError as error:
                self._remove(backend, entry)
                failed(error)
                return
            head = files.read_at(volume.dat, 0, volume.superblock.length)
            self._change_over(volume, remote_data(backend, entry, path, head), entry.modified_time)
            if request.keep_local:
                self._end(move)
            else:
                self._shell.in_background(
                    lambda: files.remove(path), lambda _: self._end(move), lambda e: self._end(move, e), Work.COPY
                )

        def failed(error: Exception) -> None:
            volume.sealed = False
            if VolumeFlag.NO_WRITE_CAN_DELETE not in flags:
                volume.flags &= ~VolumeFlag.NO_WRITE_CAN_DELETE
            self._disk.publish(volume)
            self._end(move, error)

        self._shell.in_background(
            lambda: upload_data(backend, request.destination, files, path, progress, request.concurrency),
            uploaded,
            failed,
            Work.MOVE,
        )

    def _fetch(self, request: FetchTier, reply: Reply) -> None:
        volume = self._find(request.volume_id, request.collection)
        backend = backend_for_fetch(self._backends, volume)
        entry = volume.info.files[0]
        files, path = self._disk.site.files, volume.dat.path
        progress = Progress(entry.file_size)
        move = self._begin(volume, progress, reply)

        def fetched(file: File) -> None:
            try:
                forget_remote(volume)
            except VolumedError as error:
                self._end(move, error)
                return
            self._change_over(volume, file, files.mtime_ns(file) // 10**9)
            if request.keep_remote:
                self._end(move)
                return
            self._shell.in_background(
                lambda: backend.client.delete(backend.bucket, entry.key),
                lambda _: self._end(move),
                lambda error: self._end(move, _not_removed(volume, entry, error)),
                Work.REMOTE,
            )

        self._shell.in_background(
            lambda: fetch_data(backend, files, entry, path, progress, request.concurrency),
            fetched,
            lambda error: self._end(move, error),
            Work.MOVE,
        )

    def _watch(self, request: WatchTier, reply: Reply) -> None:
        move = self._moves.get(request.move_id)
        if move is None:
            raise NodeError(f"there is no move {request.move_id}")
        if move.ended:
            del self._moves[request.move_id]
        if move.error is not None:
            raise move.error
        reply.result(TierMoveView(move.progress.done, move.progress.total, move.ended))

    def _read(self, request: ReadDistant, reply: Reply) -> None:
        volume = self._disk.volumes.get(request.volume_id)
        if volume is None:
            raise VolumeNotFound.of(request.volume_id)
        if request.length > DISTANT_BYTES_MAX:
            raise NodeError(f"{request.length} bytes are too many for one read")
        self._shell.in_background(
            lambda: DistantBytes(volume.read_range(request.generation, request.offset, request.length)),
            reply.result,
            reply.error,
            Work.REMOTE,
        )

    def _find(self, volume_id: int, collection: str) -> Volume:
        volume = self._disk.volumes.get(volume_id)
        if volume is None:
            raise ClientError(f"volume {volume_id} not found")
        require_collection(volume.collection, collection)
        if volume.held_while or volume.compacting:
            raise VolumeBusy(f"volume {volume_id} is busy")
        return volume

    def _begin(self, volume: Volume, progress: Progress, reply: Reply) -> _Move:
        for number in [number for number, move in self._moves.items() if move.ended][:-_ENDED_KEPT_MAX]:
            del self._moves[number]
        volume.held_while = "on its way to or from a remote tier"
        number = next(self._numbers)
        move = self._moves[number] = _Move(volume, progress)
        reply.result(TierMove(number))
        return move

    def _end(self, move: _Move, error: Exception | None = None) -> None:
        move.volume.held_while = ""
        move.ended, move.error = True, error
        if error is not None:
            _log.error("volume %d: moving its data: %s", move.volume.volume_id, error)
        self._changed()

    def _seal(self, volume: Volume) -> None:
        volume.sealed = True
        volume.flags |= VolumeFlag.NO_WRITE_CAN_DELETE
        self._disk.publish(volume)

    def _change_over(self, volume: Volume, dat: File, modified_at_s: int) -> None:
        """The `.vif` says so already: from here on nothing may fail but the process."""
        with self._disk.site.map.begin() as txn:
            volume.move_data(dat, modified_at_s, txn)
        volume.committed()

    def _remove(self, backend: Backend, entry: RemoteFile) -> None:
        self._shell.in_background(
            lambda: remove_quietly(backend, entry.key), lambda _: None, lambda _: None, Work.REMOTE
        )


def _serve(handler: Callable[[Any, Reply], None], request: object, reply: Reply) -> None:
    try:
        handler(request, reply)
    except VolumedError as error:
        reply.error(error)


def _not_removed(volume: Volume, entry: RemoteFile, error: Exception) -> RemoteError:
    return RemoteError(f"volume {volume.volume_id} failed to delete remote file {entry.key}: {error}")
