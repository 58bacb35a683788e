"""Taking over what another server's volume got since a time (docs/spec/grpc.md 3.24)."""

from __future__ import annotations

from volumed.bus.record_calls import RECORDS_BYTES_TARGET, RECORDS_MAX, ForeignRecord, StoreRecords
from volumed.errors import CorruptNeedle, VolumedError
from volumed.formats.needle import (
    decode_header,
    decode_record,
    encode_body,
    encode_header,
)
from volumed.grpc import texts
from volumed.grpc.node import GrpcNode
from volumed.grpc.peer import Peer, PeerError
from volumed.grpc.profile import Profile
from volumed.grpc.streams import Call
from volumed.security.endpoints import check_peer_target
from volumed.wire import volume_server_pb2 as pb

__all__ = ["TailReceiverServicer", "foreign_record"]

_STORE_TIMEOUT_S = 120.0
_DEFAULT_VERSION = 3
_RECORD_BYTES_MAX = (1 << 31) + (1 << 20)


class TailReceiverServicer:
    """VolumeTailReceiver."""

    def __init__(self, node: GrpcNode, profile: Profile) -> None:
        self._node = node
        self._profile = profile

    def volume_tail_receiver(self, request: pb.VolumeTailReceiverRequest, call: Call) -> pb.VolumeTailReceiverResponse:
        """Follow the source until it ends the stream."""
        source = request.source_volume_server
        if self._profile.checks_sources and not self._node.config.allow_untrusted_endpoints:
            try:
                check_peer_target(source)
            except VolumedError as error:
                raise VolumedError(texts.invalid_source_server(source, error.text)) from None
        handle = self._node.locate(request.volume_id)
        if handle is None:
            raise VolumedError(texts.no_receiving_volume(request.volume_id))
        self._node.is_endless(call)
        records = _Records(self._node, request.volume_id, handle.record.version)
        wanted = pb.VolumeTailSenderRequest(
            volume_id=request.volume_id,
            since_ns=request.since_ns,
            idle_timeout_seconds=request.idle_timeout_seconds,
        )
        try:
            with Peer(self._node.channels.open(source), call) as peer:
                for message in peer.stream("VolumeTailSender", wanted):
                    records.take(message)
        except PeerError as error:
            raise VolumedError(error.detail or error.text, error.code) from None
        finally:
            # Also what came before an error is there to stay.
            records.store()
        return pb.VolumeTailReceiverResponse()


class _Records:
    """Puts messages together to records, and stores them many at a time."""

    def __init__(self, node: GrpcNode, volume_id: int, version: int) -> None:
        self._node = node
        self._volume_id = volume_id
        self._version = version
        self._pieces = bytearray()
        self._waiting: list[ForeignRecord] = []
        self._waiting_bytes = 0

    def take(self, message: pb.VolumeTailSenderResponse) -> None:
        """The next message; one without a header says that there is nothing new. Raises `VolumedError`."""
        if not message.needle_header:
            self.store()
            return
        self._pieces += message.needle_body
        if len(self._pieces) > _RECORD_BYTES_MAX:
            raise CorruptNeedle(texts.endless_record())
        if not message.is_last_chunk:
            return
        body, self._pieces = self._pieces, bytearray()
        record = foreign_record(message.needle_header, body, message.version or _DEFAULT_VERSION, self._version)
        self._waiting.append(record)
        self._waiting_bytes += len(record.body)
        if len(self._waiting) >= RECORDS_MAX or self._waiting_bytes >= RECORDS_BYTES_TARGET:
            self.store()

    def store(self) -> None:
        """Store what waits. Raises `VolumedError`."""
        records, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if not records:
            return
        disk_id = self._node.disk_of(self._volume_id)
        if disk_id is None:
            raise VolumedError(texts.no_receiving_volume(self._volume_id))
        self._node.worker(disk_id, StoreRecords(self._volume_id, records), _STORE_TIMEOUT_S)


def foreign_record(header: bytes, rest: bytes | bytearray, source_version: int, version: int) -> ForeignRecord:
    """A record, verified, in the form of ``version``. ``rest`` is what follows the header. Raises `CorruptNeedle`."""
    cookie, key, size = decode_header(header)
    needle = decode_record(memoryview(header + rest), source_version, size)
    if (source_version > 1 and version > 1) or source_version == version:
        body = bytes(rest[:size])
    else:
        body = b"".join(map(bytes, encode_body(needle, version)))
    return ForeignRecord(key, encode_header(cookie, key, len(body)), body, needle.checksum)
