"""Events between workers and the supervisor: one-way, in order, never answered.

A worker pushes what changed; the supervisor composes the heartbeat, ``/status`` and metrics from the last report and
so never waits for a disk.
"""

from __future__ import annotations

import msgspec

from volumed.formats.report import EcVolumeReport, TaskReport, VolumeReport

__all__ = [
    "BackendSettings",
    "DiskFailed",
    "DiskHealth",
    "DiskReady",
    "DiskReport",
    "NodeOptions",
    "Ping",
    "Pong",
    "ShardsChanged",
    "StorageBackends",
    "SupervisorEvent",
    "VolumeStatistics",
    "VolumesChanged",
    "WorkerEvent",
]


class Event(msgspec.Struct, frozen=True, tag=True):
    """Base of all events."""


class VolumeStatistics(msgspec.Struct, frozen=True):
    """One mounted volume: what the master is told, and the few numbers only ``/status`` and metrics need."""

    report: VolumeReport
    content_bytes: int
    reported: bool = True
    """False while the volume must not be announced: quarantined, unavailable, expired, phantom (storage.md 9.4)."""


class DiskReady(Event, frozen=True):
    """The disk is open and all its volumes are loaded; a full ``DiskReport`` came before."""

    disk_id: int
    epoch: int
    map_path: str
    uuid: str


class DiskFailed(Event, frozen=True):
    """The worker cannot open its disk and ends; ``reason`` is shown to operators."""

    disk_id: int
    epoch: int
    reason: str


class DiskHealth(Event, frozen=True):
    """What probes find wrong with a disk that serves, empty when all is well again; sent when it changes."""

    disk_id: int
    epoch: int
    problem: str


class DiskReport(Event, frozen=True):
    """Periodic report (every second when something changed, else every pulse). ``full`` replaces all volumes known of
    the disk; otherwise ``volumes`` are new or changed and ``gone`` left."""

    disk_id: int
    epoch: int
    full: bool
    volumes: list[VolumeStatistics]
    gone: list[int]
    total_bytes: int
    free_bytes: int
    space_low: bool
    volumes_max: int
    """Effective maximum (storage.md 9.2), automatic sizing applied."""
    max_file_key: int
    reserved_bytes: int = 0
    """Free, but not for us."""
    ec_volumes: list[EcVolumeReport] = []
    """All that are mounted, in every report."""
    tasks: list[TaskReport] = []
    """All that are under way, in every report. While there are any there is one every second."""


class VolumesChanged(Event, frozen=True):
    """Volumes mounted or gone, sent at once (before the call that caused it is answered): becomes a delta heartbeat."""

    disk_id: int
    epoch: int
    mounted: list[VolumeStatistics]
    gone: list[VolumeStatistics]


class ShardsChanged(Event, frozen=True):
    """Shards mounted or gone, sent at once (before the call that caused it is answered): becomes a delta heartbeat.
    Each report has only the shards that it is about; those that are gone have no length."""

    disk_id: int
    epoch: int
    mounted: list[EcVolumeReport]
    gone: list[EcVolumeReport]


class Pong(Event, frozen=True):
    """Answer of the worker's loop thread to a ``Ping``: the loop is alive."""

    disk_id: int
    epoch: int
    sequence: int


class Ping(Event, frozen=True):
    """Sent every second; a loop that does not answer in time makes the disk ``stuck``."""

    sequence: int


class NodeOptions(Event, frozen=True):
    """What the master told: needed for automatic sizing and TTL expiry."""

    volume_size_limit_bytes: int
    preallocate: bool


class BackendSettings(msgspec.Struct, frozen=True):
    """A backend for tiered volumes in the words of the master (grpc.md 5.1)."""

    type: str
    id: str
    properties: dict[str, str]


class StorageBackends(Event, frozen=True):
    """All backends that the master has told of; they are told to every worker, and again when there are more."""

    backends: list[BackendSettings]


WorkerEvent = DiskReady | DiskFailed | DiskHealth | DiskReport | VolumesChanged | ShardsChanged | Pong
SupervisorEvent = Ping | NodeOptions | StorageBackends
