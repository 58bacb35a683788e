"""Balanced accept: a front takes a connection only while none of its siblings holds fewer.

The kernel hands connections to whichever process asks first, which left to itself is often one and the same; writes are
batched best when clients are spread evenly. The counts are in the node table.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable

from volumed.nodetable import FrontRow, NodeTable

__all__ = ["Acceptor", "Adopt"]

_log = logging.getLogger(__name__)
_PER_WAKE_UP_MAX = 16
_YIELD_S = 0.001
_YIELDS_MAX = 5
"""After so many yields in a row the sibling is taken to be busy or hung."""
_SHORTAGE_S = 0.2
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Adopt = Callable[[socket.socket], Awaitable[object]]
"""Makes a connection of an accepted socket. When it raises `OSError`, the socket is closed."""


class Acceptor:
    """Accepts on one listening socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        table: NodeTable,
        row: FrontRow,
        connections_max: int,
        adopt: Adopt,
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._table = table
        self._row = row
        self._connections_max = connections_max
        self._adopt = adopt
        self._yields = 0
        self._pending: set[asyncio.Task[object]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._closed = False
        loop.add_reader(listener.fileno(), self._accept)

    def close(self) -> None:
        """Take no further connection; the socket stays open for the siblings."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._listener.fileno())
            if self._resume is not None:
                self._resume.cancel()

    def _accept(self) -> None:
        for _ in range(_PER_WAKE_UP_MAX):
            mine = self._row.connections
            if mine >= self._connections_max:
                self._pause(_SHORTAGE_S)
                return
            if self._yields < _YIELDS_MAX and mine > self._fewest():
                self._yields += 1
                self._pause(_YIELD_S)
                return
            self._yields = 0
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _SHORTAGES:
                    raise
                _log.error("accept: %s", error)
                self._pause(_SHORTAGE_S)
                return
            task = self._loop.create_task(self._take_over(connection))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    async def _take_over(self, connection: socket.socket) -> None:
        # A handshake may take a while; the siblings are to see it meanwhile.
        self._row.add_connections(1)
        try:
            await self._adopt(connection)
        except OSError as error:
            _log.info("lost a connection at once: %s", error)
            connection.close()
        finally:
            self._row.add_connections(-1)

    def _fewest(self) -> int:
        return min((row.connections for row in self._table.live_fronts()), default=0)

    def _pause(self, seconds: float) -> None:
        """Leave the socket to the siblings for a moment. Level-triggered as it is, it would wake us on and on."""
        self._loop.remove_reader(self._listener.fileno())
        self._resume = self._loop.call_later(seconds, self._listen)

    def _listen(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listener.fileno(), self._accept)
            self._accept()
