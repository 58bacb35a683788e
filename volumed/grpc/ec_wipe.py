"""What was encoded of a volume, removed from all disks of the node (docs/spec/erasure-coding.md 5.1, 5.5, R19)."""

from __future__ import annotations

from volumed.bus.calls import MountVolume, UnmountVolume
from volumed.bus.ec_calls import TakeOverDeletions, UnmountShards, WipeEcFiles
from volumed.erasure.code import SHARDS_MAX
from volumed.errors import VolumedError
from volumed.formats.superblock import SUPERBLOCK_LENGTH
from volumed.grpc.ec_node import EcNode
from volumed.storage.fileio import disk_error

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
    Raises `VolumedError`."""
    handle = ec.node.locate(volume_id)
    if handle is not None:
        _take_over(ec, handle.disk_id, volume_id, collection, encode_ts_ns)
        return
    for disk_id in _lying(ec, volume_id, collection):
        ec.node.worker(disk_id, MountVolume(volume_id, collection), REMOVE_TIMEOUT_S)
        try:
            _take_over(ec, disk_id, volume_id, collection, encode_ts_ns)
        finally:
            ec.node.worker(disk_id, UnmountVolume(volume_id))


def _take_over(ec: EcNode, disk_id: int, volume_id: int, collection: str, encode_ts_ns: int) -> None:
    """The shards are unmounted before: then no deletion comes after the last look."""
    for each in ec.node.certain_disks():
        ec.node.worker(each, UnmountShards(volume_id, list(range(SHARDS_MAX)), encode_ts_ns))
    holders = [holder for holder in ec.holders(volume_id) if holder.files.collection == collection]
    if holders:
        sources = [holder.directories for holder in holders]
        wanted = TakeOverDeletions(volume_id, collection, sources, encode_ts_ns)
        ec.node.worker(disk_id, wanted, REMOVE_TIMEOUT_S)


def _lying(ec: EcNode, volume_id: int, collection: str) -> list[int]:
    """Disks that have the volume beside its shards, and not mounted, as after a restart; none, when nothing is deleted
    in the shards."""
    holders = [holder for holder in ec.holders(volume_id) if holder.files.collection == collection]
    try:
        if not any(holder.journal() for holder in holders):
            return []
    except OSError as error:
        raise disk_error("read ecj", error) from error
    return [holder.disk_id for holder in holders if (holder.files.data.get(".dat") or 0) > SUPERBLOCK_LENGTH]
