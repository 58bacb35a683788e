"""The node as its workers last described it: disks, volumes, room for new ones.

Everything here is memory of the supervisor's loop; no method waits for a disk. Heartbeat, ``/status`` and placement
are answered from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from supervisor.disks import BEHAVIOUR, Behaviour
from volumed.bus import calls, events
from volumed.config.node import DiskConfig, NodeConfig
from volumed.errors import NoFreeSpace, VolumeExists
from volumed.formats.report import SHARDS_PER_SLOT, EcVolumeReport, TaskReport, VolumeReport
from volumed.formats.volumename import display_disk_type
from volumed.nodetable import DiskState

__all__ = ["Disk", "Node", "ShardChanges", "VolumeChanges"]

_RESERVATION_LIFE_S = 120.0
"""A reservation whose owner died is forgotten; longer than the longest allocating call may take."""


class VolumeChanges(NamedTuple):
    """Volumes to announce and to withdraw."""

    mounted: list[VolumeReport]
    gone: list[VolumeReport]


class ShardChanges(NamedTuple):
    """The same of erasure coded volumes; each report has only the shards that it is about."""

    mounted: list[EcVolumeReport]
    gone: list[EcVolumeReport]


@dataclass
class Disk:
    """One disk. ``epoch`` 0 means that no worker was ever started."""

    config: DiskConfig
    state: DiskState = DiskState.ABSENT
    epoch: int = 0
    changed_at_s: float = 0.0
    """Wall-clock time of the last change of ``state``."""
    error: str = ""
    """Why it does not serve, or did not."""
    problem: str = ""
    """What probes find wrong with it."""
    uuid: str = ""
    volumes: dict[int, events.VolumeStatistics] = field(default_factory=dict)
    ec_volumes: dict[int, EcVolumeReport] = field(default_factory=dict)
    tasks: list[TaskReport] = field(default_factory=list)
    total_bytes: int = 0
    free_bytes: int = 0
    reserved_bytes: int = 0
    space_low: bool = False
    volumes_max: int = 0
    max_file_key: int = 0

    @property
    def behaviour(self) -> Behaviour:
        return BEHAVIOUR[self.state]

    @property
    def slots(self) -> int:
        """Volumes the master may count on: what is in use here while space is low (storage.md 9.2)."""
        return self.local_volumes() + self._shard_slots() if self.space_low else max(0, self.volumes_max)

    @property
    def free_slots(self) -> int:
        """Volumes that it may get (storage.md 9.2)."""
        return ((self.volumes_max - len(self.volumes)) * SHARDS_PER_SLOT - self._shard_count()) // SHARDS_PER_SLOT

    def local_volumes(self) -> int:
        """Volumes whose data is here."""
        return sum(not volume.report.remote_storage_name for volume in self.volumes.values())

    def _shard_count(self) -> int:
        return sum(len(volume.shards) for volume in self.ec_volumes.values())

    def forget_volumes(self) -> None:
        """Nothing is known of it any more."""
        self.volumes.clear()
        self.ec_volumes.clear()
        self.tasks = []

    def _shard_slots(self) -> int:
        return math.ceil(self._shard_count() / SHARDS_PER_SLOT)


class _Reservation(NamedTuple):
    disk_id: int
    expires_at_s: float


class Node:
    """All disks, and what is promised on them."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.disks = [Disk(disk, volumes_max=disk.volumes_max) for disk in config.disks]
        self._reservations: dict[int, _Reservation] = {}

    def is_current(self, disk_id: int, epoch: int) -> bool:
        """Whether a message comes from the worker that owns the disk now."""
        return 0 <= disk_id < len(self.disks) and self.disks[disk_id].epoch == epoch

    def take_report(self, report: events.DiskReport) -> bool:
        """Take over a worker's report; whether the disk's limits changed."""
        disk = self.disks[report.disk_id]
        if report.full:
            disk.volumes.clear()
        for volume in report.volumes:
            disk.volumes[volume.report.id] = volume
        for volume_id in report.gone:
            disk.volumes.pop(volume_id, None)
        disk.ec_volumes = {volume.id: volume for volume in report.ec_volumes}
        disk.tasks = report.tasks
        limits = disk.slots
        disk.total_bytes = report.total_bytes
        disk.free_bytes = report.free_bytes
        disk.reserved_bytes = report.reserved_bytes
        disk.space_low = report.space_low
        disk.volumes_max = report.volumes_max
        disk.max_file_key = report.max_file_key
        return disk.slots != limits

    def take_changes(self, changes: events.VolumesChanged) -> VolumeChanges:
        """Take over mounts and losses; what the master is to be told about them."""
        disk = self.disks[changes.disk_id]
        for volume in changes.mounted:
            disk.volumes[volume.report.id] = volume
        for volume in changes.gone:
            disk.volumes.pop(volume.report.id, None)
        if not disk.behaviour.reported:
            return VolumeChanges([], [])
        return VolumeChanges(
            [volume.report for volume in changes.mounted if volume.reported],
            [volume.report for volume in changes.gone],
        )

    def take_shard_changes(self, changes: events.ShardsChanged) -> ShardChanges:
        """The same of shards."""
        disk = self.disks[changes.disk_id]
        for report in changes.mounted:
            known = disk.ec_volumes.get(report.id, report)
            disk.ec_volumes[report.id] = replace(known, shards=known.shards | report.shards)
        for report in changes.gone:
            known = disk.ec_volumes.pop(report.id, report)
            left = {shard: length for shard, length in known.shards.items() if shard not in report.shards}
            if left:
                disk.ec_volumes[report.id] = replace(known, shards=left)
        return ShardChanges(changes.mounted, changes.gone) if disk.behaviour.reported else ShardChanges([], [])

    def reports(self) -> Iterator[VolumeReport]:
        """Every volume the master is told of."""
        for disk in self.disks:
            if disk.behaviour.reported:
                yield from (volume.report for volume in disk.volumes.values() if volume.reported)

    def shard_reports(self) -> Iterator[EcVolumeReport]:
        """Every erasure coded volume the master is told of, once for each disk that has shards of it."""
        for disk in self.disks:
            if disk.behaviour.reported:
                yield from disk.ec_volumes.values()

    def max_file_key(self) -> int:
        """Highest needle key of all reported volumes."""
        return max((disk.max_file_key for disk in self.disks if disk.behaviour.reported), default=0)

    def holds(self, volume_id: int) -> bool:
        """Whether any disk has the volume mounted, reachable or not."""
        return any(volume_id in disk.volumes for disk in self.disks)

    def place(self, volume_id: int, disk_type: str, now_s: float) -> int:
        """Choose and reserve the disk of a new volume (storage.md 9.2); raises `VolumeExists` or `NoFreeSpace`."""
        self._forget_expired(now_s)
        if volume_id in self._reservations or self.holds(volume_id):
            raise VolumeExists.of(volume_id)
        fitting = [disk for disk in self.disks if disk.config.disk_type == disk_type and self._has_room(disk)]
        if not fitting:
            raise NoFreeSpace.for_volume()
        chosen = min(fitting, key=lambda disk: disk.local_volumes() + self._reserved(disk.config.disk_id))
        return self._reserve(volume_id, chosen.config.disk_id, now_s + _RESERVATION_LIFE_S)

    def place_copy(self, volume_id: int, disk_type: str, needed_bytes: int, now_s: float) -> int:
        """Choose and reserve the disk of a volume that comes from another server, for as long as that takes: the one
        with the most free slots (storage.md 9.2). Raises `VolumeExists`, `NoFreeSpace`."""
        self._forget_expired(now_s)
        if volume_id in self._reservations:
            raise VolumeExists.of(volume_id)
        fitting = [
            disk
            for disk in self.disks
            if disk.config.disk_type == disk_type
            and self._has_room(disk)
            and self._free_slots(disk) > 0
            and disk.free_bytes > needed_bytes
        ]
        if not fitting:
            raise NoFreeSpace.for_copy(display_disk_type(disk_type))
        return self._reserve(volume_id, max(fitting, key=self._free_slots).config.disk_id, math.inf)

    def forget_copies(self) -> None:
        """Who had made the lasting reservations is gone."""
        self._forget_expired(math.inf)

    def place_on(self, volume_id: int, disk_id: int, now_s: float) -> int:
        """Reserve a slot of a given disk; raises as `place`."""
        if self.holds(volume_id):
            raise VolumeExists.of(volume_id)
        if not self._has_room(self.disks[disk_id]):
            raise NoFreeSpace.for_volume()
        return self._reserve(volume_id, disk_id, now_s + _RESERVATION_LIFE_S)

    def release(self, volume_id: int) -> None:
        """End a reservation: the volume was created, or will not be."""
        self._reservations.pop(volume_id, None)

    def _reserve(self, volume_id: int, disk_id: int, expires_at_s: float) -> int:
        self._reservations[volume_id] = _Reservation(disk_id, expires_at_s)
        return disk_id

    def _free_slots(self, disk: Disk) -> int:
        return disk.free_slots - self._reserved(disk.config.disk_id)

    def _has_room(self, disk: Disk) -> bool:
        if not disk.behaviour.serves or not disk.behaviour.counted or disk.space_low:
            return False
        used = len(disk.volumes) + self._reserved(disk.config.disk_id)
        return disk.config.volumes_max == 0 or used < disk.volumes_max

    def _reserved(self, disk_id: int) -> int:
        return sum(reservation.disk_id == disk_id for reservation in self._reservations.values())

    def _forget_expired(self, now_s: float) -> None:
        expired = [key for key, value in self._reservations.items() if value.expires_at_s <= now_s]
        for volume_id in expired:
            del self._reservations[volume_id]

    def status(
        self,
        state: calls.ServerState,
        master: str,
        started_at_s: float,
        processes: int,
        reads: calls.ReadHistoryView,
    ) -> calls.NodeStatusView:
        """The view that ``/status``, the status page and ``VolumeServerStatus`` show."""
        return calls.NodeStatusView(
            disks=[_disk_view(disk) for disk in self.disks],
            volumes=sorted(
                (_volume_view(volume) for disk in self.disks for volume in disk.volumes.values()),
                key=lambda view: (view.id, view.disk_id),
            ),
            state=state,
            master=master,
            started_at_s=started_at_s,
            processes=processes,
            reads=reads,
            ec_volumes=sorted(
                (report for disk in self.disks for report in disk.ec_volumes.values()),
                key=lambda report: (report.id, report.disk_id),
            ),
        )


def _disk_view(disk: Disk) -> calls.DiskStatusView:
    return calls.DiskStatusView(
        disk_id=disk.config.disk_id,
        directory=disk.config.directory,
        disk_type=disk.config.disk_type,
        state=disk.state.name.lower(),
        error=disk.error or disk.problem,
        total_bytes=disk.total_bytes,
        free_bytes=disk.free_bytes,
        volumes_max=disk.volumes_max,
        volume_count=len(disk.volumes),
        space_low=disk.space_low,
        worker_starts=disk.epoch,
        changed_at_s=disk.changed_at_s,
        tasks=disk.tasks,
    )


def _volume_view(volume: events.VolumeStatistics) -> calls.VolumeView:
    report = volume.report
    return calls.VolumeView(
        id=report.id,
        collection=report.collection,
        disk_type=report.disk_type,
        disk_id=report.disk_id,
        replica_placement=report.replica_placement,
        ttl=report.ttl,
        content_bytes=volume.content_bytes,
        deleted_byte_count=report.deleted_byte_count,
        modified_at_second=report.modified_at_second,
        compact_revision=report.compact_revision,
        file_count=report.file_count,
        delete_count=report.delete_count,
        version=report.version,
        read_only=report.read_only,
        read_only_can_delete=report.read_only_can_delete,
        remote_storage_name=report.remote_storage_name,
        remote_storage_key=report.remote_storage_key,
    )
