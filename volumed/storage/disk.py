"""One data directory and all its volumes. SKELETON: signatures are settled, bodies follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from volumed.bus.calls import AllocateVolume, DeleteVolume, MarkReadonly, VolumeStatusView
from volumed.bus.events import VolumeStatistics
from volumed.bus.frames import ReadOperation, StoreOperation, StoreResult
from volumed.config.node import DiskConfig, NodeConfig
from volumed.errors import DiskError
from volumed.storage.fileio import FileIO, SpaceInfo
from volumed.storage.volume import Volume

__all__ = ["Disk", "Flush", "StoreBatch"]


@dataclass
class Flush:
    """Files of one volume that must reach the disk before some operations may be answered.

    ``run`` may be called on any thread (the sync thread) and raises `DiskError`; afterwards the loop thread calls
    `Disk.finish_flush` with the outcome. Until then the volume takes no other operation (``Disk.is_flushing``)."""

    volume_id: int
    positions: list[int]
    """Indexes, in the batch, of the operations that wait: all of this volume."""

    def run(self) -> None:
        raise NotImplementedError


@dataclass
class StoreBatch:
    """Outcome of `Disk.store`: results in the order of the operations, and what must be flushed before those named
    by a flush are answered. The others may be answered at once."""

    results: list[StoreResult]
    flushes: list[Flush] = field(default_factory=list)


class Disk:
    """A disk as its worker owns it.

    Everything except `read`, `Flush.run` and `sync_all` is called on one thread, the worker's loop thread."""

    config: DiskConfig
    uuid: str
    map_path: str
    volumes: Mapping[int, Volume]
    space: SpaceInfo
    space_low: bool

    @classmethod
    def open(cls, config: DiskConfig, node: NodeConfig, files: FileIO | None = None) -> Disk:
        """Check and lock the directory, open the map, load every volume. Raises `DiskError`."""
        raise NotImplementedError

    def store(self, operations: Sequence[StoreOperation]) -> StoreBatch:
        """Apply puts and deletes of any volumes of this disk; one map transaction. Never raises for an operation:
        its result carries the error. ``body`` must already be resolved for shared bodies. An operation of
        generation 0 takes whatever generation is current."""
        raise NotImplementedError

    def is_flushing(self, volume_id: int) -> bool:
        """Whether operations for the volume must be held back until its flush is finished."""
        raise NotImplementedError

    def finish_flush(self, flush: Flush, error: DiskError | None) -> DiskError | None:
        """End a flush; after a failed one the batch's effects on that volume are undone. Returns the error to
        answer its operations with, None = answer with the batch's results."""
        raise NotImplementedError

    def read(self, operation: ReadOperation) -> bytes:
        """Serve one read (any thread). Raises the domain error of the read."""
        raise NotImplementedError

    def allocate(self, request: AllocateVolume) -> VolumeStatistics:
        """Create and mount a volume (storage.md 5.1)."""
        raise NotImplementedError

    def mount(self, volume_id: int, collection: str = "") -> VolumeStatistics | None:
        """Load a volume; None when it was mounted already (storage.md 9.3)."""
        raise NotImplementedError

    def unmount(self, volume_id: int) -> VolumeStatistics | None:
        """Close a volume; its last statistics, None when it was not mounted."""
        raise NotImplementedError

    def delete(self, request: DeleteVolume) -> VolumeStatistics:
        """Remove a volume and its files."""
        raise NotImplementedError

    def delete_collection(self, collection: str) -> list[VolumeStatistics]:
        """Remove all volumes of a collection; what is gone."""
        raise NotImplementedError

    def mark_readonly(self, request: MarkReadonly) -> None:
        """Set flag A or B."""
        raise NotImplementedError

    def mark_writable(self, volume_id: int) -> None:
        """Clear A, B and any quarantine."""
        raise NotImplementedError

    def status(self, volume_id: int) -> VolumeStatusView:
        """Numbers of a volume; ``not found volume id <vid>``."""
        raise NotImplementedError

    def rescan(self) -> list[VolumeStatistics]:
        """Mount what appeared on the disk; the newly mounted."""
        raise NotImplementedError

    def probe_space(self) -> SpaceInfo:
        """Blocking statvfs (any thread). Hand the result to `set_space`. Raises `DiskError`."""
        raise NotImplementedError

    def set_space(self, space: SpaceInfo) -> None:
        """Take a space probe into account: flag C of all volumes (storage.md 5.8)."""
        raise NotImplementedError

    def volumes_max(self, volume_size_limit_bytes: int, preallocate: bool) -> int:
        """Effective maximum number of volumes (storage.md 9.2)."""
        raise NotImplementedError

    def max_file_key(self) -> int:
        """Largest needle id of all reported volumes."""
        raise NotImplementedError

    def statistics(self) -> list[VolumeStatistics]:
        """All volumes, for a full report."""
        raise NotImplementedError

    def changes(self) -> tuple[list[VolumeStatistics], list[int]]:
        """Volumes new or changed since the last call of `changes` or `statistics`, and ids that are gone."""
        raise NotImplementedError

    def expire(self, volume_size_limit_bytes: int, now_s: int) -> list[VolumeStatistics]:
        """TTL pass of a heartbeat (storage.md 5.9): hide expired volumes, destroy those past their grace; the
        destroyed. Also moves volumes with an EIO streak into quarantine (6.6)."""
        raise NotImplementedError

    def close(self) -> None:
        """Flush and close everything; the map is marked clean."""
        raise NotImplementedError
