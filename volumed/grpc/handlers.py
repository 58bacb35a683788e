"""From a behaviour of `volumed.grpc.servicers` to a handler of the library: white list, request id, error mapping.

A behaviour of a unary method takes the request, of a method that streams to the client the request and the `Call`, of
one that streams to us an iterator of requests and the `Call`. It returns the response, or yields responses.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeAlias

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from volumed.errors import VolumedError
from volumed.grpc.admin_gate import AdminGate
from volumed.grpc.streams import Call

__all__ = ["WITH_CALL", "Behaviour", "Handler", "method_handler", "refusal"]

_log = logging.getLogger(__name__)

Behaviour = Callable[..., Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

WITH_CALL = frozenset(
    {
        "ScrubEcVolume",
        "ScrubVolume",
        "VolumeEcShardsCopy",
        "VolumeEcShardsDelete",
        "VolumeEcShardsGenerate",
        "VolumeEcShardsMount",
        "VolumeEcShardsRebuild",
        "VolumeEcShardsToVolume",
        "VolumeEcShardsUnmount",
        "VolumeTailReceiver",
    }
)
"""Unary methods that last: their behaviours get the `Call` too."""

_CANCELLATION_LAG_S = 0.05

_STATUS_BY_NUMBER = {status.value[0]: status for status in grpc.StatusCode}


def method_handler(method: MethodDescriptor, behaviour: Behaviour, gate: AdminGate) -> Handler:
    """The handler of a method of the service."""
    request_class = message_factory.GetMessageClass(method.input_type)
    make: Callable[..., Handler]
    if method.server_streaming:
        handle = _streaming(method.name, behaviour, gate)
        make = grpc.unary_stream_rpc_method_handler
    elif method.client_streaming:
        handle = _taking_stream(method.name, behaviour, gate)
        make = grpc.stream_unary_rpc_method_handler
    else:
        handle = _unary(method.name, behaviour, gate)
        make = grpc.unary_unary_rpc_method_handler
    return make(
        handle,
        request_deserializer=request_class.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


def refusal(status: grpc.StatusCode, text: str) -> Handler:
    """A handler of any arity that ends with the status and the text."""

    def refuse(_requests: object, context: grpc.ServicerContext) -> None:
        context.abort(status, text)

    return grpc.stream_stream_rpc_method_handler(refuse)


def _unary(name: str, behaviour: Behaviour, gate: AdminGate) -> Behaviour:
    with_call = name in WITH_CALL

    def handle(request: Message, context: grpc.ServicerContext) -> Message:
        request_id = dict(context.invocation_metadata()).get("x-amz-request-id") or str(uuid.uuid4())
        context.set_trailing_metadata((("x-amz-request-id", request_id),))
        gate.check(name, context)
        with _errors_told(f"request={request_id!s} {name}", context):
            response: Message = behaviour(request, Call(context)) if with_call else behaviour(request)
        return response

    return handle


def _streaming(name: str, behaviour: Behaviour, gate: AdminGate) -> Behaviour:
    def handle(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        gate.check(name, context)
        with _errors_told(name, context), closing(behaviour(request, Call(context))) as responses:
            yield from responses

    return handle


def _taking_stream(name: str, behaviour: Behaviour, gate: AdminGate) -> Behaviour:
    def handle(requests: Iterator[Message], context: grpc.ServicerContext) -> Message:
        gate.check(name, context)
        call = Call(context)
        with _errors_told(name, context):
            response: Message = behaviour(_until_its_end(requests, call), call)
        return response

    return handle


def _until_its_end(requests: Iterator[Message], call: Call) -> Iterator[Message]:
    """The requests of a client that has sent all of them. The library may say that there are no more a moment before it
    says that the client is gone."""
    yield from requests
    call.wait(_CANCELLATION_LAG_S)
    call.require()


@contextmanager
def _errors_told(what: str, context: grpc.ServicerContext) -> Iterator[None]:
    """End the call with the status and the text of an error; a call that nobody waits for any more just ends."""
    try:
        yield
    except VolumedError as error:
        _log.info("%s failed: %s", what, error.text)
        status, text = _STATUS_BY_NUMBER[int(error.code)], error.text
    except Exception as error:
        if not context.is_active():
            return
        _log.exception("%s failed", what)
        status, text = grpc.StatusCode.UNKNOWN, str(error)
    else:
        return
    context.abort(status, text)
