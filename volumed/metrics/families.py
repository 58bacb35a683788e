"""Every metric of the node, once (docs/spec/http.md 10). The reference's metrics have its names, ours begin with
``volumed_``. Recorders and exporter read this table; docs/metrics.md repeats it for operators and a test compares."""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = [
    "BUILD_INFO",
    "DISK_ERROR",
    "DISK_SIZE",
    "DISK_STATE",
    "DOWNLOADS_IN_FLIGHT",
    "DOWNLOAD_LIMIT",
    "EC_REBUILDS",
    "EC_REBUILD_SECONDS",
    "EC_REPAIRED",
    "FAMILIES",
    "HANDLER_EVENTS",
    "INVALID_NEEDLES",
    "IN_FLIGHT",
    "IO_ERRORS",
    "MASTER_DISCONNECTIONS",
    "MAX_VOLUMES",
    "METRICS_DROPPED",
    "PROCESSES",
    "PROCESS_CPU",
    "PROCESS_MEMORY",
    "QUARANTINED",
    "READ_FAILURES",
    "READ_ONLY_VOLUMES",
    "REPLICATIONS",
    "REPLICATION_FAILURES",
    "REPLICATION_SECONDS",
    "REPLICATION_TARGETS",
    "REQUESTS",
    "RESOURCE",
    "SCRUB_SHARD_FAILURES",
    "SCRUB_TIME",
    "SCRUB_VOLUME_FAILURES",
    "SECONDS",
    "START_TIME",
    "TASKS",
    "UPLOADS_IN_FLIGHT",
    "UPLOAD_ERRORS",
    "UPLOAD_LIMIT",
    "VACUUM_COMMITS",
    "VACUUM_COMPACTIONS",
    "VACUUM_SECONDS",
    "VOLUMES",
    "WORKER_RESTARTS",
    "WRITE_FAILURES",
    "Family",
    "Kind",
    "Owner",
]


class Kind(enum.StrEnum):
    """Type of a metric, with Prometheus' names."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Owner(enum.StrEnum):
    """Which processes update a metric. Fronts and workers count in pages, the supervisor states what it knows."""

    FRONT = "front"
    GRPC_FRONT = "grpc front"
    WORKER = "worker"
    SUPERVISOR = "supervisor"


class Family(NamedTuple):
    """One metric with all its series. ``buckets`` are the upper bounds of a histogram, without infinity. A ``lasting``
    gauge holds beyond the end of the process that set it."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    owner: Owner
    help: str
    buckets: tuple[float, ...] = ()
    lasting: bool = False

    @property
    def cells(self) -> int:
        """Cells of one series in a page: a value; or one count per bucket, one for infinity, and the sum."""
        return len(self.buckets) + 2 if self.kind is Kind.HISTOGRAM else 1


_SECONDS = tuple(0.0001 * 2**k for k in range(24))
_REBUILD_SECONDS = tuple(0.01 * 2**k for k in range(20))
_TARGETS = (1.0, 2.0, 3.0, 4.0, 5.0)
_REFERENCE = "SeaweedFS_volumeServer_"


FAMILIES: dict[str, Family] = {}
"""All of them by name."""


def _front(name: str, kind: Kind, labels: tuple[str, ...], text: str, buckets: tuple[float, ...] = ()) -> Family:
    return _register(Family(name, kind, labels, Owner.FRONT, text, buckets))


def _grpc_front(name: str, kind: Kind, labels: tuple[str, ...], text: str, buckets: tuple[float, ...] = ()) -> Family:
    return _register(Family(name, kind, labels, Owner.GRPC_FRONT, text, buckets, lasting=True))


def _worker(name: str, kind: Kind, labels: tuple[str, ...], text: str, buckets: tuple[float, ...] = ()) -> Family:
    return _register(Family(name, kind, labels, Owner.WORKER, text, buckets))


def _stated(name: str, kind: Kind, labels: tuple[str, ...], text: str) -> Family:
    return _register(Family(name, kind, labels, Owner.SUPERVISOR, text))


def _register(family: Family) -> Family:
    FAMILIES[family.name] = family
    return family


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

# What fronts count

REQUESTS = _front(_REFERENCE + "request_total", _C, ("type", "code"), "Answered requests by method and status.")
SECONDS = _front(
    _REFERENCE + "request_seconds", _H, ("type",), "Time to answer, and of the steps of a write.", _SECONDS
)
IN_FLIGHT = _front(_REFERENCE + "in_flight_requests", _G, ("type",), "Requests and steps of writes in progress.")
HANDLER_EVENTS = _front(_REFERENCE + "handler_total", _C, ("type",), "Things that happened while answering.")
READ_FAILURES = _front(_REFERENCE + "file_read_failures", _C, (), "Reads answered 404 or 500.")
INVALID_NEEDLES = _front(
    _REFERENCE + "file_read_invalid_needles", _C, (), "Reads of ids that were never stored or whose volume is not here."
)
WRITE_FAILURES = _front(_REFERENCE + "file_write_failures", _C, (), "Failed writes and deletes.")
REPLICATIONS = _front(
    _REFERENCE + "replication_operations_total", _C, ("operation", "result"), "Writes and deletes passed on to copies."
)
REPLICATION_SECONDS = _front(
    _REFERENCE + "replication_seconds", _H, ("operation",), "Time until all copies have answered.", _SECONDS
)
REPLICATION_TARGETS = _front(_REFERENCE + "replication_targets", _H, (), "Other copies of a write or delete.", _TARGETS)
REPLICATION_FAILURES = _front(
    _REFERENCE + "replication_failures_total", _C, ("operation", "reason"), "Failed writes and deletes of copies."
)
UPLOAD_ERRORS = _front(
    "SeaweedFS_upload_error_total", _C, ("code",), "Failed uploads to other servers; code 0: no answer."
)
EC_REPAIRED = _front(
    "volumed_ec_repaired_reads_total", _C, (), "Reads of erasure coded needles that had to do without a damaged shard."
)

# What the gRPC front counts

SCRUB_TIME = _grpc_front(
    _REFERENCE + "scrub_last_time_seconds", _G, ("mode",), "Last complete scrub of a mode, seconds since 1970."
)
SCRUB_VOLUME_FAILURES = _grpc_front(
    _REFERENCE + "scrub_volume_failures", _C, ("mode",), "Broken volumes that scrubs found, erasure coded ones too."
)
SCRUB_SHARD_FAILURES = _grpc_front(
    _REFERENCE + "scrub_shard_failures", _C, ("mode",), "Broken shards that scrubs found."
)
EC_REBUILDS = _grpc_front(_REFERENCE + "ec_rebuild_total", _C, ("result",), "Rebuilds of missing shards.")
EC_REBUILD_SECONDS = _grpc_front(
    _REFERENCE + "ec_rebuild_seconds", _H, ("result",), "Time of rebuilds of missing shards.", _REBUILD_SECONDS
)

# What workers count

IO_ERRORS = _worker(_REFERENCE + "storage_io_error_total", _C, (), "Reads and writes of disks that ended in EIO.")
QUARANTINED = _worker(
    _REFERENCE + "io_quarantine", _G, ("kind",), "Volumes withdrawn after repeated EIO, and shards that have met it."
)

VACUUM_COMPACTIONS = _worker(_REFERENCE + "vacuuming_compact_count", _C, ("success",), "Compactions of volumes.")
VACUUM_COMMITS = _worker(_REFERENCE + "vacuuming_commit_count", _C, ("success",), "Commits of compactions.")
VACUUM_SECONDS = _worker(_REFERENCE + "vacuuming_seconds", _H, ("type",), "Time of the steps of vacuums.", _SECONDS)

# What the supervisor states

BUILD_INFO = _stated(
    "SeaweedFS_build_info", _G, ("version", "commit", "sizelimit", "goos", "goarch"), "What is running; always 1."
)
START_TIME = _stated(_REFERENCE + "start_time_seconds", _G, (), "Start of the node, seconds since 1970.")
UPLOAD_LIMIT = _stated(_REFERENCE + "concurrent_upload_limit", _G, (), "Limit of uploads in flight in bytes, 0 = off.")
DOWNLOAD_LIMIT = _stated(
    _REFERENCE + "concurrent_download_limit", _G, (), "Limit of downloads in flight in bytes, 0 = off."
)
UPLOADS_IN_FLIGHT = _stated(_REFERENCE + "in_flight_upload_size", _G, (), "Bytes of uploads in flight.")
DOWNLOADS_IN_FLIGHT = _stated(_REFERENCE + "in_flight_download_size", _G, (), "Bytes of downloads in flight.")
VOLUMES = _stated(_REFERENCE + "volumes", _G, ("collection", "type"), "Mounted volumes.")
READ_ONLY_VOLUMES = _stated(
    _REFERENCE + "read_only_volumes", _G, ("collection", "type"), "Volumes that take no writes, by reason."
)
MAX_VOLUMES = _stated(_REFERENCE + "max_volumes", _G, (), "Volumes that all disks together may hold.")
DISK_SIZE = _stated(_REFERENCE + "total_disk_size", _G, ("collection", "type"), "Bytes in volumes.")
RESOURCE = _stated(_REFERENCE + "resource", _G, ("name", "type"), "Bytes of the filesystem of a directory.")
DISK_ERROR = _stated(
    _REFERENCE + "disk_error_status", _G, ("name", "type"), "1 while a directory's disk is stuck, failed or degraded."
)
MASTER_DISCONNECTIONS = _stated(_REFERENCE + "master_disconnections", _C, ("address",), "Heartbeat streams that ended.")
DISK_STATE = _stated("volumed_disk_state", _G, ("dir", "state"), "1 for the state a disk is in, 0 for all others.")
TASKS = _stated(
    "volumed_task_bytes",
    _G,
    ("dir", "task", "volume", "type"),
    "How far long work on a volume is, while it is under way.",
)
WORKER_RESTARTS = _stated("volumed_worker_restarts_total", _C, ("dir",), "Starts of a disk's worker after the first.")
PROCESSES = _stated("volumed_processes", _G, (), "Processes of the node.")
PROCESS_CPU = _stated(
    "volumed_process_cpu_seconds_total", _C, ("process",), "User and system time of each process of the node."
)
PROCESS_MEMORY = _stated(
    "volumed_process_resident_memory_bytes", _G, ("process",), "Resident memory of each process, shared pages included."
)
METRICS_DROPPED = _stated("volumed_metrics_dropped_total", _C, (), "Series for which a metrics page had no room.")
