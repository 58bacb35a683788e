"""What a servicer needs of the node: calls to workers and supervisor, and which disk holds a volume."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from volumed.bus import calls
from volumed.config.node import NodeConfig
from volumed.errors import Code, DiskUnavailable, VolumedError, VolumeNotFound
from volumed.grpc import texts
from volumed.grpc.channels import Channels
from volumed.grpc.streams import Call
from volumed.metrics.grpc_front import GrpcMetrics
from volumed.metrics.page import MetricsPage
from volumed.nodetable import DISK_STATES_THAT_SERVE, DiskState, NodeTable
from volumed.security.settings import GrpcIdentity
from volumed.shards.node import NodeShards
from volumed.shards.view import NodeEcVolume
from volumed.storage.mounted_shards import MountedShards
from volumed.storage.view import VolumeHandle

__all__ = ["CALL_TIMEOUT_S", "CallClient", "GrpcNode", "VolumeLocator"]

CALL_TIMEOUT_S = 30.0
"""Longest wait for a worker or the supervisor; a stuck disk costs a caller no more than this."""


class CallClient(Protocol):
    """The blocking side of the bus (``volumed.bus.caller.Caller``)."""

    def call(self, endpoint: str, request: calls.Request, timeout_s: float) -> Any: ...


class VolumeLocator(Protocol):
    """Finds a mounted volume (``volumed.storage.view.NodeView``)."""

    def locate(self, volume_id: int) -> VolumeHandle | None: ...

    def shards(self, volume_id: int) -> list[MountedShards]: ...


class GrpcNode:
    """Shared by all handler threads."""

    def __init__(
        self,
        config: NodeConfig,
        table: NodeTable,
        caller: CallClient,
        locator: VolumeLocator,
        channels: Channels | None = None,
    ) -> None:
        """``channels`` to other servers are plain by default."""
        self.config = config
        self.channels = channels or Channels(GrpcIdentity())
        self.metrics = GrpcMetrics(MetricsPage(config.metrics_path("grpc")))
        self._table = table
        self._caller = caller
        self._locator = locator
        self._locator_lock = threading.Lock()
        self._endless: set[Call] = set()
        self.ec = NodeShards(config, self, self, self.metrics)
        """Needles of erasure coded volumes."""

    def supervisor(self, request: calls.Request, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """Result of a supervisor call; raises what the supervisor raised."""
        return self._caller.call(self.config.supervisor_endpoint(), request, timeout_s)

    def worker(self, disk_id: int, request: calls.Request, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """Result of a call to the worker of one disk; ``DiskUnavailable`` when the disk does not serve."""
        row = self._table.disks[disk_id]
        if row.state not in DISK_STATES_THAT_SERVE:
            raise DiskUnavailable(f"disk {disk_id} is {row.state.name.lower()}", Code.UNAVAILABLE)
        return self._caller.call(self.config.worker_endpoint(disk_id, row.epoch), request, timeout_s)

    def disk_states(self) -> list[DiskState]:
        """States of all disks, in their order."""
        return [row.state for row in self._table.disks]

    def certain_disks(self) -> list[int]:
        """Ids of the disks that serve. Raises `DiskUnavailable` when another one may do so soon: what it has of a
        volume would be overlooked. One that has failed is not waited for."""
        states = self.disk_states()
        for disk_id, state in enumerate(states):
            if state not in DISK_STATES_THAT_SERVE and state is not DiskState.FAILED:
                raise DiskUnavailable(f"disk {disk_id} is {state.name.lower()}", Code.UNAVAILABLE)
        return self.serving_disks()

    def require_certainty(self) -> None:
        """Raise `DiskUnavailable` when a disk that does not serve, even one that has failed, may have what the others
        do not have. One that could not be opened since the node started is none of its disks yet."""
        for disk_id, row in enumerate(self._table.disks):
            is_unknown = row.state is DiskState.FAILED and not row.map_path
            if row.state not in DISK_STATES_THAT_SERVE and not is_unknown:
                raise DiskUnavailable(f"disk {disk_id} is {row.state.name.lower()}", Code.UNAVAILABLE)

    def serving_disks(self) -> list[int]:
        """Ids of the disks whose workers answer, ascending."""
        return [i for i, row in enumerate(self._table.disks) if row.state in DISK_STATES_THAT_SERVE]

    def locate(self, volume_id: int) -> VolumeHandle | None:
        """The volume on the lowest-numbered disk that has it mounted. Raises `DiskUnavailable` when it may be on a
        disk that does not serve now."""
        with self._locator_lock:
            return self._locator.locate(volume_id)

    def shards(self, volume_id: int) -> list[MountedShards]:
        """An erasure coded volume as the serving disks have it mounted, in order of the disks."""
        with self._locator_lock:
            return self._locator.shards(volume_id)

    def ec_volume(self, volume_id: int) -> NodeEcVolume | None:
        """The erasure coded volume if there is no normal one of the id, which would be preferred for reads."""
        volume = self.ec.find(volume_id)
        try:
            return None if volume is not None and self.locate(volume_id) else volume
        except DiskUnavailable:
            return volume

    def disk_of(self, volume_id: int) -> int | None:
        """The disk of `locate`."""
        handle = self.locate(volume_id)
        return None if handle is None else handle.disk_id

    def volume_call(
        self, volume_id: int, request: calls.Request, missing_text: str, timeout_s: float = CALL_TIMEOUT_S
    ) -> Any:
        """Call the worker that holds the volume; ``missing_text`` when nobody does."""
        disk_id = self.disk_of(volume_id)
        if disk_id is None:
            raise VolumedError(missing_text)
        try:
            return self.worker(disk_id, request, timeout_s)
        except VolumeNotFound:
            raise VolumedError(missing_text) from None

    def is_endless(self, call: Call) -> None:
        """The call may last for ever: it is not waited for when the node stops."""
        self._endless.add(call)
        call.when_ended(lambda: self._endless.discard(call))

    def end_endless(self) -> None:
        """Cancel those calls."""
        for call in list(self._endless):
            call.cancel()

    def refuse_in_maintenance(self) -> None:
        """Column M of section 1.2."""
        if self.supervisor(calls.GetState()).maintenance:
            raise VolumedError(texts.maintenance(self.config.node_id))
