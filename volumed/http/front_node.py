"""The node as one running front sees it: everything that a handler may reach."""

from __future__ import annotations

import asyncio
import os

from volumed.bus.bodypool import BodyPool
from volumed.bus.link import DiskLink
from volumed.bus.supervisor_link import SupervisorLink
from volumed.config.node import NodeConfig
from volumed.http.objects.front_shards import FrontShards, LoopCalls
from volumed.http.objects.peer import PeerClient
from volumed.http.objects.throttle import Throttle
from volumed.images.service import ImageService
from volumed.metrics.front import FrontMetrics
from volumed.nodetable import NodeTable
from volumed.security.access import Access, AccessView
from volumed.security.tls import TlsContext
from volumed.shards.node import NodeShards
from volumed.storage.view import NodeView

__all__ = ["FrontNode"]


class FrontNode:
    """Opened after the fork, on the front's loop. Implements `volumed.http.objects.node.Node`."""

    def __init__(
        self,
        config: NodeConfig,
        table: NodeTable,
        loop: asyncio.AbstractEventLoop,
        metrics: FrontMetrics,
        throttle: Throttle,
        tls: TlsContext | None,
    ) -> None:
        """``tls`` is for connections to other servers."""
        self.config = config
        self.metrics = metrics
        self.uploads = throttle.uploads
        self.downloads = throttle.downloads
        self.view = NodeView(config, table)
        self.pool = BodyPool(config.body_pool_path(os.getpid()))
        self.supervisor = SupervisorLink(loop, config)
        self.peers = PeerClient(config.bind_ip, tls)
        self.images = ImageService()
        self._table = table
        self._access = AccessView(table, config.runtime_dir)
        self._links = [DiskLink(loop, config, table, disk.disk_id, self.pool) for disk in config.disks]
        calls = LoopCalls(loop, self.supervisor, self.link)
        self.shards = FrontShards(NodeShards(config, self.view, calls, metrics))

    @property
    def healthy(self) -> bool:
        return self._table.healthy

    @property
    def access(self) -> Access:
        return self._access.current

    def link(self, disk_id: int) -> DiskLink:
        return self._links[disk_id]

    def close(self) -> None:
        """Fail what waits and let go of everything."""
        for link in self._links:
            link.close()
        self.supervisor.close()
        self.peers.close()
        self.images.close()
        self.view.close()
        self.pool.close()
