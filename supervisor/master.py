"""The gRPC side of the heartbeat and the calls to masters (docs/spec/grpc.md 2, 3.12, 3.32).

One thread looks for a master, then keeps a stream to one; it decides nothing about the messages. What comes from the
stream is posted to the loop, which owns the session and puts its messages into the stream's outbox. grpcio is imported
on that thread, after the children were started.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

from supervisor.metrics import PushGateway
from supervisor.route import DuplicateDirectories, MasterRoute, StreamEnd, stream_end
from volumed.bus.events import BackendSettings, StorageBackends
from volumed.config.address import http_address
from volumed.errors import RetryError
from volumed.grpc.channels import Channels

__all__ = ["MasterConfiguration", "MasterLink", "MasterStream", "StreamHandler"]

_log = logging.getLogger(__name__)

_ROUND_PAUSE_S = 1.79
_CONFIGURATION_TIMEOUT_S = 5.0


class MasterStream:
    """One heartbeat stream as the loop sees it."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._outbox: SimpleQueue[Any] = SimpleQueue()

    def send(self, messages: list[Any]) -> None:
        """Queue messages; never blocks."""
        for message in messages:
            self._outbox.put(message)

    def finish(self) -> None:
        """Half-close after what is queued."""
        self._outbox.put(None)

    def outgoing(self) -> Iterator[Any]:
        """Messages for grpcio, in order; ends after `finish`."""
        while (message := self._outbox.get()) is not None:
            yield message


class MasterConfiguration(NamedTuple):
    """What interests us of a master's configuration (section 2.1)."""

    gateway: PushGateway
    backends: StorageBackends

    @classmethod
    def of(cls, answer: Any) -> MasterConfiguration:
        """From the answer of `GetMasterConfiguration`."""
        backends = [BackendSettings(item.type, item.id, dict(item.properties)) for item in answer.storage_backends]
        gateway = PushGateway(answer.metrics_address, answer.metrics_interval_seconds)
        return cls(gateway, StorageBackends(backends))


class StreamHandler(Protocol):
    """What the loop does with a stream; every method is called on the link's thread and must only post."""

    def found_master(self, address: str, configuration: MasterConfiguration) -> None: ...
    def configured(self, configuration: MasterConfiguration) -> None: ...
    def opened(self, stream: MasterStream) -> None: ...
    def received(self, stream: MasterStream, response: Any) -> None: ...
    def closed(self, stream: MasterStream) -> None: ...
    def duplicate_directories(self) -> None: ...


class MasterLink:
    """Finds a master, then streams to one until told to stop."""

    def __init__(self, seeds: tuple[str, ...], channels: Channels, handler: StreamHandler) -> None:
        self._seeds = seeds
        self._channels = channels
        self._handler = handler
        self._may_stream = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="master", daemon=True)

    def start(self) -> None:
        """Start to look for a master."""
        self._thread.start()

    def allow_streaming(self) -> None:
        """The ports are open: the heartbeat may start."""
        self._may_stream.set()

    def stop(self) -> None:
        """Open no further stream."""
        self._stopping.set()
        self._may_stream.set()

    def _run(self) -> None:
        found = self._find_master()
        if found is None:
            return
        self._handler.found_master(*found)
        self._may_stream.wait()
        route = MasterRoute(self._seeds)
        try:
            while True:
                attempt = route.next()
                if self._stopping.wait(attempt.delay_s):
                    return
                route.ended(self._stream(attempt.target))
        except DuplicateDirectories:
            _log.error("another server keeps announcing the directories of this node")
            self._handler.duplicate_directories()

    def _find_master(self) -> tuple[str, MasterConfiguration] | None:
        """The first seed that answers, and what it says; seeds are tried in turn for ever. None when stopped."""
        while True:
            for seed in self._seeds:
                if self._stopping.is_set():
                    return None
                try:
                    return seed, self._ask_configuration(seed)
                except RetryError as error:
                    _log.warning("master %s: %s", seed, error.text)
            if self._stopping.wait(_ROUND_PAUSE_S):
                return None

    def _stream(self, target: str) -> StreamEnd | None:
        """Serve one stream to its end, and say which response ended it, if one did.

        That is decided here and not on the loop: the master may close the stream right behind such a response."""
        import grpc

        from volumed.wire.master_pb2_grpc import SeaweedStub

        stream = MasterStream(target)
        with self._channels.open(target) as channel:
            stub = SeaweedStub(channel)
            call = stub.SendHeartbeat(stream.outgoing())
            self._ask_again(stub)
            self._handler.opened(stream)
            try:
                for response in call:
                    self._handler.received(stream, response)
                    end = stream_end(response, target)
                    if end is not None:
                        _log.warning("heartbeat to %s ends: %s", http_address(target), end)
                        return end
            except grpc.RpcError as error:
                if not self._stopping.is_set():
                    _log.warning("heartbeat to %s: %s", http_address(target), error.details())
            finally:
                stream.finish()
                self._handler.closed(stream)
        return None

    def _ask_again(self, stub: Any) -> None:
        """A master that was restarted may have new backends (rule P2); without an answer all stays as it is."""
        from volumed.wire.master_pb2 import GetMasterConfigurationRequest

        def answered(future: Any) -> None:
            if not future.cancelled() and future.exception() is None:
                self._handler.configured(MasterConfiguration.of(future.result()))

        asked = stub.GetMasterConfiguration.future(GetMasterConfigurationRequest(), timeout=_CONFIGURATION_TIMEOUT_S)
        asked.add_done_callback(answered)

    def _ask_configuration(self, seed: str) -> MasterConfiguration:
        """What interests us of a seed's configuration. Raises `RetryError` when it does not answer."""
        import grpc

        from volumed.wire.master_pb2 import GetMasterConfigurationRequest
        from volumed.wire.master_pb2_grpc import SeaweedStub

        with self._channels.open(seed) as channel:
            try:
                answer = SeaweedStub(channel).GetMasterConfiguration(
                    GetMasterConfigurationRequest(), timeout=_CONFIGURATION_TIMEOUT_S
                )
            except grpc.RpcError as error:
                raise RetryError(str(error.details())) from None
        return MasterConfiguration.of(answer)
