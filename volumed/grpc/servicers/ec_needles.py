"""Shards read and needles deleted for other servers (docs/spec/erasure-coding.md 5.7, 5.8)."""

from __future__ import annotations

from collections.abc import Iterator

from volumed.erasure.errors import EcShardNotFound, OtherEncodeRun
from volumed.erasure.geometry import accepts
from volumed.erasure.layout import Interval
from volumed.erasure.names import shard_extension
from volumed.errors import ClientError, Code, NeedleDeleted, NeedleNotFound
from volumed.grpc import texts
from volumed.grpc.node import GrpcNode
from volumed.grpc.streams import Call
from volumed.storage.mounted_shards import MountedShards
from volumed.wire import volume_server_pb2 as pb

__all__ = ["EcNeedlesServicer"]

_MESSAGE_BYTES = 2 << 20
_FILE_BYTES_MAX = (1 << 63) - 1
"""Where files must end for the kernel."""


class EcNeedlesServicer:
    """VolumeEcShardRead, VolumeEcBlobDelete."""

    def __init__(self, node: GrpcNode) -> None:
        self._node = node
        self._ec = node.ec

    def volume_ec_shard_read(
        self, request: pb.VolumeEcShardReadRequest, call: Call
    ) -> Iterator[pb.VolumeEcShardReadResponse]:
        """A piece of a shard, or the news that the needle it is read for is deleted."""
        disk = self._disk_of(request)
        identity = disk.record.encode_ts_ns
        if request.file_key and self._is_deleted(request):
            yield pb.VolumeEcShardReadResponse(is_deleted=True, encode_ts_ns=identity)
            return
        for piece in _pieces(request, disk.record.data_base + shard_extension(request.shard_id)):
            if call.ended:
                return
            data = self._ec.read_shard(disk, piece)
            if not data:
                return
            yield pb.VolumeEcShardReadResponse(data=data, encode_ts_ns=identity)

    def volume_ec_blob_delete(self, request: pb.VolumeEcBlobDeleteRequest) -> pb.VolumeEcBlobDeleteResponse:
        """Write a deletion to the journals of this node."""
        self._node.refuse_in_maintenance()
        volume = self._ec.find(request.volume_id)
        if volume is not None:
            try:
                self._ec.find_row(volume, request.file_key)
            except NeedleDeleted:
                return pb.VolumeEcBlobDeleteResponse()
            self._ec.journal_here(volume, request.file_key)
        return pb.VolumeEcBlobDeleteResponse()

    def _disk_of(self, request: pb.VolumeEcShardReadRequest) -> MountedShards:
        """Who has the shard, of the encode run that is wanted. Raises `EcShardNotFound`, `OtherEncodeRun`."""
        having = [disk for disk in self._node.shards(request.volume_id) if request.shard_id in disk.record.shards]
        if not having:
            raise EcShardNotFound.of(request.volume_id, request.shard_id)
        for disk in having:
            if accepts(request.encode_ts_ns, disk.record.encode_ts_ns):
                return disk
        raise OtherEncodeRun.of(request.volume_id, request.shard_id)

    def _is_deleted(self, request: pb.VolumeEcShardReadRequest) -> bool:
        """Of a needle that is not known here nothing is known."""
        volume = self._ec.find(request.volume_id)
        if volume is None:
            return False
        try:
            self._ec.find_row(volume, request.file_key)
        except NeedleDeleted:
            return True
        except NeedleNotFound:
            return False
        return False


def _pieces(request: pb.VolumeEcShardReadRequest, path: str) -> Iterator[Interval]:
    """What is asked for, a message at a time. Raises `ClientError` at a piece that no file can have."""
    if request.size < 0:
        # DEVIATE: the reference process dies.
        raise ClientError(texts.invalid_shard_size(request.size), Code.INVALID_ARGUMENT)
    end = request.offset + request.size
    for at in range(request.offset, end, _MESSAGE_BYTES):
        length = min(_MESSAGE_BYTES, end - at)
        if at < 0:
            raise ClientError(texts.negative_offset(path))
        if at + length > _FILE_BYTES_MAX:
            raise ClientError(texts.invalid_shard_range(path))
        yield Interval(request.shard_id, at, length)
