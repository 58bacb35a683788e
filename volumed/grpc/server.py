"""The gRPC server: channel options, method table, error mapping (docs/spec/grpc.md 1.1, 7.1, rules P9, P16)."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from concurrent import futures
from functools import partial
from typing import Any, TypeAlias

import grpc
from google.protobuf import message_factory
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection

from volumed.errors import VolumedError
from volumed.grpc import texts
from volumed.grpc.admin_gate import AdminGate
from volumed.grpc.node import GrpcNode
from volumed.grpc.profile import PROFILES
from volumed.grpc.servicers.deletes import DeletesServicer
from volumed.grpc.servicers.lifecycle import LifecycleServicer
from volumed.grpc.servicers.marks import MarksServicer
from volumed.grpc.servicers.status import StatusServicer
from volumed.security.access import AccessView
from volumed.wire import volume_server_pb2 as pb

__all__ = ["SERVICE", "create_server", "served_methods"]

_log = logging.getLogger(__name__)

_SERVICE_DESCRIPTOR = pb.DESCRIPTOR.services_by_name["VolumeServer"]
SERVICE: str = _SERVICE_DESCRIPTOR.full_name

_THREADS = 32
_MESSAGE_BYTES_MAX = 1 << 30
_OPTIONS = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.max_metadata_size", 8 << 20),
    ("grpc.http2.lookahead_bytes", 16 << 20),
    # The supervisor holds the port with a bound, never listening socket; that is what makes a second node fail.
    ("grpc.so_reuseport", 1),
)

Behaviour = Callable[[Any], Message]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


def served_methods(node: GrpcNode) -> dict[str, Behaviour]:
    """RPC name → handler of every method this version serves; all others of the contract are UNIMPLEMENTED."""
    profile = PROFILES[node.config.compat]
    lifecycle = LifecycleServicer(node, profile)
    status = StatusServicer(node)
    marks = MarksServicer(node, profile)
    return {
        "AllocateVolume": lifecycle.allocate_volume,
        "BatchDelete": DeletesServicer(node).batch_delete,
        "DeleteCollection": lifecycle.delete_collection,
        "GetState": status.get_state,
        "Ping": status.ping,
        "SetState": status.set_state,
        "VolumeDelete": lifecycle.volume_delete,
        "VolumeMarkReadonly": marks.volume_mark_readonly,
        "VolumeMarkWritable": marks.volume_mark_writable,
        "VolumeMount": lifecycle.volume_mount,
        "VolumeServerLeave": status.volume_server_leave,
        "VolumeServerStatus": status.volume_server_status,
        "VolumeStatus": status.volume_status,
        "VolumeUnmount": lifecycle.volume_unmount,
    }


class _VolumeServerHandler(grpc.GenericRpcHandler):
    """Routes a call by its path; speaks the reference's texts for what does not exist."""

    def __init__(self, behaviours: dict[str, Behaviour], gate: AdminGate) -> None:
        self._handlers = {name: _unary_handler(name, behaviour, gate) for name, behaviour in behaviours.items()}
        for method in _SERVICE_DESCRIPTOR.methods:
            refusal = _refusal(texts.not_implemented(method.name), partial(gate.check, method.name))
            self._handlers.setdefault(method.name, refusal)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler:
        service, _, method = handler_call_details.method.lstrip("/").rpartition("/")
        if service != SERVICE:
            return _refusal(texts.unknown_service(service))
        return self._handlers.get(method) or _refusal(texts.unknown_method(method, service))


def _unary_handler(name: str, behaviour: Behaviour, gate: AdminGate) -> _Handler:
    method = _SERVICE_DESCRIPTOR.methods_by_name[name]
    request_class = message_factory.GetMessageClass(method.input_type)

    def handle(request: Message, context: grpc.ServicerContext) -> Message:
        request_id = dict(context.invocation_metadata()).get("x-amz-request-id") or str(uuid.uuid4())
        context.set_trailing_metadata((("x-amz-request-id", request_id),))
        gate.check(name, context)
        try:
            return behaviour(request)
        except VolumedError as error:
            _log.info("request=%s %s failed: %s", request_id, name, error.text)
            code, text = _status(error.code), error.text
        except Exception as error:
            _log.exception("request=%s %s failed", request_id, name)
            code, text = grpc.StatusCode.UNKNOWN, str(error)
        context.abort(code, text)
        raise AssertionError("abort always raises")

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=request_class.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


def _refusal(text: str, check: Callable[[grpc.ServicerContext], None] | None = None) -> _Handler:
    """A handler of any arity that ends with UNIMPLEMENTED and the text, unless ``check`` ends it before."""

    def refuse(_requests: object, context: grpc.ServicerContext) -> None:
        if check is not None:
            check(context)
        context.abort(grpc.StatusCode.UNIMPLEMENTED, text)

    return grpc.stream_stream_rpc_method_handler(refuse)


_STATUS_BY_NUMBER = {status.value[0]: status for status in grpc.StatusCode}


def _status(code: int) -> grpc.StatusCode:
    return _STATUS_BY_NUMBER[int(code)]


def create_server(node: GrpcNode, access: AccessView) -> grpc.Server:
    """A server with the service and reflection, not bound to a port yet."""
    server = grpc.server(futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="grpc"), options=_OPTIONS)
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
    server.add_generic_rpc_handlers((_VolumeServerHandler(served_methods(node), AdminGate(access)),))
    return server
