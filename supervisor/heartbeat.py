"""The heartbeat: which messages go to the master, and what its answers mean (docs/spec/grpc.md 2).

Theory of operation
    A session is one stream to one master. It is fed snapshots of the node, changes and responses, and returns protobuf
    messages and reactions; it has no clock, no thread and no socket. The shell (`supervisor.master`) sends what it
    returns in that order (rule P19).

    The first message lists all volumes, the second all erasure-coded shards. Then a pulse every `PULSE_S` sends either
    the full list again or, to a master that keeps a digest, only what changed. Volumes that come and go are told at
    once by deltas. Only a full list may ever say that there are no volumes: the master drops everything then.

    Shards are told by deltas too, and all of them every `_EC_EVERY_PULSES` pulses or as soon as the master knows of
    others than there are, which happens when a disk goes away or comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from volumed.formats.report import EcVolumeReport, VolumeReport, volume_hash, volumes_digest
from volumed.wire import master_pb2, volume_server_pb2

__all__ = ["PULSE_S", "DiskCapacity", "HeartbeatSession", "Identity", "NodeSnapshot", "Reaction"]

PULSE_S = 5.0
_EC_EVERY_PULSES = 17


class Identity(NamedTuple):
    """What never changes while the node runs."""

    ip: str
    port: int
    grpc_port: int
    public_url: str
    node_id: str
    data_center: str
    rack: str
    compat: str = "4.48"


class DiskCapacity(NamedTuple):
    """One disk as the master counts it."""

    disk_id: int
    disk_type: str
    tags: tuple[str, ...]
    volumes_max: int
    """Effective maximum; what is in use while the disk is low on space."""
    counted: bool
    total_bytes: int
    free_bytes: int
    uuid: str


class NodeSnapshot(NamedTuple):
    """The node at one moment."""

    disks: Sequence[DiskCapacity]
    volumes: Sequence[VolumeReport]
    ec_volumes: Sequence[EcVolumeReport]
    max_file_key: int
    maintenance: bool
    state_version: int


class Reaction(NamedTuple):
    """What a response tells the node. A limit of zero means nothing. Whether the stream ends is not decided here
    but by `supervisor.route.stream_end`."""

    volume_size_limit_bytes: int = 0
    preallocate: bool = False


class _Reported(NamedTuple):
    """A volume as the master knows it from this stream."""

    report: VolumeReport
    digest: int


class HeartbeatSession:
    """One stream to one master."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._reported: dict[tuple[int, int], _Reported] = {}
        self._told_shards: dict[tuple[int, int], int] = {}
        """Bits of the shards by disk and volume, as the master knows them from this stream."""
        self._opened = False
        self._full_needed = True
        self._changes_accepted = False
        self._pulses = 0

    def open(self, snapshot: NodeSnapshot) -> list[master_pb2.Heartbeat]:
        """The messages that start the stream: all volumes, then all shards."""
        messages = [self._volumes_message(snapshot), self._shards_message(snapshot)]
        if self._identity.compat == "4.44":
            messages.append(self._state_message(snapshot))
        self._opened = True
        return messages

    def pulse(self, snapshot: NodeSnapshot) -> list[master_pb2.Heartbeat]:
        """The messages of one `PULSE_S`."""
        self._pulses += 1
        return self._regular(snapshot, with_shards=self._pulses % _EC_EVERY_PULSES == 0)

    def refresh(self, snapshot: NodeSnapshot) -> list[master_pb2.Heartbeat]:
        """A volume heartbeat between pulses: limits or disk states changed."""
        return self._regular(snapshot, with_shards=False)

    def volumes_changed(
        self, mounted: Iterable[VolumeReport], gone: Iterable[VolumeReport]
    ) -> list[master_pb2.Heartbeat]:
        """Deltas, at most one message per kind. Before the first full list there is nothing to tell."""
        if not self._opened:
            return []
        messages = []
        new_volumes = [self._short(report) for report in mounted]
        deleted_volumes = [self._short(report) for report in gone]
        if new_volumes:
            messages.append(self._delta(new_volumes=new_volumes))
        if deleted_volumes:
            messages.append(self._delta(deleted_volumes=deleted_volumes))
        return messages

    def shards_changed(
        self, mounted: Iterable[EcVolumeReport], gone: Iterable[EcVolumeReport]
    ) -> list[master_pb2.Heartbeat]:
        """The same of shards, each in a message of its own."""
        if not self._opened:
            return []
        messages = []
        new_shards = [shard for report in mounted for shard in _single_shards(report)]
        deleted_shards = [shard for report in gone for shard in _single_shards(report)]
        if new_shards:
            messages.append(self._delta(new_ec_shards=new_shards))
        if deleted_shards:
            messages.append(self._delta(deleted_ec_shards=deleted_shards))
        told = self._told_shards
        for shard in new_shards:
            told[shard.disk_id, shard.id] = told.get((shard.disk_id, shard.id), 0) | shard.ec_index_bits
        for shard in deleted_shards:
            told[shard.disk_id, shard.id] = told.get((shard.disk_id, shard.id), 0) & ~shard.ec_index_bits
        return messages

    def receive(self, response: master_pb2.HeartbeatResponse) -> Reaction:
        """Take an answer into account (section 2.6)."""
        if response.volume_digest_supported:
            self._changes_accepted = True
        if response.resend_full_volume_list:
            self._full_needed = True
        return Reaction(response.volume_size_limit, response.preallocate)

    def leave(self) -> master_pb2.Heartbeat:
        """The last message: this node has no volumes any more (section 2.8)."""
        who = self._identity
        return master_pb2.Heartbeat(
            ip=who.ip,
            port=who.port,
            public_url=who.public_url,
            data_center=who.data_center,
            rack=who.rack,
            has_no_volumes=True,
        )

    def _regular(self, snapshot: NodeSnapshot, *, with_shards: bool) -> list[master_pb2.Heartbeat]:
        """A volume heartbeat, and the shards if it is time or the master has another idea of them."""
        messages = [self._volumes_message(snapshot)]
        told = {key: bits for key, bits in self._told_shards.items() if bits}
        if with_shards or told != _all_bits(snapshot):
            messages.append(self._shards_message(snapshot))
        return messages

    def _volumes_message(self, snapshot: NodeSnapshot) -> master_pb2.Heartbeat:
        """A full or a changed-only heartbeat (sections 2.4, 2.5)."""
        full = self._full_needed or not self._changes_accepted
        before = self._reported
        self._reported = self._account(snapshot.volumes)
        message = self._frame(snapshot)
        message.volume_digest = volumes_digest(entry.digest for entry in self._reported.values())
        if full:
            message.volumes.extend(_full(entry.report) for entry in self._reported.values())
            message.has_no_volumes = not self._reported
            self._full_needed = False
        else:
            message.changed_volumes.extend(
                _full(entry.report)
                for key, entry in self._reported.items()
                if key not in before or before[key].digest != entry.digest
            )
            message.deleted_volumes.extend(self._departed(before))
        return message

    def _account(self, reports: Iterable[VolumeReport]) -> dict[tuple[int, int], _Reported]:
        """The hash of every volume; a report that is the same object as last time keeps its hash."""
        account = {}
        for report in reports:
            key = (report.disk_id, report.id)
            known = self._reported.get(key)
            if known is None or known.report is not report:
                told = self._told(report)
                known = _Reported(told, volume_hash(told))
            account[key] = known
        return account

    def _told(self, report: VolumeReport) -> VolumeReport:
        if self._identity.compat == "4.44" and report.read_only_can_delete:
            return msgspec.structs.replace(report, read_only_can_delete=False)
        return report

    def _departed(self, before: dict[tuple[int, int], _Reported]) -> list[master_pb2.VolumeShortInformationMessage]:
        """Volumes reported before whose id is on no disk any more."""
        present = {volume_id for _, volume_id in self._reported}
        return [self._short(entry.report) for (_, volume_id), entry in before.items() if volume_id not in present]

    def _frame(self, snapshot: NodeSnapshot) -> master_pb2.Heartbeat:
        """The fields that full and changed-only heartbeats share."""
        who = self._identity
        message = master_pb2.Heartbeat(
            ip=who.ip,
            port=who.port,
            grpc_port=who.grpc_port,
            public_url=who.public_url,
            id=who.node_id,
            data_center=who.data_center,
            rack=who.rack,
            max_file_key=snapshot.max_file_key,
            has_no_ec_shards=not snapshot.ec_volumes,
            location_uuids=[disk.uuid for disk in snapshot.disks if disk.uuid],
        )
        for disk in snapshot.disks:
            message.disk_tags.add(
                disk_id=disk.disk_id, tags=disk.tags, type=disk.disk_type, max_volume_count=disk.volumes_max
            )
            if disk.counted:
                message.max_volume_counts[disk.disk_type] += max(0, disk.volumes_max)
                message.disk_total_bytes[disk.disk_type] += disk.total_bytes
                message.disk_free_bytes[disk.disk_type] += disk.free_bytes
        if who.compat != "4.44":
            message.state.CopyFrom(_state(snapshot))
        return message

    def _shards_message(self, snapshot: NodeSnapshot) -> master_pb2.Heartbeat:
        """All shards (erasure-coding.md 4.9)."""
        self._told_shards = _all_bits(snapshot)
        return master_pb2.Heartbeat(
            ec_shards=[_ec_volume(report) for report in snapshot.ec_volumes],
            has_no_ec_shards=not snapshot.ec_volumes,
        )

    def _state_message(self, snapshot: NodeSnapshot) -> master_pb2.Heartbeat:
        message = self._delta()
        message.state.CopyFrom(_state(snapshot))
        return message

    def _delta(
        self,
        new_volumes: Sequence[master_pb2.VolumeShortInformationMessage] = (),
        deleted_volumes: Sequence[master_pb2.VolumeShortInformationMessage] = (),
        new_ec_shards: Sequence[master_pb2.VolumeEcShardInformationMessage] = (),
        deleted_ec_shards: Sequence[master_pb2.VolumeEcShardInformationMessage] = (),
    ) -> master_pb2.Heartbeat:
        who = self._identity
        return master_pb2.Heartbeat(
            ip=who.ip,
            port=who.port,
            data_center=who.data_center,
            rack=who.rack,
            new_volumes=new_volumes,
            deleted_volumes=deleted_volumes,
            new_ec_shards=new_ec_shards,
            deleted_ec_shards=deleted_ec_shards,
        )

    def _short(self, report: VolumeReport) -> master_pb2.VolumeShortInformationMessage:
        message = master_pb2.VolumeShortInformationMessage(
            id=report.id,
            collection=report.collection,
            replica_placement=report.replica_placement,
            version=report.version,
            ttl=report.ttl,
            disk_type=report.disk_type,
            disk_id=report.disk_id,
        )
        if self._identity.compat != "4.44":
            message.read_only = report.read_only
            message.read_only_can_delete = report.read_only_can_delete
        return message


def _full(report: VolumeReport) -> master_pb2.VolumeInformationMessage:
    return master_pb2.VolumeInformationMessage(**msgspec.structs.asdict(report))


def _bits(report: EcVolumeReport) -> int:
    return sum(1 << shard for shard in report.shards)


def _all_bits(snapshot: NodeSnapshot) -> dict[tuple[int, int], int]:
    return {(report.disk_id, report.id): _bits(report) for report in snapshot.ec_volumes}


def _ec_volume(report: EcVolumeReport) -> master_pb2.VolumeEcShardInformationMessage:
    return master_pb2.VolumeEcShardInformationMessage(
        id=report.id,
        collection=report.collection,
        ec_index_bits=_bits(report),
        disk_type=report.disk_type,
        expire_at_sec=report.expire_at_sec,
        disk_id=report.disk_id,
        shard_sizes=[length for _, length in sorted(report.shards.items())],
        file_count=report.file_count,
        delete_count=report.delete_count,
        encode_ts_ns=report.encode_ts_ns,
    )


def _single_shards(report: EcVolumeReport) -> Iterator[master_pb2.VolumeEcShardInformationMessage]:
    """A message for each shard, without the counts of the volume."""
    for shard, length in sorted(report.shards.items()):
        one = msgspec.structs.replace(report, shards={shard: length}, file_count=0, delete_count=0)
        yield _ec_volume(one)


def _state(snapshot: NodeSnapshot) -> volume_server_pb2.VolumeServerState:
    return volume_server_pb2.VolumeServerState(maintenance=snapshot.maintenance, version=snapshot.state_version)
