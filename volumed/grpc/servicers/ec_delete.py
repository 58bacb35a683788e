"""VolumeEcShardsDelete (docs/spec/erasure-coding.md 5.5)."""

from __future__ import annotations

from volumed.bus.ec_calls import (
    DeleteEcGenerations,
    DeleteEcIndex,
    DeleteShards,
    TakeOverDeletions,
    UnmountShards,
    WipeEcFiles,
)
from volumed.erasure.code import SHARDS_MAX
from volumed.errors import VolumedError
from volumed.formats.volumename import check_collection
from volumed.grpc.ec_node import EcNode
from volumed.grpc.streams import Call
from volumed.wire import volume_server_pb2 as pb

__all__ = ["EcDeleteServicer", "wipe_on_all"]

_REMOVE_TIMEOUT_S = 600.0
"""Freeing large files takes time on a busy disk."""


class EcDeleteServicer:
    """VolumeEcShardsDelete."""

    def __init__(self, ec: EcNode) -> None:
        self._ec = ec
        self._node = ec.node

    def volume_ec_shards_delete(
        self, request: pb.VolumeEcShardsDeleteRequest, call: Call
    ) -> pb.VolumeEcShardsDeleteResponse:
        """Remove everything, staged generations, or single shards; what is not there does not matter."""
        # DEVIATE (R8): the reference of 4.48 does so in maintenance mode too.
        self._node.refuse_in_maintenance()
        # DEVIATE: the reference finds nothing there, and succeeds.
        check_collection(request.collection)
        with self._ec.alone(request.volume_id, call):
            if request.full_teardown:
                self._tear_down(request)
                return pb.VolumeEcShardsDeleteResponse(full_teardown_done=True)
            if request.delete_generations_older_than:
                self._delete_generations(request)
            else:
                self._delete_shards(request)
        return pb.VolumeEcShardsDeleteResponse()

    def _tear_down(self, request: pb.VolumeEcShardsDeleteRequest) -> None:
        volume_id, limit = request.volume_id, request.encode_ts_ns
        kind = "fenced" if limit else "full"
        wipe_on_all(self._ec, f"{kind} teardown of ec volume {volume_id}", volume_id, request.collection, limit)
        if limit and any(disk.idx_directory != disk.directory for disk in self._node.config.disks):
            # The index is in a directory that all disks share: it goes when none has a shard any more.
            self._delete_shards(request, ())

    def _delete_generations(self, request: pb.VolumeEcShardsDeleteRequest) -> None:
        below = request.delete_generations_older_than
        for disk_id in self._ec.node.certain_disks():
            wanted = DeleteEcGenerations(request.volume_id, request.collection, below)
            self._node.worker(disk_id, wanted, _REMOVE_TIMEOUT_S)

    def _delete_shards(self, request: pb.VolumeEcShardsDeleteRequest, shard_ids: tuple[int, ...] | None = None) -> None:
        """On all disks; the index too when no shard is left."""
        volume_id, collection = request.volume_id, request.collection
        doomed = list(request.shard_ids if shard_ids is None else shard_ids)
        disks = self._ec.node.certain_disks()
        remaining = [
            self._node.worker(disk_id, DeleteShards(volume_id, collection, doomed), _REMOVE_TIMEOUT_S).shard_ids
            for disk_id in disks
        ]
        # A disk that has failed may come back with shards; without an index they would be of no use.
        if not any(remaining) and self._ec.is_complete:
            for disk_id in disks:
                self._node.worker(disk_id, DeleteEcIndex(volume_id, collection), _REMOVE_TIMEOUT_S)


def wipe_on_all(ec: EcNode, doing: str, volume_id: int, collection: str, encode_ts_ns: int = 0) -> None:
    """Remove what was encoded of a volume from every disk. Raises `VolumedError`: ``<doing> on <directory>: …``."""
    _hand_over(ec, volume_id, collection, encode_ts_ns)
    for disk_id in ec.node.certain_disks():
        try:
            ec.node.worker(disk_id, WipeEcFiles(volume_id, collection, encode_ts_ns), _REMOVE_TIMEOUT_S)
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
        ec.node.worker(handle.disk_id, wanted, _REMOVE_TIMEOUT_S)
