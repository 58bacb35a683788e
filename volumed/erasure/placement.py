"""Which disk new files of an erasure coded volume go to (docs/spec/erasure-coding.md 4.8). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from volumed.formats.report import SHARDS_PER_SLOT

__all__ = ["Candidate", "choose_disk", "free_shard_slots"]

_UNLIMITED = 1 << 30


class Candidate(NamedTuple):
    """A disk that serves, seen with one volume in mind."""

    disk_id: int
    is_hdd: bool
    space_low: bool
    free_slots: int
    """Shards that it may get."""
    is_mounted: bool
    """Whether it has shards of the volume mounted."""
    has_index: bool
    """Whether it has an `.ecx` of the volume, with rows."""


def free_shard_slots(volumes_max: int, volumes: int, shards: int) -> int:
    """Shards that a disk may get which has so many volumes and shards mounted; 0 volumes at most: no limit."""
    return (volumes_max - volumes) * SHARDS_PER_SLOT - shards if volumes_max > 0 else _UNLIMITED


def choose_disk(candidates: Iterable[Candidate]) -> int | None:
    """The disk where the volume is at home, else one with room; None when no disk has any."""
    fitting = [disk for disk in candidates if not disk.space_low and disk.free_slots > 0]
    return min(fitting, key=_rank).disk_id if fitting else None


def _rank(disk: Candidate) -> tuple[bool, bool, bool, int, int]:
    return not disk.is_mounted, not disk.has_index, not disk.is_hdd, -disk.free_slots, disk.disk_id
