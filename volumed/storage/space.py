"""Free space of a disk: when it is low, and how many volumes it may hold (docs/spec/storage.md 5.8, 9.2)."""

from __future__ import annotations

from volumed.config.node import FreeSpaceLimit
from volumed.storage.fileio import SpaceInfo

__all__ = ["automatic_volumes_max", "is_space_low"]


def is_space_low(space: SpaceInfo, limit: FreeSpaceLimit) -> bool:
    """Whether less is free than the limit asks for."""
    if limit.bytes:
        return space.free_bytes < limit.bytes
    return space.free_bytes * 100 < limit.percent * space.total_bytes


def automatic_volumes_max(
    volumes: int, growth_bytes: int, free_bytes: int, volume_size_limit_bytes: int, preallocate: bool
) -> int:
    """``growth_bytes`` is what the writable volumes may still take until they reach the size limit; with
    preallocation it is already gone from the free space."""
    free = free_bytes if preallocate else free_bytes - growth_bytes
    return max(1, volumes + max(0, free) // volume_size_limit_bytes)
