"""Read-only marks, told to the master before and after (docs/spec/grpc.md 3.12, 3.13)."""

from __future__ import annotations

from volumed.bus import calls
from volumed.errors import VolumeNotFound
from volumed.grpc.node import GrpcNode
from volumed.grpc.profile import Profile
from volumed.wire import volume_server_pb2 as pb

__all__ = ["MarksServicer"]


class MarksServicer:
    """VolumeMarkReadonly and VolumeMarkWritable."""

    def __init__(self, node: GrpcNode, profile: Profile) -> None:
        self._node = node
        self._profile = profile

    def volume_mark_readonly(self, request: pb.VolumeMarkReadonlyRequest) -> pb.VolumeMarkReadonlyResponse:
        """Tell the master first, so that it stops assigning; tell it again after the local change, since a
        heartbeat sent in between may have overwritten it."""
        disk_id, status = self._look_up(request.volume_id)
        if not self._profile.mark_readonly_in_maintenance:
            self._node.refuse_in_maintenance()
        self._tell_master(request.volume_id, disk_id, status, is_readonly=True)
        self._node.worker(disk_id, calls.MarkReadonly(request.volume_id, request.can_delete, request.persist))
        self._tell_master(request.volume_id, disk_id, status, is_readonly=True)
        return pb.VolumeMarkReadonlyResponse()

    def volume_mark_writable(self, request: pb.VolumeMarkWritableRequest) -> pb.VolumeMarkWritableResponse:
        """Clear the marks, then tell the master."""
        disk_id, status = self._look_up(request.volume_id)
        self._node.refuse_in_maintenance()
        self._node.worker(disk_id, calls.MarkWritable(request.volume_id))
        self._tell_master(request.volume_id, disk_id, status, is_readonly=False)
        return pb.VolumeMarkWritableResponse()

    def _look_up(self, volume_id: int) -> tuple[int, calls.VolumeStatusView]:
        disk_id = self._node.disk_of(volume_id)
        if disk_id is None:
            raise VolumeNotFound.of(volume_id)
        return disk_id, self._node.worker(disk_id, calls.VolumeStatus(volume_id))

    def _tell_master(self, volume_id: int, disk_id: int, status: calls.VolumeStatusView, *, is_readonly: bool) -> None:
        self._node.supervisor(
            calls.MarkReadonlyOnMaster(
                volume_id=volume_id,
                collection=status.collection,
                replica_placement=status.replica_placement,
                ttl=status.ttl,
                disk_type=self._node.config.disks[disk_id].disk_type,
                is_readonly=is_readonly,
            )
        )
