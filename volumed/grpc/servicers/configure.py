"""Settings of a volume that lie in files beside it (docs/spec/grpc.md 3.10, 3.14)."""

from __future__ import annotations

from volumed.bus.file_calls import ConfigureVolume, ConsolidateIndex, VolumeConfigured
from volumed.errors import FormatError, VolumedError, VolumeNotFound
from volumed.formats.numbers import quote
from volumed.formats.replication import ReplicaPlacement
from volumed.grpc import texts
from volumed.grpc.node import GrpcNode
from volumed.wire import volume_server_pb2 as pb

__all__ = ["ConfigureServicer"]

_TIMEOUT_S = 600.0
"""The volume is loaded again, which may take minutes on a busy disk."""


class ConfigureServicer:
    """VolumeConfigure and VolumeConsolidateIndex."""

    def __init__(self, node: GrpcNode) -> None:
        self._node = node

    def volume_configure(self, request: pb.VolumeConfigureRequest) -> pb.VolumeConfigureResponse:
        """Another replication; what goes wrong is told in the response."""
        self._node.refuse_in_maintenance()
        try:
            self._configure(request)
        except VolumedError as error:
            return pb.VolumeConfigureResponse(error=error.text)
        return pb.VolumeConfigureResponse()

    def volume_consolidate_index(self, request: pb.VolumeConsolidateIndexRequest) -> pb.VolumeConsolidateIndexResponse:
        """The index files go where they belong."""
        self._node.refuse_in_maintenance()
        missing = VolumeNotFound.on_mount(request.volume_id).text
        self._node.volume_call(request.volume_id, ConsolidateIndex(request.volume_id), missing, _TIMEOUT_S)
        return pb.VolumeConsolidateIndexResponse()

    def _configure(self, request: pb.VolumeConfigureRequest) -> None:
        asked = _as_text(request)
        try:
            ReplicaPlacement.parse(request.replication)
        except FormatError as error:
            raise FormatError(texts.replication_not_configured(asked, error.text)) from None
        call = ConfigureVolume(request.volume_id, request.replication)
        missing = texts.volume_not_configured(asked, request.volume_id)
        done: VolumeConfigured = self._node.volume_call(request.volume_id, call, missing, _TIMEOUT_S)
        if done.failed_step:
            raise VolumedError(texts.volume_not_reloaded(done.failed_step, asked, done.reason))


def _as_text(request: pb.VolumeConfigureRequest) -> str:
    """The request as the reference prints it."""
    fields = [f"volume_id:{request.volume_id}"] if request.volume_id else []
    if request.replication:
        fields.append(f"replication:{quote(request.replication)}")
    return "  ".join(fields)
