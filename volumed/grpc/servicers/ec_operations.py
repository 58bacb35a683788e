"""Shards are made: VolumeEcShardsGenerate, VolumeEcShardsRebuild (docs/spec/erasure-coding.md 5.1, 5.6)."""

from __future__ import annotations

from volumed.bus.ec_calls import StartEncode
from volumed.errors import ClientError, VolumedError
from volumed.grpc.ec_node import EcNode
from volumed.grpc.servicers.ec_delete import wipe_on_all
from volumed.grpc.streams import Call
from volumed.wire import volume_server_pb2 as pb

__all__ = ["EcOperationsServicer"]


class EcOperationsServicer:
    """VolumeEcShardsGenerate, VolumeEcShardsRebuild."""

    def __init__(self, ec: EcNode) -> None:
        self._ec = ec
        self._node = ec.node

    def volume_ec_shards_generate(
        self, request: pb.VolumeEcShardsGenerateRequest, call: Call
    ) -> pb.VolumeEcShardsGenerateResponse:
        """Encode a volume, which stays as it is. Nothing is mounted."""
        self._node.refuse_in_maintenance()
        volume_id, collection = request.volume_id, request.collection
        with self._ec.alone(volume_id, call):
            handle = self._node.locate(volume_id)
            if handle is None:
                raise VolumedError(f"volume {volume_id} not found")
            if handle.record.collection != collection:
                raise ClientError(f"existing collection:{handle.record.collection} unexpected input: {collection}")
            wipe_on_all(self._ec, f"wipe stale EC artifacts for volume {volume_id}", volume_id, collection)
            self._ec.run_job(handle.disk_id, StartEncode(volume_id, collection), call)
        return pb.VolumeEcShardsGenerateResponse()
