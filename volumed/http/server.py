"""One running front: connections, handlers, housekeeping and the graceful stop (http.md 1, 11)."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import perf_counter

from volumed.bus.bodypool import BodyPool
from volumed.config.node import NodeConfig
from volumed.http.front_node import FrontNode
from volumed.http.handlers.lane import NeedleLane
from volumed.http.handlers.store import handle_store
from volumed.http.objects.background import unfinished
from volumed.http.objects.node import Node
from volumed.http.objects.throttle import Throttle
from volumed.http.pages.app import create_app
from volumed.http.pages.bridge import run_application
from volumed.http.pages.routes import is_page
from volumed.http.protocol.accept import Acceptor, Adopt
from volumed.http.protocol.connection import Connection
from volumed.http.protocol.exchange import Exchange
from volumed.http.protocol.head import server_name
from volumed.http.protocol.host import Handler
from volumed.http.protocol.http2 import Http2Connection
from volumed.http.protocol.tls_accept import TlsAdopter
from volumed.metrics.front import FrontMetrics
from volumed.nodetable import FrontRow, NodeTable
from volumed.open_files import OpenFiles, open_files_limit
from volumed.security.followed import follow_files, refresh_interval_s
from volumed.security.tls import NodeTls

__all__ = ["FrontServer", "NodeHandler", "sweep_all"]

_log = logging.getLogger(__name__)
_ADMIN_STOP_S = 30.0
_PUBLIC_STOP_S = 300.0
_SWEEPS_PER_TIMEOUT = 4
_FAILED = 500
"""What the connection answers when a handler failed."""
_CLIENT_GONE = 499


class NodeHandler:
    """Sends each request to the lane, the handlers or the framework; `volumed.http.protocol.connection.Handler`."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lane = NeedleLane(node, server_name(node.config.offset_width)) if node.config.needle_lane else None
        self._app = create_app(node)

    def answer_now(self, exchange: Exchange) -> bool:
        return self._lane is not None and self._lane.try_answer(exchange)

    async def answer(self, exchange: Exchange) -> None:
        request = exchange.request
        if is_page(request.path, self._node.config, public=exchange.public):
            await run_application(self._app, exchange)
            return
        with _counted(exchange, self._node.metrics):
            if self._lane is None:
                await run_application(self._app, exchange)
            else:
                await exchange.send(await handle_store(request, exchange.body, self._node, public=exchange.public))


@contextmanager
def _counted(exchange: Exchange, metrics: FrontMetrics) -> Iterator[None]:
    """Count a request of the store handlers, whatever becomes of it."""
    method, public = exchange.request.method, exchange.public
    began_s = perf_counter()
    unanswered = _FAILED
    if not public:
        metrics.request_began(method)
    try:
        yield
    except asyncio.CancelledError:
        unanswered = _CLIENT_GONE
        raise
    finally:
        if not public:
            metrics.request_over(method)
        metrics.answered(method, exchange.status or unanswered, began_s, public=public)


class FrontServer:
    """Everything of one front process that lives on its loop. `volumed.http.protocol.connection.Host`."""

    handler: Handler

    def __init__(
        self,
        config: NodeConfig,
        table: NodeTable,
        row: FrontRow,
        loop: asyncio.AbstractEventLoop,
        metrics: FrontMetrics,
        throttle: Throttle,
        tls: NodeTls,
    ) -> None:
        self.loop = loop
        self.clock: Callable[[], float] = loop.time
        self.idle_timeout_s = config.idle_timeout_s
        self.server_name = server_name(config.offset_width)
        self.stopping = False
        self.limits_uploads = throttle.uploads is not None
        self._table = table
        self._row = row
        self._connections_max = OpenFiles.within(open_files_limit(), len(config.disks)).connections
        for context in tls.contexts:
            context.refresh()
        self._tls = tls.server
        self._node = FrontNode(config, table, loop, metrics, throttle, tls.client)
        self.pool: BodyPool | None = self._node.pool
        self.handler = NodeHandler(self._node)
        self._connections: set[Connection | Http2Connection] = set()
        self._acceptors: list[Acceptor] = []
        self._all_closed = asyncio.Event()
        self._sweeper = loop.create_task(self._sweep())
        self._follower = loop.create_task(follow_files(tls.contexts, refresh_interval_s(os.environ)))

    def listen(self, listener: socket.socket, *, public: bool) -> None:
        """Accept on a listening socket. The public one is always plain (http.md 1.6)."""
        create = partial(Connection, self, public=public)
        adopt: Adopt = partial(self.loop.connect_accepted_socket, create)
        if self._tls is not None and not public:
            adopt = TlsAdopter(self.loop, self._tls, create, partial(Http2Connection, self)).adopt
        acceptor = Acceptor(self.loop, listener, self._table, self._row, self._connections_max, adopt)
        self._acceptors.append(acceptor)

    def opened(self, connection: asyncio.Protocol) -> None:
        assert isinstance(connection, Connection | Http2Connection)
        self._connections.add(connection)
        self._row.add_connections(1)

    def closed(self, connection: asyncio.Protocol) -> None:
        assert isinstance(connection, Connection | Http2Connection)
        self._connections.discard(connection)
        self._row.add_connections(-1)
        if not self._connections:
            self._all_closed.set()

    async def stop(self) -> None:
        """Stop accepting, close idle connections, let the others finish within their time."""
        self.stopping = True
        for acceptor in self._acceptors:
            acceptor.close()
        for connection in list(self._connections):
            connection.close_if_idle()
        await self._wait_closed(_ADMIN_STOP_S)
        for connection in list(self._connections):
            if not connection.public:
                connection.abort()
        await self._wait_closed(_PUBLIC_STOP_S - _ADMIN_STOP_S)
        for connection in list(self._connections):
            connection.abort()
        if work := unfinished():
            await asyncio.wait(work, timeout=_ADMIN_STOP_S)
        self._sweeper.cancel()
        self._follower.cancel()
        self._node.close()

    async def _wait_closed(self, seconds: float) -> None:
        if self._connections:
            self._all_closed.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._all_closed.wait()
            except TimeoutError:
                _log.warning("%d connections are still busy", len(self._connections))

    async def _sweep(self) -> None:
        """One timer for all connections."""
        pause_s = 1.0 if self.idle_timeout_s <= 0 else min(1.0, self.idle_timeout_s / _SWEEPS_PER_TIMEOUT)
        while True:
            await asyncio.sleep(pause_s)
            sweep_all(list(self._connections), self.clock())


def sweep_all(connections: Sequence[Connection | Http2Connection], now_s: float) -> None:
    """Have connections end what has been idle for too long. One that fails costs itself and not the timer of all."""
    for connection in connections:
        try:
            connection.sweep(now_s)
        except Exception:
            _log.exception("a connection could not be swept")
            connection.abort()
