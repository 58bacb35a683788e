"""Volumes as what a worker hosts: the disk of the storage engine, its calls and its reports."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from types import UnionType
from typing import Any

import msgspec

from volumed.bus import calls
from volumed.bus.compaction_calls import CompactionRequest
from volumed.bus.copy_calls import CopyRequest, DescribeVolume
from volumed.bus.ec_calls import EcRequest
from volumed.bus.events import (
    DiskHealth,
    DiskReady,
    DiskReport,
    NodeOptions,
    StorageBackends,
    SupervisorEvent,
    VolumesChanged,
    VolumeStatistics,
)
from volumed.bus.file_calls import FileRequest
from volumed.bus.frames import FLAG_META_ONLY, READ_RANGE, ReadOperation
from volumed.bus.record_calls import StoreRecords
from volumed.bus.router import Reply
from volumed.bus.spool_calls import SpoolRequest
from volumed.bus.tier_calls import TierRequest
from volumed.config.node import NodeConfig
from volumed.errors import DiskError
from volumed.formats.needle import record_length
from volumed.formats.report import TaskReport
from volumed.metrics.recorder import Recorder
from volumed.storage.disk import Disk
from volumed.storage.fileio import SpaceInfo
from volumed.storage.map_records import VolumeFlag
from volumed.storage.read_payload import pack_payload
from workers.batch_delete import delete_needles
from workers.compactions import Compactions
from workers.copies import Copies
from workers.ec_journals import EcJournals
from workers.ec_life import EcLife
from workers.ec_listing import EcListings
from workers.ec_operations import EcOperations
from workers.ec_takeover import EcTakeover
from workers.ec_volumes import EcVolumes
from workers.ec_watch import EcWatch
from workers.host import Shell, nothing
from workers.io_errors import QuarantineGauge
from workers.map_slices import drop_entries
from workers.mounting import Mounting
from workers.probe import DiskProbe
from workers.received_files import ReceivedFiles
from workers.reconfigure import Reconfiguration
from workers.records import store_records
from workers.spools import Spools
from workers.staged_volumes import StagedVolumes
from workers.tiering import Tiering

__all__ = ["VolumeHost"]

_log = logging.getLogger(__name__)

_PULSE_TICKS = 5
_SPACE_TICKS = 5
"""More often than the reference's 60 s: a fast writer fills the reserve of a small disk in less."""
_READER_CHECK_TICKS = 60
_NOW_BYTES_MAX = 1 << 20
"""Longest read on the loop thread; copying more delays everybody else."""


class VolumeHost:
    """All volumes of one disk."""

    requests: UnionType = (
        calls.WorkerRequest
        | SpoolRequest
        | CompactionRequest
        | CopyRequest
        | EcRequest
        | FileRequest
        | StoreRecords
        | TierRequest
    )

    def __init__(
        self, disk: Disk, node: NodeConfig, epoch: int, shell: Shell, recorder: Recorder | None = None
    ) -> None:
        self._disk = disk
        self._epoch = epoch
        self._shell = shell
        limit = node.volume_size_limit_bytes if node.standalone else 0
        self._options = NodeOptions(limit, node.preallocate)
        self._ticks = 0
        self._probing = False
        self._health_probe = DiskProbe(node.probe, disk.config, disk.site.files) if node.probe else None
        self._quarantine = None if recorder is None else QuarantineGauge(recorder)
        self._problem = ""
        """What the supervisor was told of the disk's health."""
        self.store = disk.store
        self.is_flushing = disk.is_flushing
        self.finish_flush = disk.finish_flush
        self.read = disk.read
        self.close = disk.close
        self._spools = Spools(disk, shell)
        self.forget = self._spools.forget
        self._mounting = Mounting(disk, shell)
        self._tiering = Tiering(disk, shell, self._mounting, self._distant_mounted, self._report_changes)
        self._ready = False
        """The supervisor was told that the disk is ready."""
        self._copies = Copies(disk, shell, self._preallocated_bytes, self._tell_changes, self._tiering.mount)
        self._ec = EcVolumes(disk, shell, epoch)
        self._ec_life = EcLife(disk, shell, self._ec, alone=len(node.disks) == 1)
        self._ec_watch = EcWatch(disk, shell, self._ec)
        self._ec_settled = False
        """The shards that the disk mounts by itself are mounted."""
        self._received = ReceivedFiles(disk, shell, self._ec)
        self._compactions = Compactions(disk, shell, node.compaction_bytes_per_s, recorder)
        self._ec_takeover = EcTakeover(disk, shell)
        self._ec_operations = EcOperations(disk, shell, self._ec, self._compactions, self._ec_takeover)
        self._has_tasks = False
        self._lasting: dict[type[Any], Callable[[Any, Reply], None]] = {
            **self._spools.handlers,
            **self._compactions.handlers,
            **self._ec_operations.handlers,
            **self._ec_takeover.handlers,
            **self._copies.handlers,
            **self._tiering.handlers,
            **self._received.handlers,
            **self._ec.handlers,
            **EcListings(disk, shell, self._ec).handlers,
            **EcJournals(disk, shell, self._ec).handlers,
            **StagedVolumes(disk, shell, self._mount).handlers,
            **Reconfiguration(disk, shell, self.call).handlers,
            StoreRecords: partial(store_records, shell),
            calls.DeleteCollection: self._delete_collection,
            calls.MountVolume: self._mount,
            calls.RescanDisk: self._rescan,
        }
        """Calls that are answered later."""
        self._handlers: dict[type[calls.Request], Callable[[Any], msgspec.Struct | None]] = {
            calls.AllocateVolume: self._allocate,
            calls.UnmountVolume: self._unmount,
            calls.DeleteVolume: self._delete,
            calls.MarkReadonly: self._mark_readonly,
            calls.MarkWritable: self._mark_writable,
            calls.VolumeStatus: lambda request: disk.status(request.volume_id),
            DescribeVolume: lambda request: disk.describe(request.volume_id),
        }

    # Calls

    def call(self, request: calls.Request, reply: Reply) -> None:
        """Serve a call. One that closes a volume waits for the volume's flush, which could not be undone after."""
        if isinstance(request, calls.DeleteNeedles):
            delete_needles(self._disk, self._shell, request.needles, reply)
        elif (lasting := self._lasting.get(type(request))) is not None:
            lasting(request, reply)
        elif isinstance(request, calls.UnmountVolume) and self._compactions.is_working_on(request.volume_id):
            self._compactions.interrupt(request.volume_id, partial(self.call, request, reply))
        elif self._closes_flushing(request):
            self._shell.after_flush(partial(self.call, request, reply))
        else:
            try:
                reply.result(self._handlers[type(request)](request))
            except Exception as error:
                reply.error(error)

    def stop(self) -> None:
        """The process is going to end."""
        self._compactions.stop_all()
        self._ec_operations.stop()
        self._tiering.stop()

    def _closes_flushing(self, request: calls.Request) -> bool:
        if isinstance(request, calls.UnmountVolume | calls.DeleteVolume):
            return self._disk.is_flushing(request.volume_id)
        return False

    def _allocate(self, request: calls.AllocateVolume) -> None:
        self._tell_changes(mounted=[self._disk.allocate(request)])

    def _mount(self, request: calls.MountVolume, reply: Reply) -> None:
        def done(mounted: VolumeStatistics | None) -> None:
            self._tell_changes(mounted=[mounted] if mounted else [])
            take_over = self._ec_takeover.mounted if mounted else self._ec_takeover.mounted_before
            take_over(request.volume_id, reply.result, reply.error)

        self._tiering.mount(request.volume_id, request.collection, done, reply.error)

    def _distant_mounted(self, mounted: list[VolumeStatistics]) -> None:
        self._tell_changes(mounted=mounted)
        self._tell_ready()

    def _unmount(self, request: calls.UnmountVolume) -> None:
        self._compactions.forget_volume(request.volume_id)
        gone = self._disk.unmount(request.volume_id)
        self._ec_takeover.forget(request.volume_id)
        self._tell_changes(gone=[gone] if gone else [])

    def _delete(self, request: calls.DeleteVolume) -> None:
        self._tell_changes(gone=[self._disk.delete(request)])
        self._tiering.remove_orphans()
        self._compactions.forget_volume(request.volume_id)
        self._ec_takeover.forget(request.volume_id)

    def _delete_collection(self, request: calls.DeleteCollection, reply: Reply) -> None:
        if any(map(self._disk.is_flushing, self._disk.volumes)):
            self._shell.after_flush(partial(self.call, request, reply))
            return
        self._tell_changes(gone=self._disk.delete_collection(request.collection))
        self._tiering.remove_orphans()
        self._ec_life.delete_collection(request.collection, reply.result, reply.error)

    def _mark_readonly(self, request: calls.MarkReadonly) -> None:
        self._disk.mark_readonly(request)
        self._report_changes()

    def _mark_writable(self, request: calls.MarkWritable) -> None:
        self._disk.mark_writable(request.volume_id)
        self._report_changes()

    def _preallocated_bytes(self) -> int:
        return self._options.volume_size_limit_bytes if self._options.preallocate else 0

    def _rescan(self, _: calls.RescanDisk, reply: Reply) -> None:
        def done(mounted: list[VolumeStatistics]) -> None:
            self._tell_changes(mounted=mounted)
            self._ec_life.mount_all(reply.result)

        self._mounting.rescan(done, reply.error)

    # Reads

    def is_remote(self, volume_id: int) -> bool:
        """Whether the volume's data are in a remote tier."""
        volume = self._disk.volumes.get(volume_id)
        return volume is not None and volume.is_remote

    def read_now(self, operation: ReadOperation) -> bytes | bytearray | None:
        """Only the plain case: a live needle, or a range, of modest length in the page cache."""
        volume = self._disk.volumes.get(operation.volume_id)
        if volume is None or VolumeFlag.UNAVAILABLE in volume.flags:
            return None
        files = self._disk.site.files
        if operation.kind == READ_RANGE:
            if operation.generation != volume.generation or not 0 < operation.length <= _NOW_BYTES_MAX:
                return None
            return files.read_cached(volume.dat, operation.offset, operation.length)
        offset, size = self._disk.site.map.lookup(volume.map_id, operation.key) or (0, 0)
        length = record_length(size, volume.version)
        if not offset or size <= 0 or length > _NOW_BYTES_MAX or operation.flags & FLAG_META_ONLY:
            return None
        record = files.read_cached(volume.dat, offset, length)
        if record is None:
            return None
        return pack_payload(volume.version, volume.generation, offset, size, bytes(record))

    # Supervisor

    def take_event(self, event: SupervisorEvent) -> None:
        """Remember what the master told, and report at once: an automatic limit depends on it."""
        if isinstance(event, NodeOptions) and event != self._options:
            self._options = event
            self._report_changes(always=True)
        if isinstance(event, StorageBackends):
            self._tiering.told(event)
            self._tell_ready()

    def introduce(self) -> None:
        """Everything first, so that a disk that is ready is also known."""
        self._report(self._disk.statistics(), [], full=True)
        self._ready = False
        self._problem = ""
        if self._ec_settled:
            self._tell_ready()
        else:
            self._ec_life.mount_all(self._shards_mounted)

    def _shards_mounted(self) -> None:
        self._ec_settled = True
        self._report_changes(always=bool(self._ec.volumes))
        self._tell_ready()

    def _tell_ready(self) -> None:
        """Once all volumes are there, or will not come soon."""
        if not self._ready and self._ec_settled and self._tiering.settled:
            self._ready = True
            disk = self._disk
            self._shell.publish(DiskReady(disk.config.disk_id, self._epoch, disk.map_path, disk.uuid))

    def tick(self) -> None:
        """Expire, report, probe the free space, look at the disk's health."""
        self._ticks += 1
        self._spools.tick()
        self._tiering.tick()
        self._tell_ready()
        self._compactions.tick()
        self._ec_operations.tick()
        self._copies.tick()
        self._received.tick()
        try:
            destroyed = self._disk.expire(self._options.volume_size_limit_bytes, int(time.time()))
            self._tell_changes(gone=destroyed)
        except DiskError as error:
            _log.error("removing expired volumes: %s", error.text)
        self._ec_life.expire(int(time.time()))
        self._ec_watch.tick()
        if self._quarantine is not None:
            quarantined = sum(volume.quarantined for volume in self._disk.volumes.values())
            self._quarantine.set(quarantined, self._ec.unreadable_shards)
        for remains in self._disk.take_remains():
            drop_entries(self._disk, self._shell, remains.map_id)
            self._shell.in_background(remains.files.clear, nothing, nothing)
        had_tasks, self._has_tasks = self._has_tasks, bool(self._tasks())
        self._report_changes(always=self._ticks % _PULSE_TICKS == 0 or had_tasks or self._has_tasks)
        if self._ticks % _SPACE_TICKS == 0 and not self._probing:
            self._probing = True
            self._shell.in_background(self._disk.probe_space, self._space_known, self._space_unknown)
        if self._ticks % _READER_CHECK_TICKS == 0:
            # A front that was killed leaves its reader slot behind, and the pages it saw cannot be used again.
            self._disk.site.map.reader_check()
        probe = self._health_probe
        self._tell_health((probe.problem(time.monotonic()) if probe else "") or self._ec_watch.problem)

    def _tell_health(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            _log.warning("%s", problem or "the disk is well again")
            self._shell.publish(DiskHealth(self._disk.config.disk_id, self._epoch, problem))

    def _space_known(self, space: SpaceInfo) -> None:
        self._probing = False
        self._disk.set_space(space)

    def _space_unknown(self, error: Exception) -> None:
        self._probing = False
        _log.error("cannot ask for the free space: %s", error)

    def _tell_changes(
        self, mounted: list[VolumeStatistics] | None = None, gone: list[VolumeStatistics] | None = None
    ) -> None:
        if mounted or gone:
            event = VolumesChanged(self._disk.config.disk_id, self._epoch, mounted or [], gone or [])
            self._shell.publish(event)

    def _tasks(self) -> list[TaskReport]:
        return [*self._compactions.tasks(), *self._ec_operations.tasks()]

    def _report_changes(self, *, always: bool = False) -> None:
        changed, gone = self._disk.changes()
        if changed or gone or always:
            self._report(changed, gone, full=False)

    def _report(self, volumes: list[VolumeStatistics], gone: list[int], *, full: bool) -> None:
        disk, options = self._disk, self._options
        self._shell.publish(
            DiskReport(
                disk_id=disk.config.disk_id,
                epoch=self._epoch,
                full=full,
                volumes=volumes,
                gone=gone,
                total_bytes=disk.space.total_bytes,
                free_bytes=disk.space.free_bytes,
                reserved_bytes=disk.space.reserved_bytes,
                space_low=disk.space_low,
                volumes_max=disk.volumes_max(options.volume_size_limit_bytes, options.preallocate),
                max_file_key=disk.max_file_key(),
                ec_volumes=self._ec.reports(),
                tasks=self._tasks(),
            )
        )
