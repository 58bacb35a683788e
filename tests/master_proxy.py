"""A gRPC proxy in front of a real master: everything passes as bytes, heartbeats are recorded on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple, Self

import grpc

from tests.cluster import Master
from tests.processes import HOST
from volumed.wire import master_pb2

__all__ = ["MasterProxy", "Seen"]

STREAMS = {"/master_pb.Seaweed/SendHeartbeat", "/master_pb.Seaweed/KeepConnected"}
HEARTBEAT = "/master_pb.Seaweed/SendHeartbeat"
CONFIGURATION = "/master_pb.Seaweed/GetMasterConfiguration"
THREADS = 32
UNARY_TIMEOUT_S = 30.0


class Seen(NamedTuple):
    """One message and when it passed, in monotonic seconds."""

    at_s: float
    message: Any


class MasterProxy(grpc.GenericRpcHandler):
    """Stands where a `Master` is expected by volume servers. A context manager."""

    def __init__(self, master: Master) -> None:
        self.master = master
        self.heartbeats: list[Seen] = []
        self.responses: list[Seen] = []
        self.falsify_digests = False
        self.arrived = threading.Condition()
        self._channel = grpc.insecure_channel(master.grpc_address)
        self._server = grpc.server(ThreadPoolExecutor(THREADS), handlers=[self])
        self._port = self._server.add_insecure_port(f"{HOST}:0")

    @property
    def peer_address(self) -> str:
        """Address of the master with the gRPC port of the proxy."""
        return f"{self.master.address}.{self._port}"

    def node_addresses(self) -> list[str]:
        """Nodes that the master knows."""
        return self.master.node_addresses()

    def resend_requests(self) -> int:
        """How often the master asked for the full list."""
        return sum(seen.message.resend_full_volume_list for seen in self.responses)

    def wait_for(self, wanted: Any, timeout_s: float) -> Seen:
        """The first recorded heartbeat for which ``wanted(message)`` holds; waits for it. Raises AssertionError."""
        with self.arrived:
            found = self.arrived.wait_for(
                lambda: next((seen for seen in self.heartbeats if wanted(seen.message)), None), timeout_s
            )
        assert found, f"no such heartbeat within {timeout_s:g} s"
        return found

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(0).wait()
        self._channel.close()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """A handler that forwards any method."""
        method = handler_call_details.method
        if method in STREAMS:
            return grpc.stream_stream_rpc_method_handler(
                lambda requests, context: self._stream(method, requests, context)
            )
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._unary(method, request, context))

    def _unary(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            answer: bytes = self._channel.unary_unary(method)(request, timeout=UNARY_TIMEOUT_S)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        if method == CONFIGURATION:
            return self._with_our_address(master_pb2.GetMasterConfigurationResponse.FromString(answer))
        return answer

    def _stream(self, method: str, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        forwarded = self._record(requests) if method == HEARTBEAT else requests
        upstream = self._channel.stream_stream(method)(forwarded)
        context.add_callback(upstream.cancel)
        try:
            for answer in upstream:
                yield self._recorded_answer(answer) if method == HEARTBEAT else answer
        except grpc.RpcError as error:
            if context.is_active():
                context.abort(error.code(), error.details())

    def _record(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        try:
            for request in requests:
                message = master_pb2.Heartbeat.FromString(request)
                with self.arrived:
                    self.heartbeats.append(Seen(time.monotonic(), message))
                    self.arrived.notify_all()
                if self.falsify_digests and message.HasField("volume_digest"):
                    false = master_pb2.Heartbeat()
                    false.CopyFrom(message)
                    false.volume_digest ^= 1
                    yield false.SerializeToString()
                else:
                    yield request
        except grpc.RpcError:
            return  # the node is gone

    def _recorded_answer(self, answer: bytes) -> bytes:
        response = master_pb2.HeartbeatResponse.FromString(answer)
        with self.arrived:
            self.responses.append(Seen(time.monotonic(), response))
            self.arrived.notify_all()
        return self._with_our_address(response)

    def _with_our_address(self, message: Any) -> bytes:
        """A node that is told who leads must go on talking to us."""
        if message.leader:
            message.leader = self.peer_address
        serialized: bytes = message.SerializeToString()
        return serialized
