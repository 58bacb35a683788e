"""What the master is told about a volume, and the digest over all of it (docs/spec/storage.md 9.4)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import xor
from struct import Struct

import msgspec
from xxhash import xxh64_intdigest

__all__ = ["SHARDS_PER_SLOT", "EcVolumeReport", "TaskReport", "VolumeReport", "volume_hash", "volumes_digest"]

SHARDS_PER_SLOT = 10
"""So many shards take the place of one volume, whatever their ratio."""

_NUMBERS = Struct("<IQQQQIIIIIB")
_SECONDS = Struct("<q")
_COUNT_MAX = 0xFFFFFFFF
_MASK = 0xFFFFFFFFFFFFFFFF
_FOLD = 0x9E3779B97F4A7C15


class VolumeReport(msgspec.Struct, frozen=True):
    """The heartbeat's fields of one volume, with their names on the wire."""

    id: int
    size: int
    """Length of `.dat` in bytes."""
    collection: str = ""
    file_count: int = 0
    delete_count: int = 0
    deleted_byte_count: int = 0
    read_only: bool = False
    replica_placement: int = 0
    version: int = 3
    ttl: int = 0
    """32-bit form of 1.4."""
    compact_revision: int = 0
    modified_at_second: int = 0
    remote_storage_name: str = ""
    remote_storage_key: str = ""
    disk_type: str = ""
    disk_id: int = 0
    read_only_can_delete: bool = False


class EcVolumeReport(msgspec.Struct, frozen=True):
    """The mounted shards of an erasure coded volume on one disk (docs/spec/erasure-coding.md 4.9)."""

    id: int
    collection: str
    shards: dict[int, int]
    """Lengths in bytes by id."""
    disk_id: int
    disk_type: str = ""
    expire_at_sec: int = 0
    file_count: int = 0
    """Rows of the index."""
    delete_count: int = 0
    """Deletions in the journal."""
    encode_ts_ns: int = 0
    data_shards: int = 0
    parity_shards: int = 0


class TaskReport(msgspec.Struct, frozen=True):
    """Long work on a volume that is under way."""

    what: str
    """"encode", "rebuild", "decode", "vacuum"."""
    volume_id: int
    began_at_s: float
    """Seconds since 1970."""
    done_bytes: int
    total_bytes: int
    """As far as is known."""


def volume_hash(report: VolumeReport) -> int:
    """64-bit hash of everything the master wants to notice."""
    numbers = _NUMBERS.pack(
        report.id,
        report.size,
        min(report.file_count, _COUNT_MAX),
        min(report.delete_count, _COUNT_MAX),
        report.deleted_byte_count,
        report.replica_placement,
        report.version & 0xFF,
        report.ttl if report.ttl >> 8 & 0xFF else 0,
        report.compact_revision,
        report.disk_id,
        report.read_only | report.read_only_can_delete << 1,
    )
    parts = (
        _SECONDS.pack(report.modified_at_second),
        report.collection.encode(),
        report.disk_type.encode(),
        report.remote_storage_name.encode(),
    )
    digest = xxh64_intdigest(numbers)
    for part in parts:
        digest = (digest ^ xxh64_intdigest(part)) * _FOLD & _MASK
        digest ^= digest >> 29
    return digest


def volumes_digest(hashes: Iterable[int]) -> int:
    """The digest of all reported volumes from their hashes; their order does not matter."""
    return reduce(xor, hashes, 0)
