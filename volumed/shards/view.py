"""Erasure coded volumes as the whole node has them: shards of several disks, deletions of any (erasure-coding.md 4.11).

Nothing here waits for a disk.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from volumed.erasure.code import Ratio
from volumed.erasure.errors import NoSuchEcNeedle
from volumed.erasure.geometry import Geometry
from volumed.erasure.read import EcSource
from volumed.errors import DiskUnavailable, NeedleDeleted, VolumeNotFound
from volumed.formats.idx import Row
from volumed.storage.mounted_shards import MountedShards

__all__ = ["EcView", "MountedView", "NodeEcVolume"]


class MountedView(Protocol):
    """Knows what the disks have mounted (``volumed.storage.view.NodeView``)."""

    def shards(self, volume_id: int) -> list[MountedShards]: ...


class NodeEcVolume(NamedTuple):
    """A mounted volume; hold it for one request."""

    volume_id: int
    disks: tuple[MountedShards, ...]
    """Those of the latest encode run, never empty. The first one says how the volume was encoded."""
    here: dict[int, MountedShards]
    """By id, who has the shards that may be read."""
    source: EcSource
    """The shards of this node are read first."""

    @classmethod
    def of(cls, volume_id: int, disks: tuple[MountedShards, ...]) -> NodeEcVolume:
        """What some disks have, at least one, together."""
        # DEVIATE: the reference takes the first disk at its word. One that was away while the volume was encoded anew
        # comes back with needles that were replaced or deleted since.
        latest = max(disk.record.encode_ts_ns for disk in disks)
        fitting = tuple(disk for disk in disks if disk.record.encode_ts_ns == latest)
        first = fitting[0].record
        # Of a shard that two disks have, the first counts.
        here = {shard: disk for disk in reversed(fitting) for shard in disk.record.shards}
        ratio = Ratio(first.data_shards, first.parity_shards)
        geometry = Geometry(ratio, first.block_size, first.encode_ts_ns, first.dat_size)
        # A shard that the ratio does not have may lie around, and is of no use.
        lengths = [disk.record.shards.get(shard, 0) for disk in fitting for shard in range(ratio.total)]
        useful = tuple(shard for shard in range(ratio.total) if shard in here)
        source = EcSource(volume_id, first.version, geometry.layout(max(lengths)), useful)
        return cls(volume_id, fitting, here, source)

    def elsewhere(self) -> NodeEcVolume:
        """The volume when no shard of it is here any more."""
        return self._replace(here={}, source=self.source._replace(preference=()))

    @property
    def encode_ts_ns(self) -> int:
        """Identity of the encode run; 0: unknown."""
        return self.disks[0].record.encode_ts_ns

    def live(self, key: int, row: Row | None) -> Row:
        """The row that the index has for a needle. Raises `NoSuchEcNeedle`, `NeedleDeleted`: by the index, or by a
        journal, and what `is_deleted` raises."""
        if row is None:
            raise NoSuchEcNeedle
        if row[2] < 0 or self.is_deleted(key):
            raise NeedleDeleted
        return row

    def is_deleted(self, key: int) -> bool:
        """Whether the journal of any disk deletes a needle; each is complete. Raises `VolumeNotFound` or
        `DiskUnavailable` when the last disk that could tell has just gone."""
        answers, gone = set(), None
        for disk in self.disks:
            try:
                answers.add(disk.is_deleted(key))
            except (VolumeNotFound, DiskUnavailable) as error:
                gone = error
        if gone is not None and not answers:
            raise gone
        return True in answers


class EcView:
    """Finds volumes. Any thread."""

    def __init__(self, mounted: MountedView) -> None:
        self._mounted = mounted
        self._known: dict[int, tuple[tuple[MountedShards, ...], NodeEcVolume]] = {}

    def find(self, volume_id: int) -> NodeEcVolume | None:
        """The volume if one of its shards is mounted on a serving disk."""
        disks = tuple(self._mounted.shards(volume_id))
        if not disks:
            self._known.pop(volume_id, None)
            return None
        known = self._known.get(volume_id)
        if known is None or known[0] != disks:
            known = self._known[volume_id] = disks, NodeEcVolume.of(volume_id, disks)
        return known[1]
