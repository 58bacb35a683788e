"""From an accepted socket to a TLS connection (http.md 1.6).

The first bytes are looked at without taking them: a client that speaks plain HTTP is told so. No handshake can hold up
another, and none may take longer than `HANDSHAKE_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from functools import partial

from volumed.security.tls import TlsContext

__all__ = ["TlsAdopter"]

_log = logging.getLogger(__name__)

HANDSHAKE_S = 10.0
_SHUTDOWN_S = 30.0
"""For the client to take what is left and to say goodbye."""
_QUIET_S = 10.0
"""After a line in the log about a failure there is none for so long."""

_HANDSHAKE_RECORD = b"\x16"
_PLAIN_STARTS = frozenset({b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"})
"""COMPAT: by what the reference recognises HTTP; all else is just closed."""
_START_BYTES = 5
_PLAIN_ANSWER = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
_DISCARD_BYTES = 64 << 10


class TlsAdopter:
    """Turns accepted sockets into connections; ``create`` and ``create_http2`` make their protocol objects."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tls: TlsContext,
        create: Callable[[], asyncio.Protocol],
        create_http2: Callable[[], asyncio.Protocol],
    ) -> None:
        self._loop = loop
        self._tls = tls
        self._create = partial(_Choice, create, create_http2)
        self._quiet_until = 0.0
        self._unlogged = 0

    async def adopt(self, connection: socket.socket) -> None:
        """Take over ``connection``, or close it."""
        peer = "?"
        try:
            connection.setblocking(False)
            peer = str(connection.getpeername()[0])
            async with asyncio.timeout(HANDSHAKE_S):
                start = await self._first_bytes(connection)
            if not start.startswith(_HANDSHAKE_RECORD):
                self._refuse(connection, start, peer)
                return
            await self._loop.connect_accepted_socket(
                self._create,
                connection,
                ssl=self._tls.current,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=_SHUTDOWN_S,
            )
        except OSError as error:
            connection.close()
            self._log(peer, str(error) or "timed out")

    async def _first_bytes(self, connection: socket.socket) -> bytes:
        """One byte if it opens a handshake, else as many as it takes to tell HTTP."""
        while True:
            await self._readable(connection)
            start = connection.recv(_START_BYTES, socket.MSG_PEEK)
            if len(start) in (0, _START_BYTES) or start.startswith(_HANDSHAKE_RECORD):
                return start
            # The socket stays readable while the bytes lie there.
            await asyncio.sleep(0.05)

    async def _readable(self, connection: socket.socket) -> None:
        ready = self._loop.create_future()
        self._loop.add_reader(connection.fileno(), _settle, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(connection.fileno())

    def _refuse(self, connection: socket.socket, start: bytes, peer: str) -> None:
        with connection, contextlib.suppress(OSError):
            # Closing with unread bytes resets the connection, and the answer might be lost.
            connection.recv(_DISCARD_BYTES)
            if start in _PLAIN_STARTS:
                connection.send(_PLAIN_ANSWER)
                connection.shutdown(socket.SHUT_WR)
        if start:
            self._log(peer, "plain HTTP" if start in _PLAIN_STARTS else "not a TLS handshake")

    def _log(self, peer: str, reason: str) -> None:
        now = self._loop.time()
        if now < self._quiet_until:
            self._unlogged += 1
            return
        more = f" (and {self._unlogged} more before)" if self._unlogged else ""
        _log.info("TLS handshake error from %s: %s%s", peer, reason, more)
        self._quiet_until = now + _QUIET_S
        self._unlogged = 0


class _Choice(asyncio.Protocol):
    """Stands in until the handshake has told which protocol is spoken."""

    def __init__(
        self, create: Callable[[], asyncio.Protocol], create_http2: Callable[[], asyncio.Protocol]
    ) -> None:
        self._create = create
        self._create_http2 = create_http2

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        agreed = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        protocol = self._create_http2() if agreed == "h2" else self._create()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
