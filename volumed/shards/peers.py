"""Shards on other servers, over gRPC (docs/spec/erasure-coding.md 5.7, 5.8).

The library is loaded with the first call: a front that serves no erasure coded volume stays small.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from volumed.codes import rpc_error_text
from volumed.erasure.geometry import accepts
from volumed.erasure.layout import Interval
from volumed.errors import Code, NeedleDeleted, RetryError, VolumedError
from volumed.security.settings import load_security

if TYPE_CHECKING:
    import grpc

    from volumed.bus.calls import Location
    from volumed.grpc.channels import Channels
    from volumed.shards.view import NodeEcVolume

__all__ = ["PeerError", "ShardPeers", "peer_address"]

_CHANNELS_MAX = 256
_DOUBTS_S = (0.01, 0.03, 0.06)
"""Pauses before a server is asked again that says that a needle is deleted."""


class PeerError(VolumedError):
    """What a server answered; ``silent`` when it did not answer at all."""

    silent = False

    @classmethod
    def of(cls, error: grpc.RpcError) -> PeerError:
        code = error.code()
        found = cls(rpc_error_text(code.name, error.details()), Code(code.value[0]))
        found.silent = found.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
        return found


def peer_address(location: Location) -> str:
    """The server of a location as `Channels.open` takes it, ``host:port`` or ``host:port.grpcPort``."""
    return f"{location.url}.{location.grpc_port}" if location.grpc_port else location.url


class ShardPeers:
    """Keeps a connection to every server that was asked. Any thread."""

    def __init__(self, runtime_dir: str) -> None:
        self._runtime_dir = runtime_dir
        self._lock = threading.Lock()
        self._opener: Channels | None = None
        self._channels: dict[str, grpc.Channel] = {}

    def read(self, address: str, volume: NodeEcVolume, key: int, wanted: Interval, timeout_s: float) -> bytes:
        """A piece of a shard. Raises `NeedleDeleted` when the server insists on it, `PeerError`, and `RetryError` for
        what is of another encode run."""
        # DEVIATE: who cannot read its index at the moment says so of every needle, and a server of the reference cannot
        # while a copy writes over it.
        for pause_s in _DOUBTS_S:
            try:
                return self._read(address, volume, key, wanted, timeout_s)
            except NeedleDeleted:
                time.sleep(pause_s)
        return self._read(address, volume, key, wanted, timeout_s)

    def _read(self, address: str, volume: NodeEcVolume, key: int, wanted: Interval, timeout_s: float) -> bytes:
        from volumed.wire.volume_server_pb2 import VolumeEcShardReadRequest

        request = VolumeEcShardReadRequest(
            volume_id=volume.volume_id,
            shard_id=wanted.shard,
            offset=wanted.offset,
            size=wanted.length,
            file_key=key,
            encode_ts_ns=volume.encode_ts_ns,
        )
        parts, left = [], wanted.length
        for message in self._stream(address, "VolumeEcShardRead", request, timeout_s):
            if not accepts(volume.encode_ts_ns, message.encode_ts_ns):
                raise RetryError(f"{address} has shard {volume.volume_id}.{wanted.shard} of another encode run")
            if message.is_deleted:
                raise NeedleDeleted
            left -= len(message.data)
            if left < 0:
                raise RetryError(f"{address} sends more of shard {volume.volume_id}.{wanted.shard} than asked for")
            parts.append(message.data)
        return b"".join(parts)

    def delete(self, address: str, volume: NodeEcVolume, key: int, shard: int, timeout_s: float) -> None:
        """Have the server write a deletion to its journal, and see that it does have the shard. Raises `PeerError`, and
        `RetryError` when its shard is of another encode run."""
        self._delete(address, volume, key, timeout_s)
        # DEVIATE: a server that has the volume no more says yes to any deletion.
        with suppress(NeedleDeleted):
            self._read(address, volume, key, Interval(shard, 0, 1), timeout_s)

    def _delete(self, address: str, volume: NodeEcVolume, key: int, timeout_s: float) -> None:
        from volumed.wire.volume_server_pb2 import VolumeEcBlobDeleteRequest

        record = volume.disks[0].record
        request = VolumeEcBlobDeleteRequest(
            volume_id=volume.volume_id, collection=record.collection, file_key=key, version=record.version
        )
        import grpc

        channel = self._channel(address)
        try:
            self._stub(channel).VolumeEcBlobDelete(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._failure(address, channel, error) from None

    def _stream(self, address: str, method: str, request: Any, timeout_s: float) -> Any:
        import grpc

        channel = self._channel(address)
        try:
            yield from getattr(self._stub(channel), method)(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._failure(address, channel, error) from None

    def _stub(self, channel: grpc.Channel) -> Any:
        from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

        return VolumeServerStub(channel)

    def _failure(self, address: str, channel: grpc.Channel, error: grpc.RpcError) -> PeerError:
        failure = PeerError.of(error)
        if failure.code == Code.UNAVAILABLE:
            # The next call opens another one, which knows the certificates of that time.
            with self._lock:
                if self._channels.get(address) is channel:
                    del self._channels[address]
        return failure

    def _channel(self, address: str) -> grpc.Channel:
        """One for all calls to a server."""
        with self._lock:
            channel = self._channels.get(address)
            opener = self._opener = self._opener or self._load()
        if channel is None:
            # Opening may take as long as a handshake, and other servers are not to wait for this one.
            opened = opener.open(address)
            with self._lock:
                while len(self._channels) >= _CHANNELS_MAX:
                    del self._channels[next(iter(self._channels))]
                channel = self._channels.setdefault(address, opened)
            if channel is not opened:
                opened.close()
        return channel

    def _load(self) -> Channels:
        from volumed.security.grpc_tls import grpc_environment

        security = load_security(self._runtime_dir)
        # The library reads its environment when it is imported.
        os.environ.update(grpc_environment(security))
        from volumed.grpc.channels import Channels

        return Channels(security.grpc)
