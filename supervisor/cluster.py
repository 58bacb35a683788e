"""The node as a member of a cluster: runs the heartbeat session on the loop."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from supervisor.loop import Loop, Timer
from supervisor.master import MasterConfiguration, MasterLink, MasterStream
from supervisor.metrics import PushGateway
from supervisor.node import Node, ShardChanges, VolumeChanges
from volumed.bus.calls import ServerState
from volumed.bus.events import NodeOptions, StorageBackends
from volumed.config.address import http_address
from volumed.config.node import NodeConfig
from volumed.grpc.channels import Channels

if TYPE_CHECKING:
    from supervisor.heartbeat import HeartbeatSession, NodeSnapshot

__all__ = ["ClusterMember"]

_log = logging.getLogger(__name__)
_LEAVE_LIMIT_S = 0.5
"""Longest wait for the master to take the farewell; closing the stream says the same."""


class ClusterMember:
    """Connects sessions to streams. The callbacks from `MasterLink` come from its thread and are posted."""

    def __init__(
        self,
        config: NodeConfig,
        channels: Channels,
        loop: Loop,
        node: Node,
        state: Callable[[], ServerState],
        on_found: Callable[[PushGateway], None],
        on_options: Callable[[], None],
        on_backends: Callable[[], None],
        on_duplicates: Callable[[], None],
    ) -> None:
        self.current_master = config.masters[0] if config.masters else ""
        self.found = False
        self.disconnections: Counter[str] = Counter()
        """Streams that a master took and that ended, by its address."""
        self._left = False
        self._config = config
        self._loop = loop
        self._node = node
        self._state = state
        self._on_found = on_found
        self._on_options = on_options
        self._on_backends = on_backends
        self._on_duplicates = on_duplicates
        self._link = MasterLink(config.masters, channels, self)
        self._stream: MasterStream | None = None
        self._session: HeartbeatSession | None = None
        self._answered = False
        self._pulse: Timer | None = None
        self.options = NodeOptions(0, preallocate=False)
        self.backends: StorageBackends | None = None
        """None while no master has told."""
        self._on_left: Callable[[], None] | None = None

    def start(self) -> None:
        """Look for a master."""
        self._link.start()

    def ports_opened(self) -> None:
        """Start the heartbeat."""
        self._link.allow_streaming()

    def volumes_changed(self, changes: VolumeChanges) -> None:
        """Send deltas now."""
        if self._stream is not None and self._session is not None:
            self._stream.send(self._session.volumes_changed(changes.mounted, changes.gone))

    def shards_changed(self, changes: ShardChanges) -> None:
        """The same of shards."""
        if self._stream is not None and self._session is not None:
            self._stream.send(self._session.shards_changed(changes.mounted, changes.gone))

    def volumes_reported(self) -> None:
        """The next pulse carries it."""

    def capacity_changed(self) -> None:
        """Send a volume heartbeat now."""
        if self._stream is not None and self._session is not None:
            self._stream.send(self._session.refresh(self._snapshot()))

    def leave(self, done: Callable[[], None]) -> None:
        """Say farewell and never come back; ``done`` once the master knows, or after a short time."""
        if self._left:
            done()
            return
        self._left = True
        self._link.stop()
        stream, session = self._stream, self._session
        if stream is None or session is None:
            done()
            return
        self._end_session()
        self._on_left = done
        stream.send([session.leave()])
        stream.finish()
        self._loop.call_later(_LEAVE_LIMIT_S, self._has_left)

    def _has_left(self) -> None:
        done, self._on_left = self._on_left, None
        if done is not None:
            done()

    # --- from the link's thread

    def found_master(self, address: str, configuration: MasterConfiguration) -> None:
        self._loop.post(lambda: self._found(address, configuration))

    def configured(self, configuration: MasterConfiguration) -> None:
        self._loop.post(lambda: self._take_backends(configuration))

    def opened(self, stream: MasterStream) -> None:
        self._loop.post(lambda: self._opened(stream))

    def received(self, stream: MasterStream, response: Any) -> None:
        self._loop.post(lambda: self._received(stream, response))

    def closed(self, stream: MasterStream) -> None:
        self._loop.post(lambda: self._closed(stream))

    def duplicate_directories(self) -> None:
        self._loop.post(self._on_duplicates)

    # --- the same on the loop

    def _found(self, address: str, configuration: MasterConfiguration) -> None:
        self.current_master = address
        self.found = True
        self._take_backends(configuration)
        self._on_found(configuration.gateway)

    def _take_backends(self, configuration: MasterConfiguration) -> None:
        if configuration.backends != self.backends:
            self.backends = configuration.backends
            self._on_backends()

    def _opened(self, stream: MasterStream) -> None:
        from supervisor.heartbeat import HeartbeatSession, Identity

        if self._left:
            stream.finish()
            return
        config = self._config
        self.current_master = stream.target
        self._stream = stream
        self._answered = False
        self._session = HeartbeatSession(
            Identity(
                ip=config.ip,
                port=config.port,
                grpc_port=config.grpc_port,
                public_url=config.public_url,
                node_id=config.node_id,
                data_center=config.data_center,
                rack=config.rack,
                compat=config.compat,
            )
        )
        stream.send(self._session.open(self._snapshot()))
        self._plan_pulse()

    def _received(self, stream: MasterStream, response: Any) -> None:
        if stream is not self._stream or self._session is None:
            return
        self._answered = True
        reaction = self._session.receive(response)
        if response.resend_full_volume_list:
            _log.info("master %s asks for the whole list of volumes", stream.target)
        limit = reaction.volume_size_limit_bytes or self.options.volume_size_limit_bytes
        options = NodeOptions(limit, reaction.preallocate)
        if options != self.options:
            self.options = options
            self._on_options()

    def _closed(self, stream: MasterStream) -> None:
        if stream is self._stream:
            self._end_session()
            if self._answered:
                self.disconnections[http_address(stream.target)] += 1
        if self._left:
            self._has_left()

    def _end_session(self) -> None:
        self._stream = self._session = None
        if self._pulse is not None:
            self._pulse.cancel()

    def _plan_pulse(self) -> None:
        from supervisor.heartbeat import PULSE_S

        self._pulse = self._loop.call_later(PULSE_S, self._send_pulse)

    def _send_pulse(self) -> None:
        if self._stream is not None and self._session is not None:
            self._stream.send(self._session.pulse(self._snapshot()))
            self._plan_pulse()

    def _snapshot(self) -> NodeSnapshot:
        from supervisor.heartbeat import DiskCapacity, NodeSnapshot

        state = self._state()
        return NodeSnapshot(
            disks=[
                DiskCapacity(
                    disk_id=disk.config.disk_id,
                    disk_type=disk.config.disk_type,
                    tags=disk.config.tags,
                    volumes_max=disk.slots,
                    counted=disk.behaviour.counted,
                    total_bytes=disk.total_bytes,
                    free_bytes=disk.free_bytes,
                    uuid=disk.uuid,
                )
                for disk in self._node.disks
            ],
            volumes=list(self._node.reports()),
            ec_volumes=list(self._node.shard_reports()),
            max_file_key=self._node.max_file_key(),
            maintenance=state.maintenance,
            state_version=state.version,
        )
