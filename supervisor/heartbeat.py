"""The heartbeat: which messages go to the master, and what its answers mean (docs/spec/grpc.md 2).

Theory of operation
    A session is one stream to one master. It is fed snapshots of the node, changes and responses, and returns protobuf
    messages and reactions; it has no clock, no thread and no socket. The shell (`supervisor.master`) sends what it
    returns in that order (rule P19).

    The first message lists all volumes, the second all erasure-coded shards. Then a pulse every `PULSE_S` sends either
    the full list again or, to a master that keeps a digest, only what changed. Volumes that come and go are told at
    once by deltas. Only a full list may ever say that there are no volumes: the master drops everything then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from volumed.formats.report import VolumeReport, volume_hash, volumes_digest
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
        self._opened = False
        self._full_needed = True
        self._changes_accepted = False
        self._pulses = 0

    def open(self, snapshot: NodeSnapshot) -> list[master_pb2.Heartbeat]:
        """The messages that start the stream: all volumes, then all shards."""
        messages = [self._volumes_message(snapshot), self._shards_message()]
        if self._identity.compat == "4.44":
            messages.append(self._state_message(snapshot))
        self._opened = True
        return messages

    def pulse(self, snapshot: NodeSnapshot) -> list[master_pb2.Heartbeat]:
        """The messages of one `PULSE_S`."""
        self._pulses += 1
        messages = [self._volumes_message(snapshot)]
        if self._pulses % _EC_EVERY_PULSES == 0:
            messages.append(self._shards_message())
        return messages

    def refresh(self, snapshot: NodeSnapshot) -> list[master_pb2.Heartbeat]:
        """A volume heartbeat between pulses: limits or disk states changed."""
        return [self._volumes_message(snapshot)]

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
            has_no_ec_shards=True,
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

    def _shards_message(self) -> master_pb2.Heartbeat:
        return master_pb2.Heartbeat(has_no_ec_shards=True)

    def _state_message(self, snapshot: NodeSnapshot) -> master_pb2.Heartbeat:
        message = self._delta()
        message.state.CopyFrom(_state(snapshot))
        return message

    def _delta(
        self,
        new_volumes: Sequence[master_pb2.VolumeShortInformationMessage] = (),
        deleted_volumes: Sequence[master_pb2.VolumeShortInformationMessage] = (),
    ) -> master_pb2.Heartbeat:
        who = self._identity
        return master_pb2.Heartbeat(
            ip=who.ip,
            port=who.port,
            data_center=who.data_center,
            rack=who.rack,
            new_volumes=new_volumes,
            deleted_volumes=deleted_volumes,
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


def _state(snapshot: NodeSnapshot) -> volume_server_pb2.VolumeServerState:
    return volume_server_pb2.VolumeServerState(maintenance=snapshot.maintenance, version=snapshot.state_version)
