"""VolumeEcShardsDelete (docs/spec/erasure-coding.md 5.5)."""

from __future__ import annotations

from volumed.bus.ec_calls import DeleteEcGenerations, DeleteEcIndex, DeleteShards
from volumed.formats.volumename import check_collection
from volumed.grpc.ec_node import EcNode
from volumed.grpc.ec_wipe import REMOVE_TIMEOUT_S, wipe_on_all
from volumed.grpc.streams import Call
from volumed.wire import volume_server_pb2 as pb

__all__ = ["EcDeleteServicer"]


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
            self._node.worker(disk_id, wanted, REMOVE_TIMEOUT_S)

    def _delete_shards(self, request: pb.VolumeEcShardsDeleteRequest, shard_ids: tuple[int, ...] | None = None) -> None:
        """On all disks; the index too when no shard is left."""
        volume_id, collection = request.volume_id, request.collection
        doomed = list(request.shard_ids if shard_ids is None else shard_ids)
        disks = self._ec.node.certain_disks()
        remaining = [
            self._node.worker(disk_id, DeleteShards(volume_id, collection, doomed), REMOVE_TIMEOUT_S).shard_ids
            for disk_id in disks
        ]
        # A disk that has failed may come back with shards; without an index they would be of no use.
        if not any(remaining) and self._ec.is_complete:
            for disk_id in disks:
                self._node.worker(disk_id, DeleteEcIndex(volume_id, collection), REMOVE_TIMEOUT_S)
