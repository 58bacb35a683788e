"""The disk for new files of an erasure coded volume (docs/spec/erasure-coding.md 4.8)."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, Self

from volumed.bus.calls import NodeStatus, NodeStatusView
from volumed.bus.ec_calls import EcFilesView, ListEcFiles
from volumed.erasure.errors import BadDiskId
from volumed.erasure.names import INDEX
from volumed.erasure.placement import Candidate, choose_disk, free_shard_slots
from volumed.errors import DiskUnavailable
from volumed.grpc.node import GrpcNode
from volumed.nodetable import DiskState

__all__ = ["EcTargets"]


class EcTargets(NamedTuple):
    """What the disks that serve have of one volume."""

    node: GrpcNode
    files: dict[int, list[EcFilesView]]
    """By disk; of every collection that has the id."""

    @classmethod
    def look(cls, node: GrpcNode, volume_id: int) -> Self:
        """Ask all workers; one that has just gone does not count. Raises `VolumedError`."""
        found = {}
        for disk_id in node.serving_disks():
            try:
                found[disk_id] = node.worker(disk_id, ListEcFiles(volume_id)).volumes
            except DiskUnavailable:
                continue
        return cls(node, found)

    def mounted_on(self) -> list[int]:
        """Ids of the disks that have shards mounted."""
        return [disk_id for disk_id, volumes in self.files.items() if any(files.mounted for files in volumes)]

    def encode_runs(self, collection: str) -> set[int]:
        """Identities of the shards that are here, mounted or not, without the unknown one."""
        found = (files for volumes in self.files.values() for files in volumes if files.collection == collection)
        return {files.encode_ts_ns for files in found if files.encode_ts_ns}

    def choose(self, collection: str, disk_id: int) -> int | None:
        """``disk_id``, which must exist, or for 0 the best one; None when no disk has room. Raises `BadDiskId`."""
        disks = len(self.node.config.disks)
        if disk_id >= disks:
            raise BadDiskId.of(disk_id, disks)
        return disk_id or choose_disk(self._candidates(collection))

    def _candidates(self, collection: str) -> list[Candidate]:
        status: NodeStatusView = self.node.supervisor(NodeStatus())
        shards: Counter[int] = Counter()
        for report in status.ec_volumes:
            shards[report.disk_id] += len(report.shards)
        candidates = []
        for disk in status.disks:
            volumes = [files for files in self.files.get(disk.disk_id, []) if files.collection == collection]
            if disk.disk_id in self.files and disk.state != DiskState.DRAINING.name.lower():
                candidates.append(
                    Candidate(
                        disk.disk_id,
                        is_hdd=not disk.disk_type,
                        space_low=disk.space_low,
                        free_slots=free_shard_slots(disk.volumes_max, disk.volume_count, shards[disk.disk_id]),
                        is_mounted=any(files.mounted for files in volumes),
                        has_index=any(files.data.get(INDEX) or files.index.get(INDEX) for files in volumes),
                    )
                )
        return candidates
