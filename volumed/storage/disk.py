"""One data directory and all its volumes, as the worker that owns the disk sees it.

Threads: everything that changes anything is called on one thread, the worker's loop thread. `read`, `Flush.run` and
`probe_space` may wait for the disk and may be called on any thread.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from volumed.bus.calls import AllocateVolume, DeleteVolume, MarkReadonly, VolumeStatusView
from volumed.bus.copy_calls import VolumeFilesView
from volumed.bus.events import VolumeStatistics
from volumed.bus.frames import READ_RANGE, ReadOperation, StoreOperation
from volumed.config.node import DiskConfig, NodeConfig
from volumed.errors import (
    DiskError,
    FormatError,
    NoFreeSpace,
    VolumeBusy,
    VolumedError,
    VolumeExists,
    VolumeNotEmpty,
    VolumeNotFound,
)
from volumed.formats.replication import ReplicaPlacement
from volumed.formats.superblock import SUPERBLOCK_LENGTH, VERSIONS, SuperBlock
from volumed.formats.ttl import Ttl
from volumed.formats.vif import RemoteFile
from volumed.formats.volumename import check_collection
from volumed.storage.directory import (
    claim_directory,
    loadable_volumes,
    read_disk_uuid,
    recover_compactions,
    remove_nameless,
    remove_volume_files,
)
from volumed.storage.distant import DistantVolumes
from volumed.storage.ec_files import clear_at_start
from volumed.storage.expiry import Expiry, decide_expiry
from volumed.storage.fileio import DistantFile, File, FileIO, SpaceInfo, disk_error
from volumed.storage.map_load import MapScan
from volumed.storage.map_records import VolumeFlag
from volumed.storage.marks import mark_readonly, mark_writable
from volumed.storage.needle_map import MapError, NeedleMap
from volumed.storage.placed_put import PlacedPut, RecordCopy, SpooledNeedle
from volumed.storage.site import DiskSite
from volumed.storage.space import automatic_volumes_max, is_space_low
from volumed.storage.store import ANY_GENERATION, Flush, StoreBatch, VolumeStore
from volumed.storage.volume import QUARANTINE_STREAK, Volume
from volumed.storage.volume_load import RemoteDataNeeded, create_volume, load_volume, scan_volume

__all__ = ["ANY_GENERATION", "Disk", "Flush", "Remains", "StoreBatch"]

_PRESENCE_CHECK_S = 30

_log = logging.getLogger(__name__)


class Remains(NamedTuple):
    """What takes time to get rid of when a volume is deleted."""

    map_id: int
    """Its entries are to be removed."""
    files: list[File]
    """Unlinked; the last to let go of one waits until the filesystem has freed its blocks."""


class Disk:
    """An open disk; made by `Disk.open`."""

    def __init__(self, site: DiskSite, node: NodeConfig, uuid: str, lock: File) -> None:
        self.site = site
        self.config = site.config
        self.uuid = uuid
        self.map_path = site.map.path
        self.space = SpaceInfo(0, 0)
        self.space_low = False
        self.arriving: set[int] = set()
        """Ids of volumes that are being copied here, or prepared: others do not look at their files."""
        self.distant = DistantVolumes(site.map)
        """Volumes on the disk that cannot be mounted before their data, in a remote tier, are open."""
        self._orphans: list[RemoteFile] = []
        self._remains: list[Remains] = []
        self._lock = lock
        self._volumes: dict[int, Volume] = {}
        self._store = VolumeStore(site.map, self._volumes, f"{node.ip}:{node.port}")
        self._reported: dict[int, VolumeStatistics] = {}
        self._seen_at_s: dict[int, int] = {}

    @classmethod
    def open(cls, config: DiskConfig, node: NodeConfig, files: FileIO | None = None) -> Disk:
        """Check and lock the directory, open its map, load every volume. Raises `DiskError`; a volume that cannot be
        loaded is logged and left out."""
        files = files or FileIO()
        lock = claim_directory(files, config.directory)
        try:
            return cls._open_claimed(config, node, files, lock)
        except BaseException:
            files.unlock_directory(lock)
            raise

    @classmethod
    def _open_claimed(cls, config: DiskConfig, node: NodeConfig, files: FileIO, lock: File) -> Disk:
        uuid = read_disk_uuid(files, config.directory)
        remove_nameless(files, config.directory)
        try:
            needle_map = NeedleMap(os.path.join(node.map_dir, uuid), files)
        except (OSError, MapError) as error:
            raise DiskError(f"cannot open the needle map of {config.directory}: {error}") from error
        disk = cls(DiskSite.of(config, node, files, needle_map), node, uuid, lock)
        try:
            disk.set_space(disk.probe_space())
            disk._load_all()
        except (OSError, MapError) as error:
            needle_map.close(clean=False)
            raise DiskError(f"cannot load the volumes of {config.directory}: {error}") from error
        return disk

    @property
    def volumes(self) -> Mapping[int, Volume]:
        """Mounted volumes by id."""
        return self._volumes

    def close(self) -> None:
        """Flush and close everything. The map is marked clean unless a flush failed or was not waited for."""
        clean = True
        for volume in self._volumes.values():
            clean = clean and not volume.flushing
            try:
                volume.flush()
            except DiskError as error:
                clean = False
                _log.error("volume %d: %s", volume.volume_id, error)
            volume.close()
        self._volumes.clear()
        self.site.map.close(clean=clean)
        self.site.files.unlock_directory(self._lock)

    # Needles

    def store(self, operations: Sequence[StoreOperation]) -> StoreBatch:
        """Apply puts and deletes in order, with one append per volume and one map transaction for all.

        Never raises for an operation: its result carries the error. Shared bodies must be resolved into ``body``.
        An operation of another generation than the volume's is refused, except `ANY_GENERATION`.
        """
        return self._store.apply(operations)

    def begin_placing(self, needle: SpooledNeedle) -> RecordCopy:
        """Start to store a spooled needle: call the copy's `run` on another thread, then `place`. The volume is
        flushing (`is_flushing`) from here on and must not be so before. Raises `VolumedError`."""
        return self._store.begin_placing(needle)

    def place(self, copy: RecordCopy, put: PlacedPut | None) -> StoreBatch:
        """Apply what a copy came to, None when it failed, before anything else on the volume. See `store`."""
        return self._store.place(copy, put)

    def is_flushing(self, volume_id: int) -> bool:
        """Whether operations on the volume must be held back until its flush is finished."""
        volume = self._volumes.get(volume_id)
        return volume is not None and volume.flushing

    def finish_flush(self, flush: Flush, error: DiskError | None) -> DiskError | None:
        """End a flush. Returns None when the results of the batch stand, else the error to answer its operations
        with: then all they did is undone, or, if that fails, the volume is unavailable."""
        volume = flush.volume
        if error is None:
            volume.end_flush()
        elif not self._store.undo(flush, error):
            self._publish([volume])
        return error

    def read(self, operation: ReadOperation) -> bytes:
        """Serve one read (any thread). Raises what `Volume.read_needle` and `Volume.read_range` raise, and
        `VolumeNotFound`."""
        volume = self._volume(operation.volume_id)
        if operation.kind == READ_RANGE:
            return volume.read_range(operation.generation, operation.offset, operation.length)
        return volume.read_needle(operation.key, operation.flags)

    # Volumes

    def allocate(self, request: AllocateVolume) -> VolumeStatistics:
        """Create and mount a volume (docs/spec/storage.md 5.1, docs/spec/grpc.md 3.7). Raises `VolumedError`."""
        volume_id = request.volume_id
        if volume_id in self._volumes or volume_id in self.arriving:
            raise VolumeExists.of(volume_id)
        if self.space_low:
            raise NoFreeSpace.for_volume()
        if request.version not in VERSIONS:
            raise FormatError.unsupported_version(request.version)
        check_collection(request.collection)
        superblock = SuperBlock(
            request.version, ReplicaPlacement.from_byte(request.replica_placement), Ttl.from_u32(request.ttl)
        )
        try:
            volume = create_volume(self.site, request.collection, volume_id, superblock, request.preallocate_bytes)
        except (OSError, MapError) as error:
            raise _failure(f"create volume {volume_id}", error) from error
        return self._add(volume)

    def mount(
        self, volume_id: int, collection: str = "", remote: DistantFile | None = None
    ) -> VolumeStatistics | None:
        """Load a volume that is on the disk, with its ``remote`` data if they are not; None when it was mounted
        already. Raises `VolumedError`."""
        if volume_id in self._volumes:
            return None
        try:
            found = [name for name, _ in loadable_volumes(self.site, volume_id, self.arriving)]
            if not found:
                raise VolumeNotFound.on_mount(volume_id)
            name = collection if collection in found else found[0]
            return self._add(load_volume(self.site, name, volume_id, remote=remote))
        except (OSError, MapError) as error:
            raise _failure(f"mount volume {volume_id}", error) from error

    def prepare_mount(
        self, volume_id: int, collection: str = "", remote: DistantFile | None = None
    ) -> MapScan | None:
        """What takes long of `mount` (any thread), while the id is in `arriving`: put the result into the map before.
        None: nothing is to be put. Raises what `mount` raises, or `OSError`, `MapError`."""
        found = [name for name, _ in loadable_volumes(self.site, volume_id)]
        if not found:
            return None
        return scan_volume(self.site, collection if collection in found else found[0], volume_id, remote)

    def appeared(self) -> list[int]:
        """Volumes on the disk that `rescan` is going to mount. Raises `OSError`."""
        known = {*self._volumes, *self.arriving, *self.distant}
        return sorted({volume_id for _, volume_id in loadable_volumes(self.site, but_not=known)})

    def unmount(self, volume_id: int) -> VolumeStatistics | None:
        """Close a volume; its last statistics, None when it was not mounted. Nothing is flushed: that would hold up
        the other volumes, and the kernel has all bytes. Raises `VolumedError`."""
        self.distant.forget(volume_id)
        volume = self._volumes.get(volume_id)
        return None if volume is None else self._close_volume(volume)

    def delete(self, request: DeleteVolume) -> VolumeStatistics:
        """Remove a volume and its files (docs/spec/storage.md 9.3); its last statistics. Raises `VolumedError`."""
        volume = self._volumes.get(request.volume_id)
        if volume is None:
            raise VolumeNotFound.on_delete(request.volume_id)
        guards = []
        counters = volume.progress.counters
        if request.only_empty:
            guards.append(volume.dat_end <= SUPERBLOCK_LENGTH and not counters.content_bytes)
        if request.only_garbage:
            guards.append(0 < counters.content_bytes <= counters.deleted_bytes)
        if guards and not any(guards):
            raise VolumeNotEmpty.of(request.volume_id)
        return self._destroy(volume, "asked to", keep_remote_data=request.keep_remote_data)

    def take_orphans(self) -> list[RemoteFile]:
        """The data in remote tiers that deleted volumes have left, once."""
        orphans, self._orphans = self._orphans, []
        return orphans

    def take_remains(self) -> list[Remains]:
        """What deleted volumes have left, once."""
        remains, self._remains = self._remains, []
        return remains

    def publish(self, volume: Volume) -> None:
        """Tell readers of changed flags."""
        self._publish([volume])

    def delete_collection(self, collection: str) -> list[VolumeStatistics]:
        """Remove all volumes of a collection, "" being the default one; those that are gone. Raises
        `VolumedError`."""
        doomed = [volume for volume in self._volumes.values() if volume.collection == collection and not volume.busy]
        return [self._destroy(volume, f"collection {collection!r} is deleted") for volume in doomed]

    def mark_readonly(self, request: MarkReadonly) -> None:
        """Set flag A, or B with ``can_delete`` (docs/spec/storage.md 5.4). Raises `VolumedError`."""
        volume = self._volume(request.volume_id)
        mark_readonly(volume, can_delete=request.can_delete, persist=request.persist)
        self._publish([volume])

    def mark_writable(self, volume_id: int) -> None:
        """Clear flags A and B and any quarantine, durably. Raises `VolumedError`."""
        volume = self._volume(volume_id)
        mark_writable(volume)
        self._publish([volume])

    def status(self, volume_id: int) -> VolumeStatusView:
        """Current numbers of a volume. Raises `VolumeNotFound`."""
        volume = self._volumes.get(volume_id)
        if volume is None:
            raise VolumeNotFound.on_status(volume_id)
        counters = volume.progress.counters
        return VolumeStatusView(
            is_read_only=volume.read_only,
            volume_size=volume.dat_end,
            file_count=counters.file_count,
            file_deleted_count=counters.deleted_count,
            collection=volume.collection,
            replica_placement=volume.replica_placement,
            ttl=volume.superblock.ttl.to_u32(),
            version=volume.version,
            compact_revision=volume.superblock.compaction_revision,
            idx_file_size=volume.progress.idx_bytes,
        )

    def describe(self, volume_id: int) -> VolumeFilesView:
        """A volume as its files. Raises `VolumeNotFound`, `VolumeUnavailable`."""
        volume = self._volumes.get(volume_id)
        if volume is None:
            raise VolumeNotFound.on_status(volume_id)
        return volume.describe()

    def rescan(self) -> list[VolumeStatistics]:
        """Mount what appeared on the disk (SIGHUP); what is new. Raises `DiskError`."""
        try:
            return self._load_new(after_kill=False)
        except (OSError, MapError) as error:
            raise _failure(f"scan {self.config.directory}", error) from error

    # Reports and periodic work

    def statistics(self) -> list[VolumeStatistics]:
        """All volumes, for a full report."""
        self._reported = {volume.volume_id: volume.statistics() for volume in self._volumes.values()}
        return list(self._reported.values())

    def changes(self) -> tuple[list[VolumeStatistics], list[int]]:
        """Volumes that are new or changed, and ids that are gone, since the last `changes` or `statistics`."""
        before = self._reported
        now = self.statistics()
        changed = [item for item in now if before.get(item.report.id) != item]
        return changed, [volume_id for volume_id in before if volume_id not in self._reported]

    def max_file_key(self) -> int:
        """Largest needle id of all volumes."""
        return max((volume.progress.max_key for volume in self._volumes.values()), default=0)

    def volumes_max(self, volume_size_limit_bytes: int, preallocate: bool) -> int:
        """Effective maximum number of volumes; 0 while an automatic one cannot be known yet."""
        if self.config.volumes_max or not volume_size_limit_bytes:
            return self.config.volumes_max
        growth = sum(
            max(0, volume_size_limit_bytes - volume.dat_end - volume.progress.idx_bytes)
            for volume in self._volumes.values()
            if not volume.read_only
        )
        free = self.space.free_bytes
        return automatic_volumes_max(len(self._volumes), growth, free, volume_size_limit_bytes, preallocate)

    def expire(self, volume_size_limit_bytes: int, now_s: int) -> list[VolumeStatistics]:
        """The look at every volume before a heartbeat: withdraw expired, failing and vanished ones, destroy those
        whose grace has passed (docs/spec/storage.md 5.9, 6.6, 9.4). Returns the destroyed."""
        destroyed = []
        for volume in list(self._volumes.values()):
            expiry = decide_expiry(
                volume.superblock.ttl, volume.progress.ttl_clock_s, volume.dat_end, volume_size_limit_bytes, now_s
            )
            volume.expired = expiry is not Expiry.ALIVE
            if expiry is Expiry.DESTROY and not volume.busy:
                try:
                    destroyed.append(self._destroy(volume, "its time to live has passed"))
                except DiskError as error:
                    _log.error("volume %d: %s", volume.volume_id, error.text)
                continue
            volume.phantom = self._is_phantom(volume, now_s)
            if volume.io_error_streak >= QUARANTINE_STREAK and not volume.quarantined:
                _log.critical("volume %d: repeated I/O errors, withdrawn", volume.volume_id)
                volume.quarantined = True
                volume.flags |= VolumeFlag.NO_WRITE_OR_DELETE
                self._publish([volume])
        return destroyed

    def probe_space(self) -> SpaceInfo:
        """Ask the filesystem (any thread); hand the answer to `set_space`. Raises `OSError`."""
        return self.site.files.space(self.config.directory)

    def set_space(self, space: SpaceInfo) -> None:
        """Take a probe into account: flag C of all volumes."""
        self.space = space
        low = is_space_low(space, self.config.free_space_limit)
        if low == self.space_low:
            return
        _log.warning("%s is %s space", self.config.directory, "low on" if low else "no longer low on")
        self.space_low = low
        for volume in self._volumes.values():
            self._set_space_flag(volume)
        self._publish(list(self._volumes.values()))

    # Inside

    def _volume(self, volume_id: int) -> Volume:
        volume = self._volumes.get(volume_id)
        if volume is None:
            raise self.distant.missing(volume_id)
        return volume

    def _load_all(self) -> None:
        with self.site.map.begin() as txn:
            txn.remove_all_records()
        clear_at_start(self.site)
        self._load_new(after_kill=self.site.map.after_kill)
        for volume_id in self.site.map.known_volumes():
            if volume_id not in self._volumes and volume_id not in self.distant:
                with self.site.map.begin() as txn:
                    txn.drop_volume(volume_id)
        self.site.map.drop_unused()

    def _load_new(self, *, after_kill: bool) -> list[VolumeStatistics]:
        in_use = {*self._volumes, *self.arriving}
        recover_compactions(self.site, in_use)
        added = []
        for collection, volume_id in loadable_volumes(self.site, but_not=in_use):
            if volume_id in self._volumes:
                continue
            try:
                added.append(self._add(load_volume(self.site, collection, volume_id, after_kill=after_kill)))
            except RemoteDataNeeded as needed:
                self.distant.add(volume_id, needed)
            except (OSError, VolumedError) as error:
                base_name = self.site.paths(collection, volume_id).base_name
                _log.error("new volume %s error %s", base_name, error)
        return added

    def _add(self, volume: Volume) -> VolumeStatistics:
        self._volumes[volume.volume_id] = volume
        self.distant.mounted(volume.volume_id)
        if self.space_low:
            self._set_space_flag(volume)
            self._publish([volume])
        return volume.statistics()

    def _close_volume(self, volume: Volume) -> VolumeStatistics:
        """Withdraw a volume from readers, then from this process."""
        if volume.flushing:
            raise VolumeBusy(f"volume {volume.volume_id} is being flushed")
        volume.require_free()
        statistics = volume.statistics()
        try:
            with self.site.map.begin() as txn:
                txn.remove_record(volume.volume_id)
        except MapError as error:
            raise _failure(f"unmount volume {volume.volume_id}", error) from error
        volume.close()
        del self._volumes[volume.volume_id]
        self._seen_at_s.pop(volume.volume_id, None)
        return statistics

    def _destroy(self, volume: Volume, reason: str, *, keep_remote_data: bool = False) -> VolumeStatistics:
        statistics = self._close_volume(volume)
        _log.warning("removing volume %d with all its files: %s", volume.volume_id, reason)
        try:
            remove_volume_files(self.site.files, volume.paths)
            with self.site.map.begin() as txn:
                txn.forget_volume(volume.volume_id)
            self._remains.append(Remains(volume.map_id, [volume.dat, volume.idx]))
        except (OSError, MapError) as error:
            raise _failure(f"delete volume {volume.volume_id}", error) from error
        if not keep_remote_data:
            self._orphans += volume.info.files
        return statistics

    def _publish(self, volumes: list[Volume]) -> None:
        """Tell readers about changed flags. A failure is only logged: the worker itself checks flags again."""
        try:
            with self.site.map.begin() as txn:
                for volume in volumes:
                    txn.put_record(volume.volume_id, volume.record())
        except MapError as error:
            _log.error("%s: cannot publish volume flags: %s", self.config.directory, error)

    def _set_space_flag(self, volume: Volume) -> None:
        if self.space_low:
            volume.flags |= VolumeFlag.DISK_SPACE_LOW
        else:
            volume.flags &= ~VolumeFlag.DISK_SPACE_LOW

    def _is_phantom(self, volume: Volume, now_s: int) -> bool:
        """Whether `.dat` was unlinked by somebody. Looked at every 30 s, each time while it is missing."""
        if volume.is_remote or not volume.progress.counters.file_count:
            return False
        if now_s - self._seen_at_s.get(volume.volume_id, -_PRESENCE_CHECK_S) < _PRESENCE_CHECK_S:
            return False
        if not self.site.files.exists(volume.dat.path):
            return True
        self._seen_at_s[volume.volume_id] = now_s
        return False


def _failure(doing: str, error: OSError | MapError) -> DiskError:
    return disk_error(doing, error) if isinstance(error, OSError) else DiskError(f"{doing}: {error}")
