"""A front's read-only view of the node. SKELETON: signatures are settled, bodies follow."""

from __future__ import annotations

import enum
from typing import NamedTuple

from volumed.config.node import NodeConfig
from volumed.nodetable import NodeTable
from volumed.storage.map_records import VolumeRecord

__all__ = ["Found", "NodeView", "ReadNow", "VolumeHandle"]


class Found(enum.IntEnum):
    """What `NodeView.read_now` found out without waiting for a disk."""

    NO_VOLUME = 0
    MISSING = 1
    DELETED = 2
    EMPTY = 3
    """A live empty object: no record is read, no cookie is checked (storage.md 6.4)."""
    RECORD = 4
    FORWARD = 5
    """Ask the worker: not in the page cache, not open yet, too large, or inconsistent."""


class ReadNow(NamedTuple):
    """``handle`` is None for NO_VOLUME; ``record`` holds the whole record (unverified) for RECORD, else is empty."""

    found: Found
    handle: VolumeHandle | None
    offset: int
    size: int
    record: bytes


class VolumeHandle:
    """A mounted volume as a front sees it, as of the moment of `NodeView.locate`."""

    volume_id: int
    disk_id: int
    record: VolumeRecord

    def lookup(self, key: int) -> tuple[int, int] | None:
        """(offset, S) of the map entry, S negative when deleted; None when unknown."""
        raise NotImplementedError


class NodeView:
    """Finds volumes and needles in the maps of all serving disks. All methods may be called from any thread."""

    def __init__(self, config: NodeConfig, table: NodeTable) -> None:
        raise NotImplementedError

    def locate(self, volume_id: int) -> VolumeHandle | None:
        """The volume with this id on the lowest serving disk that has it mounted, None when there is none."""
        raise NotImplementedError

    def read_now(self, volume_id: int, key: int, read_deleted: bool = False) -> ReadNow:
        """Look a needle up and read its record (up to 256 KiB) if that needs no disk access."""
        raise NotImplementedError

    def close(self) -> None:
        """Close maps and descriptors."""
        raise NotImplementedError
