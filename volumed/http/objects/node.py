"""What the HTTP handlers need of the node: the read-only view, links to the disks, the supervisor, other servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from volumed.bus.bodypool import BodyPool, Slab
from volumed.bus.calls import Request as Call
from volumed.bus.frames import StoreResult
from volumed.config.address import join_host_port
from volumed.config.node import NodeConfig
from volumed.formats.needle import Needle
from volumed.http.objects.peer import PeerClient
from volumed.http.objects.throttle import Budget
from volumed.images.service import ImageService
from volumed.metrics.front import FrontMetrics
from volumed.security.access import Access
from volumed.shards.reader import StoredEcNeedle
from volumed.shards.view import NodeEcVolume
from volumed.storage.view import ReadNow, VolumeHandle

__all__ = ["CALL_TIMEOUT_S", "Link", "Node", "Shards", "SupervisorCalls", "View", "own_address"]

CALL_TIMEOUT_S = 30.0
"""Longest wait for the supervisor or a worker."""


class View(Protocol):
    """Finds volumes and needles without waiting (``volumed.storage.view.NodeView``)."""

    def locate(self, volume_id: int) -> VolumeHandle | None: ...

    def read_now(self, volume_id: int, key: int, read_deleted: bool = False) -> ReadNow: ...


class Link(Protocol):
    """One disk's worker (``volumed.bus.link.DiskLink``)."""

    def store(self, operation: bytes, done: Callable[[StoreResult], None], slab: Slab | None = None) -> None: ...

    def read(self, volume_id: int, key: int, flags: int = 0) -> asyncio.Future[memoryview]: ...

    def read_range(self, volume_id: int, generation: int, offset: int, length: int) -> asyncio.Future[memoryview]: ...

    def call(self, request: Call, timeout_s: float, slab: Slab | None = None) -> asyncio.Future[Any]: ...


class Shards(Protocol):
    """Needles of erasure coded volumes (``volumed.http.objects.front_shards.FrontShards``)."""

    def find(self, volume_id: int) -> NodeEcVolume | None: ...

    def read_now(self, volume: NodeEcVolume, key: int) -> Needle | None: ...

    async def read(
        self, volume: NodeEcVolume, key: int, cookie: int | None, *, afresh: bool = False
    ) -> StoredEcNeedle: ...

    async def read_data(self, stored: StoredEcNeedle, at: int, length: int) -> bytes: ...

    def distrust(self, stored: StoredEcNeedle) -> None: ...

    async def delete(self, volume: NodeEcVolume, key: int, cookie: int) -> int: ...


class SupervisorCalls(Protocol):
    """The supervisor (``volumed.bus.supervisor_link.SupervisorLink``)."""

    def call(self, request: Call, timeout_s: float) -> asyncio.Future[Any]: ...


class Node(Protocol):
    """Shared by all requests of one front."""

    @property
    def config(self) -> NodeConfig: ...

    @property
    def healthy(self) -> bool:
        """What ``/healthz`` says."""
        ...

    @property
    def access(self) -> Access:
        """Whom the node serves now: tokens and white list."""
        ...

    @property
    def view(self) -> View: ...

    @property
    def shards(self) -> Shards: ...

    @property
    def pool(self) -> BodyPool: ...

    @property
    def supervisor(self) -> SupervisorCalls: ...

    @property
    def peers(self) -> PeerClient: ...

    @property
    def metrics(self) -> FrontMetrics: ...

    @property
    def images(self) -> ImageService: ...

    @property
    def uploads(self) -> Budget | None:
        """Bytes of uploads in flight; None: unlimited. Likewise `downloads`."""
        ...

    @property
    def downloads(self) -> Budget | None: ...

    def link(self, disk_id: int) -> Link:
        """The link to one disk."""
        ...


def own_address(config: NodeConfig) -> str:
    """``ip:port`` under which the cluster knows this node."""
    return join_host_port(config.ip, config.port)
