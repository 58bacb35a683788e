"""Shards read and needles deleted for other servers (docs/spec/erasure-coding.md 5.7, 5.8)."""

from __future__ import annotations

from collections.abc import Iterator

from volumed.erasure.errors import EcShardNotFound, OtherEncodeRun
from volumed.erasure.geometry import accepts
from volumed.erasure.layout import Interval
from volumed.erasure.names import shard_extension
from volumed.errors import ClientError, Code, DiskError, NeedleDeleted, NeedleNotFound, RetryError
from volumed.grpc import texts
from volumed.grpc.node import GrpcNode
from volumed.grpc.streams import Call
from volumed.shards.view import NodeEcVolume
from volumed.wire import volume_server_pb2 as pb

__all__ = ["EcNeedlesServicer"]

_MESSAGE_BYTES = 2 << 20
_ANSWERED_SHARE = 0.75
"""Of the time of a client, after which he is told that a disk does not answer: he need not think that of the server."""
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
        try:
            yield from self._read(request, call)
        except RetryError as error:
            # UNAVAILABLE is said by who is away as a whole: others would do without all disks of this server.
            raise DiskError(error.text) from None

    def _read(self, request: pb.VolumeEcShardReadRequest, call: Call) -> Iterator[pb.VolumeEcShardReadResponse]:
        volume = self._volume_of(request)
        disk, identity = volume.here[request.shard_id], volume.encode_ts_ns
        if request.file_key and self._is_deleted(volume, request.file_key, _ANSWERED_SHARE * call.left_s):
            yield pb.VolumeEcShardReadResponse(is_deleted=True, encode_ts_ns=identity)
            return
        for piece in _pieces(request, disk.record.data_base + shard_extension(request.shard_id)):
            if call.ended:
                return
            data = self._ec.read_shard(disk, piece, _ANSWERED_SHARE * call.left_s)
            if not data:
                return
            yield pb.VolumeEcShardReadResponse(data=data, encode_ts_ns=identity)

    def volume_ec_blob_delete(self, request: pb.VolumeEcBlobDeleteRequest) -> pb.VolumeEcBlobDeleteResponse:
        """Write a deletion to the journals of this node."""
        self._node.refuse_in_maintenance()
        volume = self._ec.find(request.volume_id)
        if volume is None or not self._journal(volume, request.file_key):
            # DEVIATE: who does not have the volume has nothing to delete, but a disk that is away for a moment has it.
            self._node.require_certainty()
        return pb.VolumeEcBlobDeleteResponse()

    def _journal(self, volume: NodeEcVolume, key: int) -> bool:
        """False: all disks have unmounted the volume meanwhile. Raises what `journal_here` raises, `NoSuchEcNeedle`."""
        try:
            self._ec.find_row(volume, key)
        except NeedleDeleted:
            return True
        return self._ec.journal_here(volume, key)

    def _volume_of(self, request: pb.VolumeEcShardReadRequest) -> NodeEcVolume:
        """The volume with the shard, of the encode run that is wanted, by default of the latest. Raises
        `EcShardNotFound`, `OtherEncodeRun`."""
        disks = self._node.shards(request.volume_id)
        wanted_ts_ns = request.encode_ts_ns
        volume = self._ec.find(request.volume_id)
        if volume is not None and not accepts(wanted_ts_ns, volume.encode_ts_ns):
            fitting = tuple(disk for disk in disks if disk.record.encode_ts_ns == wanted_ts_ns)
            volume = NodeEcVolume.of(request.volume_id, fitting) if fitting else None
        if volume is not None and request.shard_id in volume.here:
            return volume
        if wanted_ts_ns and any(request.shard_id in disk.record.shards for disk in disks):
            raise OtherEncodeRun.of(request.volume_id, request.shard_id)
        raise EcShardNotFound.of(request.volume_id, request.shard_id)

    def _is_deleted(self, volume: NodeEcVolume, key: int, limit_s: float) -> bool:
        """Of a needle that is not known here nothing is known."""
        try:
            self._ec.find_row(volume, key, limit_s)
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
