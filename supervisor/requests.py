"""What fronts ask of the supervisor, and who answers it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from supervisor.jobs import Jobs
from supervisor.node import Node
from supervisor.state import StateFile
from volumed.bus import calls
from volumed.bus.router import Reply

__all__ = ["Cluster", "NodeControl", "Requests"]


class NodeControl(Protocol):
    """The part of the supervisor that requests may use."""

    def status(self) -> calls.NodeStatusView: ...
    def leave_cluster(self) -> None: ...


class Cluster(Protocol):
    """Who knows the other nodes: a master, or, standalone, the node itself. Answers now or later, or raises."""

    def look_up(self, request: calls.LookupVolume, reply: Reply) -> None: ...
    def look_up_shards(self, request: calls.LookupEcVolume, reply: Reply) -> None: ...
    def mark_readonly(self, request: calls.MarkReadonlyOnMaster, reply: Reply) -> None: ...
    def delete_at(self, request: calls.DeleteAtServer, reply: Reply) -> None: ...
    def ping(self, request: calls.PingMaster, reply: Reply) -> None: ...
    def assign(self, request: calls.AssignFileId, reply: Reply) -> None: ...


class Requests:
    """Answers each call at once from memory, or hands it to who has to ask or to write."""

    def __init__(
        self,
        control: NodeControl,
        node: Node,
        state: StateFile,
        file_jobs: Jobs,
        cluster: Cluster,
    ) -> None:
        self._control = control
        self._node = node
        self._state = state
        self._file_jobs = file_jobs
        self._handlers: dict[type, Callable[[Any, Reply], None]] = {
            calls.NodeStatus: self._node_status,
            calls.GetState: self._get_state,
            calls.SetState: self._set_state,
            calls.LeaveCluster: self._leave_cluster,
            calls.LookupVolume: cluster.look_up,
            calls.LookupEcVolume: cluster.look_up_shards,
            calls.MarkReadonlyOnMaster: cluster.mark_readonly,
            calls.DeleteAtServer: cluster.delete_at,
            calls.PingMaster: cluster.ping,
            calls.PlaceVolume: self._place_volume,
            calls.PlaceCopy: self._place_copy,
            calls.ConfirmPlacement: self._confirm_placement,
            calls.AssignFileId: cluster.assign,
        }

    def handle(self, request: calls.SupervisorRequest, reply: Reply) -> None:
        """Answer a call, now or later. Raises the error to answer with."""
        self._handlers[type(request)](request, reply)

    def _node_status(self, _: calls.NodeStatus, reply: Reply) -> None:
        reply.result(self._control.status())

    def _get_state(self, _: calls.GetState, reply: Reply) -> None:
        reply.result(self._state.current)

    def _set_state(self, request: calls.SetState, reply: Reply) -> None:
        self._file_jobs.submit(lambda: self._state.replace(request.state), reply.result, reply.error)

    def _leave_cluster(self, _: calls.LeaveCluster, reply: Reply) -> None:
        self._control.leave_cluster()
        reply.result()

    def _place_volume(self, request: calls.PlaceVolume, reply: Reply) -> None:
        disk_id = self._node.place(request.volume_id, request.disk_type, time.monotonic())
        reply.result(calls.Placement(disk_id))

    def _place_copy(self, request: calls.PlaceCopy, reply: Reply) -> None:
        disk_id = self._node.place_copy(request.volume_id, request.disk_type, request.needed_bytes, time.monotonic())
        reply.result(calls.Placement(disk_id))

    def _confirm_placement(self, request: calls.ConfirmPlacement, reply: Reply) -> None:
        self._node.release(request.volume_id)
        reply.result()
