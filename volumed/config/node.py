"""The node's effective configuration, decided once by the supervisor and read by every child process.

The supervisor writes it as JSON to ``<runtime_dir>/node.json``; children are started with that path as their
only argument and never parse flags themselves.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

__all__ = [
    "BODY_POOL_PREFIX",
    "METRICS_PREFIX",
    "DiskConfig",
    "FreeSpaceLimit",
    "NodeConfig",
    "ProbeSettings",
    "load_node_config",
    "write_node_config",
]

SUPERVISOR_SOCKET = "supervisor.sock"
NODE_TABLE_FILE = "node.table"
NODE_CONFIG_FILE = "node.json"
BODY_POOL_PREFIX = "bodies-"
METRICS_PREFIX = "metrics-"


class FreeSpaceLimit(msgspec.Struct, frozen=True):
    """``-minFreeSpace`` of one disk: a percentage of the filesystem or a number of bytes (storage.md 5.8)."""

    percent: float = 0.0
    bytes: int = 0


class ProbeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[volume.disk.io]`` of ``volume.toml`` (http.md 9.4): how a worker watches the health of its disk."""

    timeout_s: float = 2.0
    """A probe that takes longer counts as failed."""
    interval_s: float = 60.0
    """Between two rounds of probes."""
    slow_hdd_s: float = 0.5
    """A probe that takes longer counts as slow; by disk type."""
    slow_ssd_s: float = 0.1
    slow_nvme_s: float = 0.05
    window_s: float = 60.0
    """Only probes of this age and younger count."""
    samples_min: int = 10
    """No judgement on fewer; also the number of probes in a round."""
    slow_percent: float = 20.0
    """From this share of slow probes on the disk is degraded."""
    error_percent: float = 10.0
    """From this share of failed probes on the disk is degraded."""
    stat_failures_max: int = 5
    """So many failures in a row to examine the directory make the disk degraded."""
    recovery: float = 0.5
    """A degraded disk is well again below this part of the percentages."""

    def slow_after_s(self, disk_type: str) -> float:
        """Any disk type but ``ssd`` and ``nvme`` is a hard disk."""
        return {"ssd": self.slow_ssd_s, "nvme": self.slow_nvme_s}.get(disk_type, self.slow_hdd_s)


class DiskConfig(msgspec.Struct, frozen=True):
    """One ``-dir`` entry. ``disk_id`` is its 0-based position and never changes while the node runs."""

    disk_id: int
    directory: str
    idx_directory: str
    """Directory of ``.idx`` files: ``-dir.idx`` when set, else ``directory``."""
    disk_type: str = ""
    """Wire form: the empty string is a hard disk."""
    tags: tuple[str, ...] = ()
    volumes_max: int = 8
    """``-max``; 0 means sized automatically from the free space."""
    free_space_limit: FreeSpaceLimit = FreeSpaceLimit(percent=1.0)


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a front or a worker needs to know about the node. Units are in the names."""

    runtime_dir: str
    """Private (0700) directory, on tmpfs where possible: sockets, node table, shared body pools."""
    map_dir: str
    """Root of the needle-map environments, one folder per disk uuid (design: never on the data disk)."""
    state_dir: str
    """Node state outside the data disks (standalone's id counter)."""
    disks: tuple[DiskConfig, ...]
    ip: str = "localhost"
    bind_ip: str = ""
    port: int = 8080
    public_port: int = 8080
    grpc_port: int = 18080
    public_url: str = ""
    node_id: str = ""
    data_center: str = ""
    rack: str = ""
    masters: tuple[str, ...] = ()
    standalone: bool = False
    compat: str = "4.48"
    offset_width: int = 5
    shows_ui: bool = True
    """Whether ``/ui/index.html`` is served; without it the path is a file id like any other."""
    http_fronts: int = 2
    log_verbosity: int = 0
    log_json: bool = False
    probe: ProbeSettings | None = None
    """None: disks are not probed."""
    needle_lane: bool = True
    """False routes every request through falcon (used to prove that both lanes answer the same)."""
    idle_timeout_s: float = 30.0
    pre_stop_s: float = 10.0
    file_size_limit_bytes: int = 256 << 20
    whole_body_bytes_max: int = 16 << 20
    """Longer uploads are not kept in memory but spooled to the disk while they arrive."""
    images_upright: bool = False
    """Turn JPEG images upright when they are uploaded."""
    read_mode: str = "proxy"
    read_block_bytes: int = 512 << 10
    """Most that is read at once of a large object."""
    upload_limit_bytes: int = 0
    """In-flight limit of the node, 0 = off."""
    download_limit_bytes: int = 0
    upload_wait_s: float = 60.0
    download_wait_s: float = 60.0
    metrics_ip: str = ""
    metrics_port: int = 0
    """0: no metrics listener."""
    debug_port: int = 0
    """Of the profiling listener on the loopback address, 0 = none."""
    pprof: bool = False
    """Profiling pages on the admin port."""
    compaction_bytes_per_s: int = 0
    """Speed limit of each disk's vacuums, 0 = none."""
    volume_size_limit_bytes: int = 30_000 << 20
    """Used by standalone mode; a master tells its own."""
    preallocate: bool = False
    maintenance_bytes_per_s: int = 0
    """Limit of each copy from another server, 0 = none."""
    allow_untrusted_endpoints: bool = False
    """Whether volumes and objects may be fetched from this host and the like (``volumed.security.endpoints``)."""

    def index_mates(self, disk: DiskConfig) -> tuple[str, ...]:
        """Data directories of other disks that share its index directory."""
        return tuple(
            other.directory
            for other in self.disks
            if other.disk_id != disk.disk_id and other.idx_directory == disk.idx_directory
        )

    def runtime_path(self, name: str) -> str:
        """Path of a file in the runtime directory."""
        return os.path.join(self.runtime_dir, name)

    def supervisor_endpoint(self) -> str:
        """ZeroMQ endpoint of the supervisor's ROUTER."""
        return "ipc://" + self.runtime_path(SUPERVISOR_SOCKET)

    def worker_endpoint(self, disk_id: int, epoch: int) -> str:
        """ZeroMQ endpoint of a worker's ROUTER. The epoch is part of the name, so that a message meant for
        a dead worker can never reach its successor."""
        return "ipc://" + self.runtime_path(f"disk-{disk_id}.{epoch}.sock")

    def body_pool_path(self, pid: int) -> str:
        """Path of the body pool of the HTTP front with that process id (``volumed.bus.bodypool``)."""
        return self.runtime_path(f"{BODY_POOL_PREFIX}{pid}")

    def metrics_path(self, owner: str) -> str:
        """Path of a process's metrics page (``volumed.metrics.page``); ``owner`` like ``http-0`` or ``disk-0``."""
        return self.runtime_path(METRICS_PREFIX + owner)

    def node_table_path(self) -> str:
        """Path of the shared node table (``volumed.nodetable``)."""
        return self.runtime_path(NODE_TABLE_FILE)


def write_node_config(config: NodeConfig) -> str:
    """Write the configuration into its runtime directory and return the file's path."""
    path = config.runtime_path(NODE_CONFIG_FILE)
    Path(path).write_bytes(msgspec.json.encode(config))
    return path


def load_node_config(path: str) -> NodeConfig:
    """Read what ``write_node_config`` wrote."""
    return msgspec.json.decode(Path(path).read_bytes(), type=NodeConfig)
