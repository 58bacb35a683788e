"""A volume server as those see it who copy from it: a real one, whose answers can be held back and falsified."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc

from tests.cluster import VolumeServer
from tests.processes import HOST
from volumed.wire import volume_server_pb2 as pb

__all__ = ["SourceProxy"]

THREADS = 16
TIMEOUT_S = 60.0
SERVICE = pb.DESCRIPTOR.services_by_name["VolumeServer"]
STREAM = "CopyFile"


def _nothing() -> None:
    pass


class SourceProxy(grpc.GenericRpcHandler):
    """A context manager. Both sides may be killed behind its back."""

    def __init__(self, server: VolumeServer) -> None:
        self.server = server
        self.falsify: dict[str, Callable[[Any], Any]] = {}
        """By method: changes an answer; with None as its result there is none, and a stream ends."""
        self.before: dict[str, Callable[[], None]] = {}
        """By extension: called once, before a file is asked for."""
        self.held_after: int | None = None
        """So many bytes of a stream pass; the rest waits for `release`."""
        self.held = threading.Event()
        self.release = threading.Event()
        self._channel = grpc.insecure_channel(server.grpc_address)
        self._server = grpc.server(ThreadPoolExecutor(THREADS), handlers=[self])
        self._port = self._server.add_insecure_port(f"{HOST}:0")

    @property
    def peer_address(self) -> str:
        """Address of the server with the gRPC port of the proxy."""
        return f"{self.server.address}.{self._port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release.set()
        self._server.stop(0).wait()
        self._channel.close()

    def drop_connections(self) -> None:
        """End the source for whoever copies from it."""
        self.release.set()
        self._server.stop(0).wait()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """A handler that forwards any method."""
        name = handler_call_details.method.rpartition("/")[2]
        forward = self._stream if name == STREAM else self._unary
        make = grpc.unary_stream_rpc_method_handler if name == STREAM else grpc.unary_unary_rpc_method_handler
        return make(
            lambda request, context: forward(handler_call_details.method, request, context),
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _unary(self, method: str, request: bytes, context: grpc.ServicerContext) -> Any:
        try:
            answer = self._channel.unary_unary(method)(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        name = method.rpartition("/")[2]
        message = getattr(pb, f"{name}Response").FromString(answer)
        return self._falsified(name, message)

    def _stream(self, method: str, request: bytes, context: grpc.ServicerContext) -> Iterator[Any]:
        self.before.pop(pb.CopyFileRequest.FromString(request).ext, _nothing)()
        upstream = self._channel.unary_stream(method)(request, timeout=TIMEOUT_S)
        context.add_callback(upstream.cancel)
        passed = 0
        try:
            for raw in upstream:
                message = self._falsified(STREAM, pb.CopyFileResponse.FromString(raw))
                if message is None:
                    return
                if self.held_after is not None and passed >= self.held_after:
                    self.held.set()
                    self.release.wait(TIMEOUT_S)
                passed += len(message.file_content)
                yield message
        except grpc.RpcError as error:
            if context.is_active():
                context.abort(error.code(), error.details())

    def _falsified(self, name: str, message: Any) -> Any:
        change = self.falsify.get(name)
        return change(message) if change else message
