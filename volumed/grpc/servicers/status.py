"""What the node says of itself (docs/spec/grpc.md 3.8, 3.26, 3.27, 3.32, 4)."""

from __future__ import annotations

import threading
import time

from volumed import REFERENCE_VERSION, SIZE_LIMITS
from volumed.bus import calls
from volumed.grpc import texts
from volumed.grpc.memory import memory_status
from volumed.grpc.node import GrpcNode
from volumed.wire import volume_server_pb2 as pb

__all__ = ["StatusServicer"]


class StatusServicer:
    """VolumeStatus, VolumeServerStatus, GetState, SetState, VolumeServerLeave, Ping."""

    def __init__(self, node: GrpcNode) -> None:
        self._node = node

    def volume_status(self, request: pb.VolumeStatusRequest) -> pb.VolumeStatusResponse:
        """Numbers of one mounted volume."""
        view = self._node.volume_call(
            request.volume_id,
            calls.VolumeStatus(request.volume_id),
            texts.no_such_volume_id(request.volume_id),
        )
        return pb.VolumeStatusResponse(
            is_read_only=view.is_read_only,
            volume_size=view.volume_size,
            file_count=view.file_count,
            file_deleted_count=view.file_deleted_count,
        )

    def volume_server_status(
        self,
        request: pb.VolumeServerStatusRequest,  # noqa: ARG002
    ) -> pb.VolumeServerStatusResponse:
        """Disks and memory of the node, from the supervisor's memory."""
        status = self._node.supervisor(calls.NodeStatus())
        config = self._node.config
        return pb.VolumeServerStatusResponse(
            disk_statuses=[_disk_status(disk) for disk in status.disks],
            memory_status=memory_status(threading.active_count()),
            version=f"{SIZE_LIMITS[config.offset_width]} {REFERENCE_VERSION} volumed",
            data_center=config.data_center,
            rack=config.rack,
            state=_state_message(status.state),
        )

    def get_state(self, request: pb.GetStateRequest) -> pb.GetStateResponse:  # noqa: ARG002
        """Current node state."""
        return pb.GetStateResponse(state=_state_message(self._node.supervisor(calls.GetState())))

    def set_state(self, request: pb.SetStateRequest) -> pb.SetStateResponse:
        """Replace the node state; without a state in the request nothing changes (section 4)."""
        if not request.HasField("state"):
            return pb.SetStateResponse(state=_state_message(self._node.supervisor(calls.GetState())))
        wanted = calls.ServerState(request.state.maintenance, request.state.version)
        return pb.SetStateResponse(state=_state_message(self._node.supervisor(calls.SetState(wanted))))

    def volume_server_leave(
        self,
        request: pb.VolumeServerLeaveRequest,  # noqa: ARG002
    ) -> pb.VolumeServerLeaveResponse:
        """Leave the cluster; reads and writes go on."""
        self._node.supervisor(calls.LeaveCluster())
        return pb.VolumeServerLeaveResponse()

    def ping(self, request: pb.PingRequest) -> pb.PingResponse:
        """Times of this node and, with a target, of a known master."""
        start = time.time_ns()
        if not request.target and not request.target_type:
            return pb.PingResponse(start_time_ns=start, stop_time_ns=time.time_ns())
        result = self._node.supervisor(calls.PingMaster(request.target, request.target_type))
        return pb.PingResponse(
            start_time_ns=result.start_time_ns,
            remote_time_ns=result.remote_time_ns,
            stop_time_ns=result.stop_time_ns,
        )


def _state_message(state: calls.ServerState) -> pb.VolumeServerState:
    return pb.VolumeServerState(maintenance=state.maintenance, version=state.version)


def _disk_status(disk: calls.DiskStatusView) -> pb.DiskStatus:
    used = max(0, disk.total_bytes - disk.free_bytes)
    total = disk.total_bytes or 1
    return pb.DiskStatus(
        dir=disk.directory,
        all=disk.total_bytes,
        used=used,
        free=disk.free_bytes,
        percent_free=100.0 * disk.free_bytes / total,
        percent_used=100.0 * used / total,
        error=disk.error,
    )
