"""Taking over what another server's volume got since a time (docs/spec/grpc.md 3.24)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from volumed.bus.calls import Request
from volumed.errors import VolumedError
from volumed.grpc import texts
from volumed.grpc.followed_records import FollowedRecords
from volumed.grpc.node import GrpcNode
from volumed.grpc.peer import Peer, PeerError
from volumed.grpc.profile import Profile
from volumed.grpc.streams import Call
from volumed.security.endpoints import check_peer_target
from volumed.wire import volume_server_pb2 as pb

__all__ = ["TailReceiverServicer"]

_STORE_TIMEOUT_S = 120.0


class TailReceiverServicer:
    """VolumeTailReceiver."""

    def __init__(self, node: GrpcNode, profile: Profile) -> None:
        self._node = node
        self._profile = profile

    def volume_tail_receiver(self, request: pb.VolumeTailReceiverRequest, call: Call) -> pb.VolumeTailReceiverResponse:
        """Follow the source until it ends the stream."""
        source, volume_id = request.source_volume_server, request.volume_id
        addresses: Sequence[str] = ()
        if self._profile.checks_sources and not self._node.config.allow_untrusted_endpoints:
            try:
                addresses = check_peer_target(source)
            except VolumedError as error:
                raise VolumedError(texts.invalid_source_server(source, error.text)) from None
        handle = self._node.locate(volume_id)
        if handle is None:
            raise VolumedError(texts.no_receiving_volume(volume_id))
        self._node.is_endless(call)
        records = FollowedRecords(lambda asked: self._ask(volume_id, asked), volume_id, handle.record.version)
        wanted = pb.VolumeTailSenderRequest(
            volume_id=volume_id,
            since_ns=request.since_ns,
            idle_timeout_seconds=request.idle_timeout_seconds,
        )
        try:
            with Peer(self._node.channels.open(source, addresses), call) as peer:
                for message in peer.stream("VolumeTailSender", wanted):
                    records.take(message)
            records.store()
        except PeerError as error:
            # What came before is there to stay.
            records.store()
            raise VolumedError(error.detail or error.text, error.code) from None
        finally:
            records.close()
        return pb.VolumeTailReceiverResponse()

    def _ask(self, volume_id: int, request: Request) -> Any:
        """To the worker that has the volume now."""
        return self._node.volume_call(volume_id, request, texts.no_receiving_volume(volume_id), _STORE_TIMEOUT_S)
