"""Calls: typed requests to a worker or to the supervisor, and their results.

A call travels as msgpack of one tagged struct; the tag is the class name. Results are plain structs whose type the
caller knows from the request's class (``Request.Result``).
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from volumed.formats.report import EcVolumeReport, TaskReport

__all__ = [
    "AllocateVolume",
    "AssignFileId",
    "ConfirmPlacement",
    "DeleteCollection",
    "DeleteNeedle",
    "DeleteNeedles",
    "DeleteVolume",
    "DiskStatusView",
    "EcLocations",
    "Empty",
    "GetState",
    "LeaveCluster",
    "Location",
    "LookupEcVolume",
    "LookupVolume",
    "MarkReadonly",
    "MarkReadonlyOnMaster",
    "MarkWritable",
    "MountVolume",
    "NeedleDeletion",
    "NodeStatus",
    "PingMaster",
    "PlaceCopy",
    "PlaceVolume",
    "ReadHistoryView",
    "Request",
    "RescanDisk",
    "ServerState",
    "SetState",
    "SupervisorRequest",
    "UnmountVolume",
    "VolumeStatus",
    "VolumeStatusView",
    "VolumeView",
    "WorkerRequest",
]


class Empty(msgspec.Struct, frozen=True):
    """Result of a call that only succeeds or fails."""


class Request(msgspec.Struct, frozen=True, tag=True):
    """Base of all calls."""

    Result: ClassVar[type[msgspec.Struct]] = Empty


# --- to a worker -----------------------------------------------------------------------------------------------


class AllocateVolume(Request, frozen=True):
    """Create a volume on this disk (storage.md 5.1). Texts are checked by the caller; ids again by the worker."""

    volume_id: int
    collection: str
    replica_placement: int
    ttl: int
    """32-bit wire form (storage.md 1.4)."""
    version: int
    preallocate_bytes: int = 0


class MountVolume(Request, frozen=True):
    """Load the files of a volume (storage.md 9.3). Fails with ``volume <vid> not found on disk``."""

    volume_id: int
    collection: str = ""


class UnmountVolume(Request, frozen=True):
    """Close a volume; absent is not an error."""

    volume_id: int


class DeleteVolume(Request, frozen=True):
    """Remove a volume and its files (storage.md 9.3)."""

    volume_id: int
    only_empty: bool = False
    only_garbage: bool = False
    keep_remote_data: bool = False


class DeleteCollection(Request, frozen=True):
    """Delete all volumes of a collection on this disk; the empty string is the default collection."""

    collection: str


class MarkReadonly(Request, frozen=True):
    """Set flag A, or B with ``can_delete`` (storage.md 5.4)."""

    volume_id: int
    can_delete: bool = False
    persist: bool = False


class MarkWritable(Request, frozen=True):
    """Clear flags A and B and any quarantine."""

    volume_id: int


class VolumeStatusView(msgspec.Struct, frozen=True):
    """Current numbers of one volume."""

    is_read_only: bool
    volume_size: int
    file_count: int
    file_deleted_count: int
    collection: str
    replica_placement: int
    ttl: int
    version: int
    compact_revision: int
    idx_file_size: int


class VolumeStatus(Request, frozen=True):
    """Numbers of a mounted volume; ``not found volume id <vid>``."""

    volume_id: int
    Result: ClassVar[type[msgspec.Struct]] = VolumeStatusView


class DeleteNeedle(msgspec.Struct, frozen=True):
    """One needle of a batch delete. ``cookie`` is None when the cookie check is skipped."""

    volume_id: int
    key: int
    cookie: int | None


class NeedleDeletion(msgspec.Struct, frozen=True):
    """HTTP-like status (202, 304, 400, 404, 406, 500), error text and freed S of one deletion (grpc.md 3.1)."""

    status: int
    error: str = ""
    size: int = 0


class DeletionResults(msgspec.Struct, frozen=True):
    """One result per needle, in order."""

    results: list[NeedleDeletion]


class DeleteNeedles(Request, frozen=True):
    """Delete needles of this disk's volumes one after the other (grpc.md 3.1)."""

    needles: list[DeleteNeedle]
    Result: ClassVar[type[msgspec.Struct]] = DeletionResults


class RescanDisk(Request, frozen=True):
    """Mount volumes that appeared on the disk (SIGHUP, storage.md 5.2)."""


WorkerRequest = (
    AllocateVolume
    | MountVolume
    | UnmountVolume
    | DeleteVolume
    | DeleteCollection
    | MarkReadonly
    | MarkWritable
    | VolumeStatus
    | DeleteNeedles
    | RescanDisk
)


# --- to the supervisor -----------------------------------------------------------------------------------------


class VolumeView(msgspec.Struct, frozen=True):
    """One mounted volume as ``/status`` shows it (http.md 6.1)."""

    id: int
    collection: str
    disk_type: str
    disk_id: int
    replica_placement: int
    ttl: int
    content_bytes: int
    deleted_byte_count: int
    modified_at_second: int
    compact_revision: int
    file_count: int
    delete_count: int
    version: int
    read_only: bool
    read_only_can_delete: bool
    remote_storage_name: str = ""
    remote_storage_key: str = ""


class DiskStatusView(msgspec.Struct, frozen=True):
    """One disk as ``/status`` and ``VolumeServerStatus`` show it; sizes in bytes as last measured by its worker."""

    disk_id: int
    directory: str
    disk_type: str
    state: str
    error: str
    total_bytes: int
    free_bytes: int
    volumes_max: int
    volume_count: int
    space_low: bool = False
    worker_starts: int = 0
    """How many workers the disk has had (the epoch of the last one)."""
    changed_at_s: float = 0.0
    """When the disk came into its state; 0 = it never was in another."""
    tasks: list[TaskReport] = []
    """What its worker has under way."""


class ReadHistoryView(msgspec.Struct, frozen=True):
    """Reads of the whole node per period, the oldest first; the last period of each list has not ended."""

    seconds: list[int]
    """60 of them."""
    minutes: list[int]
    """60."""
    hours: list[int]
    """24."""
    days: list[int]
    """7."""


class ServerState(msgspec.Struct, frozen=True):
    """``VolumeServerState`` (grpc.md 4)."""

    maintenance: bool = False
    version: int = 0


class NodeStatusView(msgspec.Struct, frozen=True):
    """The node as last reported by its workers; answered from memory, never waits for a disk."""

    disks: list[DiskStatusView]
    volumes: list[VolumeView]
    state: ServerState
    master: str
    started_at_s: float
    processes: int
    reads: ReadHistoryView
    ec_volumes: list[EcVolumeReport] = []
    """By id, then disk."""


class NodeStatus(Request, frozen=True):
    """Everything ``/status`` needs."""

    Result: ClassVar[type[msgspec.Struct]] = NodeStatusView


class GetState(Request, frozen=True):
    """Current node state."""

    Result: ClassVar[type[msgspec.Struct]] = ServerState


class SetState(Request, frozen=True):
    """Replace the node state (grpc.md 4); fails on a version conflict."""

    state: ServerState
    Result: ClassVar[type[msgspec.Struct]] = ServerState


class LeaveCluster(Request, frozen=True):
    """Stop the heartbeat for the rest of the process's life (grpc.md 3.27)."""


class Location(msgspec.Struct, frozen=True):
    """Where a copy of a volume is."""

    url: str
    public_url: str
    grpc_port: int = 0
    read_only: bool = False


class Locations(msgspec.Struct, frozen=True):
    """Locations of one volume, never empty."""

    locations: list[Location]


class LookupVolume(Request, frozen=True):
    """Ask the master where a volume is. ``max_age_s`` 0 asks freshly (http.md 3.2, 4.7)."""

    volume_id: int
    collection: str = ""
    max_age_s: float = 0.0
    Result: ClassVar[type[msgspec.Struct]] = Locations


class EcLocations(msgspec.Struct, frozen=True):
    """Where the shards of an erasure coded volume are, this node included; shards that nobody has are left out."""

    shards: dict[int, list[Location]]


class LookupEcVolume(Request, frozen=True):
    """Ask the master where the shards of a volume are (erasure-coding.md 4.11); nothing is remembered. Fails with
    ``lookup ec volume <vid>: <cause>``."""

    volume_id: int
    Result: ClassVar[type[msgspec.Struct]] = EcLocations


class MarkReadonlyOnMaster(Request, frozen=True):
    """Tell the master about a read-only change (grpc.md 3.12)."""

    volume_id: int
    collection: str
    replica_placement: int
    ttl: int
    disk_type: str
    is_readonly: bool


class PingResult(msgspec.Struct, frozen=True):
    """Times in nanoseconds since 1970."""

    start_time_ns: int
    remote_time_ns: int
    stop_time_ns: int


class DeleteAtServer(Request, frozen=True):
    """BatchDelete without cookie check at another server (http.md 5). ``grpc_port`` 0 = the usual one."""

    url: str
    grpc_port: int
    file_ids: list[str]
    Result: ClassVar[type[msgspec.Struct]] = DeletionResults


class PingMaster(Request, frozen=True):
    """``Ping`` of grpc.md 3.32 with a target."""

    target: str
    target_type: str
    Result: ClassVar[type[msgspec.Struct]] = PingResult


class Placement(msgspec.Struct, frozen=True):
    """The disk chosen for a new volume."""

    disk_id: int


class PlaceVolume(Request, frozen=True):
    """Choose and reserve a disk for a new volume (storage.md 5.1 step 1-2, 9.2); fails with
    ``Volume Id <vid> already exists!`` or ``No more free space left``. Confirm or release it afterwards."""

    volume_id: int
    disk_type: str
    Result: ClassVar[type[msgspec.Struct]] = Placement


class PlaceCopy(Request, frozen=True):
    """The same for a volume from another server, which takes ``needed_bytes`` and may be here already (storage.md 9.2);
    fails with ``no space left for disk type …``. The reservation lasts until it is confirmed, or the front is gone."""

    volume_id: int
    disk_type: str
    needed_bytes: int
    Result: ClassVar[type[msgspec.Struct]] = Placement


class ConfirmPlacement(Request, frozen=True):
    """The reserved volume was created, or not; the reservation ends."""

    volume_id: int


class Assignment(msgspec.Struct, frozen=True):
    """A fresh file id of standalone mode and where to store it."""

    fid: str
    url: str
    public_url: str
    count: int


class AssignFileId(Request, frozen=True):
    """Standalone mode: the next file ids, allocating a volume when none has room."""

    count: int = 1
    collection: str = ""
    ttl: str = ""
    Result: ClassVar[type[msgspec.Struct]] = Assignment


SupervisorRequest = (
    NodeStatus
    | GetState
    | SetState
    | LeaveCluster
    | LookupVolume
    | LookupEcVolume
    | MarkReadonlyOnMaster
    | DeleteAtServer
    | PingMaster
    | PlaceVolume
    | PlaceCopy
    | ConfirmPlacement
    | AssignFileId
)
