"""What was encoded of a volume, removed from all disks of the node (docs/spec/erasure-coding.md 5.1, 5.5, R19)."""

from __future__ import annotations

from volumed.bus.ec_calls import TakeOverDeletions, UnmountShards, WipeEcFiles
from volumed.erasure.code import SHARDS_MAX
from volumed.errors import VolumedError
from volumed.grpc.ec_node import EcNode

__all__ = ["REMOVE_TIMEOUT_S", "wipe_on_all"]

REMOVE_TIMEOUT_S = 600.0
"""Freeing large files takes time on a busy disk."""


def wipe_on_all(ec: EcNode, doing: str, volume_id: int, collection: str, encode_ts_ns: int = 0) -> None:
    """Remove what was encoded of a volume from every disk. Raises `VolumedError`: ``<doing> on <directory>: …``."""
    _hand_over(ec, volume_id, collection, encode_ts_ns)
    for disk_id in ec.node.certain_disks():
        try:
            ec.node.worker(disk_id, WipeEcFiles(volume_id, collection, encode_ts_ns), REMOVE_TIMEOUT_S)
        except VolumedError as error:
            directory = ec.node.config.disks[disk_id].directory
            raise VolumedError(f"{doing} on {directory}: {error.text}", error.code) from None


def _hand_over(ec: EcNode, volume_id: int, collection: str, encode_ts_ns: int) -> None:
    """Have the normal volume that was encoded, if it is here, make up for what was deleted in its shards only (R19).
    They are unmounted before: then no deletion comes after the last look. Raises `VolumedError`."""
    handle = ec.node.locate(volume_id)
    if handle is None:
        return
    disks = ec.node.certain_disks()
    for disk_id in disks:
        ec.node.worker(disk_id, UnmountShards(volume_id, list(range(SHARDS_MAX)), encode_ts_ns))
    holders = [holder for holder in ec.holders(volume_id) if holder.files.collection == collection]
    if holders:
        sources = [holder.directories for holder in holders]
        wanted = TakeOverDeletions(volume_id, collection, sources, encode_ts_ns)
        ec.node.worker(handle.disk_id, wanted, REMOVE_TIMEOUT_S)
