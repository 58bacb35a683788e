"""The JSON of ``/status`` (http.md 6.1)."""

from __future__ import annotations

import struct
from typing import Any

from volumed import REFERENCE_VERSION, SIZE_LIMITS
from volumed.bus.calls import DiskStatusView, NodeStatusView, VolumeView
from volumed.formats.replication import ReplicaPlacement
from volumed.formats.ttl import Ttl

__all__ = ["status_document", "version_text"]

_FLOAT = struct.Struct("f")


def version_text(offset_width: int) -> str:
    """Size limit, version, and in place of the commit who we are."""
    return f"{SIZE_LIMITS[offset_width]} {REFERENCE_VERSION} volumed"


def status_document(status: NodeStatusView, offset_width: int) -> dict[str, Any]:
    """The document; volumes are null when there are none."""
    volumes = [_volume(volume) for volume in sorted(status.volumes, key=lambda volume: volume.id)]
    return {
        "DiskStatuses": [_disk(disk) for disk in status.disks],
        "Version": version_text(offset_width),
        "Volumes": volumes or None,
    }


def _disk(disk: DiskStatusView) -> dict[str, Any]:
    total, free = disk.total_bytes, disk.free_bytes
    document: dict[str, Any] = {
        "dir": disk.directory,
        "all": total,
        "used": total - free,
        "free": free,
        "percent_free": _float32(100 * free / total if total else 0.0),
        "percent_used": _float32(100 * (total - free) / total if total else 0.0),
    }
    if disk.disk_type:
        document["disk_type"] = disk.disk_type
    if disk.error:
        document["error"] = disk.error
    return document


def _volume(volume: VolumeView) -> dict[str, Any]:
    placement = ReplicaPlacement.from_byte(volume.replica_placement)
    counts = {"dc": placement.dc, "rack": placement.rack, "node": placement.same}
    ttl = Ttl.from_u32(volume.ttl)
    return {
        "Collection": volume.collection,
        "DiskType": volume.disk_type,
        "RemoteStorageName": volume.remote_storage_name,
        "ReplicaPlacement": {name: count for name, count in counts.items() if count},
        "Ttl": {"Count": ttl.count, "Unit": ttl.unit},
        "Size": volume.content_bytes,
        "DeletedByteCount": volume.deleted_byte_count,
        "ModifiedAtSecond": volume.modified_at_second,
        "Id": volume.id,
        "DiskId": volume.disk_id,
        "CompactRevision": volume.compact_revision,
        "FileCount": volume.file_count,
        "DeleteCount": volume.delete_count,
        "Version": volume.version,
        "ReadOnly": volume.read_only,
        "ReadOnlyCanDelete": volume.read_only_can_delete,
    }


def _float32(value: float) -> float | int:
    """The shortest number that is the same in 32 bits."""
    packed = _FLOAT.pack(value)
    shortest = next(
        (number for digits in range(1, 10) if _FLOAT.pack(number := float(f"{value:.{digits}g}")) == packed), value
    )
    return int(shortest) if shortest.is_integer() else shortest
