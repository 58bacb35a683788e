"""Calls to other volume servers on behalf of fronts (docs/spec/grpc.md 3.1)."""

from __future__ import annotations

from volumed.bus import calls
from volumed.codes import rpc_error_text
from volumed.errors import RetryError
from volumed.grpc.channels import Channels

__all__ = ["delete_at_server"]

_TIMEOUT_S = 25.0


def delete_at_server(request: calls.DeleteAtServer, channels: Channels) -> calls.DeletionResults:
    """BatchDelete without cookie check at one server; blocks. Raises `RetryError` when it cannot be asked.

    Rare enough for a connection of its own.
    """
    import grpc

    from volumed.wire.volume_server_pb2 import BatchDeleteRequest
    from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

    address = f"{request.url}.{request.grpc_port}" if request.grpc_port else request.url
    message = BatchDeleteRequest(file_ids=request.file_ids, skip_cookie_check=True)
    try:
        with channels.open(address) as channel:
            answer = VolumeServerStub(channel).BatchDelete(message, timeout=_TIMEOUT_S)
    except grpc.RpcError as error:
        raise RetryError(rpc_error_text(error.code().name, error.details())) from None
    return calls.DeletionResults(
        [calls.NeedleDeletion(result.status, result.error, result.size) for result in answer.results]
    )
