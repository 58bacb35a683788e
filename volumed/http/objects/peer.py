"""A small HTTP/1.1 client for other servers of the cluster: replicas, chunk holders, proxied reads.

With a `TlsContext` it speaks HTTPS. Connections are kept for a while and used again; a request that dies with a kept
connection before any answer is sent once more on a fresh one. Times and texts: docs/spec/http.md 1.6, 3.2 and 4.7.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from volumed.errors import RetryError
from volumed.formats.needle import Buffer
from volumed.http.protocol.message import Headers
from volumed.security.tls import TlsContext

__all__ = ["PeerClient", "PeerError", "PeerResponse", "SizedStream"]

_DIAL_TIMEOUT_S = 10.0
_HEAD_TIMEOUT_S = 30.0
_STORED_BYTES_PER_S = 8 << 20
_BODY_TIMEOUT_S = 60.0
_HEAD_BYTES_MAX = 1 << 20
_READ_BYTES = 256 << 10
_IDLE_S = 30.0
_IDLE_PER_PEER_MAX = 32
_NO_BODY_STATUSES = frozenset({204, 304})


class SizedStream(Protocol):
    """A long part of a request's body: its length, and its pieces as often as it is sent."""

    def __len__(self) -> int: ...

    def __aiter__(self) -> AsyncIterator[Buffer]: ...


class PeerError(RetryError):
    """The other server could not be reached or did not answer properly."""


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since: float


class PeerResponse:
    """Status and headers of an answer; read its body to the end or `close` it."""

    def __init__(self, client: PeerClient, address: str, connection: _Connection, method: str, head: bytes) -> None:
        self._client = client
        self._address = address
        self._connection = connection
        self._done = False
        first, *lines = head.split(b"\r\n")
        version, status, *_ = first.split(b" ", 2)
        self.status = int(status)
        self.headers: Headers = []
        for line in lines:
            name, colon, value = line.partition(b":")
            if colon:
                self.headers.append((name, value.strip(b" \t")))
        fields = {name.lower(): value for name, value in reversed(self.headers)}
        self._keep_alive = version == b"HTTP/1.1" and fields.get(b"connection", b"").lower() != b"close"
        self._chunked = fields.get(b"transfer-encoding", b"").lower() == b"chunked"
        length = fields.get(b"content-length")
        self.content_length: int | None = None
        if method == "HEAD" or self.status in _NO_BODY_STATUSES:
            self._chunked, self.content_length = False, 0
        elif not self._chunked and length is not None:
            self.content_length = int(length)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body in pieces. Raises `PeerError` when it ends early."""
        try:
            async with contextlib.aclosing(self._pieces()) as pieces:
                async for piece in pieces:
                    yield piece
            self._finish()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            raise PeerError(str(error) or type(error).__name__) from error
        finally:
            self.close()

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body. Raises `PeerError`, also when it is longer than ``limit_bytes``."""
        parts: list[bytes] = []
        size = 0
        async with contextlib.aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit_bytes:
                    raise PeerError(f"answer over {limit_bytes} bytes")
                parts.append(chunk)
        return b"".join(parts)

    def close(self) -> None:
        """Give the connection up, unless the body was read to its end."""
        if not self._done:
            self._done = True
            self._connection.writer.close()

    def _finish(self) -> None:
        if self._keep_alive and not self._done and (self._chunked or self.content_length is not None):
            self._done = True
            self._client.keep(self._address, self._connection)

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        if self._chunked:
            while length := int((await self._line()).partition(b";")[0], 16):
                async for piece in self._exactly(length):
                    yield piece
                await self._line()
            while await self._line():
                pass
        elif self.content_length is not None:
            async for piece in self._exactly(self.content_length):
                yield piece
        else:
            while piece := await self._some(_READ_BYTES):
                yield piece

    async def _exactly(self, length: int) -> AsyncGenerator[bytes, None]:
        while length:
            piece = await self._some(min(length, _READ_BYTES))
            if not piece:
                raise asyncio.IncompleteReadError(b"", length)
            length -= len(piece)
            yield piece

    async def _some(self, length: int) -> bytes:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            return await self._connection.reader.read(length)

    async def _line(self) -> bytes:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            return (await self._connection.reader.readuntil(b"\r\n"))[:-2]


async def _pieces(body: Sequence[Buffer | SizedStream]) -> AsyncGenerator[Buffer, None]:
    for part in body:
        if isinstance(part, bytes | bytearray | memoryview):
            yield part
        else:
            async for piece in part:
                yield piece


class PeerClient:
    """One per front; used on its loop."""

    def __init__(self, bind_ip: str = "", tls: TlsContext | None = None) -> None:
        """``bind_ip`` is the source address of connections, empty = the system's choice."""
        self._tls = tls
        self.scheme = "https" if tls is not None else "http"
        self._local = (bind_ip, 0) if bind_ip not in ("", "0.0.0.0", "::") else None
        self._idle: defaultdict[str, deque[_Connection]] = defaultdict(deque)

    async def request(
        self,
        method: str,
        address: str,
        target: bytes,
        headers: Headers = [],  # noqa: B006
        body: Sequence[Buffer | SizedStream] = (),
    ) -> PeerResponse:
        """Send a request to ``host:port`` and wait for the head of the answer. Raises `PeerError`."""
        lines = [f"{method} ".encode(), target, b" HTTP/1.1\r\nHost: ", address.encode(), b"\r\n"]
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
        if body or method in ("POST", "PUT"):
            lines.append(b"Content-Length: %d\r\n" % sum(map(len, body)))
        head = b"".join((*lines, b"\r\n"))
        kept = self._take_idle(address)
        if kept is not None:
            try:
                return await self._exchange(method, address, kept, head, body)
            except PeerError as error:
                if not isinstance(error.__cause__, ConnectionError | asyncio.IncompleteReadError):
                    raise
        return await self._exchange(method, address, await self._dial(address), head, body)

    def keep(self, address: str, connection: _Connection) -> None:
        """Keep a connection whose last answer was read whole."""
        idle = self._idle[address]
        idle.append(connection._replace(idle_since=asyncio.get_running_loop().time()))
        if len(idle) > _IDLE_PER_PEER_MAX:
            idle.popleft().writer.close()

    def close(self) -> None:
        """Close the kept connections."""
        for idle in self._idle.values():
            for connection in idle:
                connection.writer.close()
        self._idle.clear()

    def _take_idle(self, address: str) -> _Connection | None:
        oldest = asyncio.get_running_loop().time() - _IDLE_S
        idle = self._idle.get(address)
        while idle:
            connection = idle.pop()
            if connection.idle_since > oldest and not connection.reader.at_eof():
                return connection
            connection.writer.close()
        self._idle.pop(address, None)
        return None

    async def _dial(self, address: str) -> _Connection:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        context = None if self._tls is None else self._tls.current
        try:
            async with asyncio.timeout(_DIAL_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(
                    host, int(port), local_addr=self._local, limit=_HEAD_BYTES_MAX, ssl=context
                )
        except ConnectionRefusedError:
            raise PeerError(f"dial tcp {address}: connect: connection refused") from None
        except TimeoutError:
            raise PeerError(f"dial tcp {address}: i/o timeout") from None
        except (OSError, ValueError) as error:
            raise PeerError(f"dial tcp {address}: {error}") from None
        return _Connection(reader, writer, 0.0)

    async def _exchange(
        self, method: str, address: str, connection: _Connection, head: bytes, body: Sequence[Buffer | SizedStream]
    ) -> PeerResponse:
        reader, writer = connection.reader, connection.writer
        try:
            writer.write(head)
            async for piece in _pieces(body):
                writer.write(piece)
                async with asyncio.timeout(_BODY_TIMEOUT_S):
                    await writer.drain()
            # DEVIATE: the reference waits 30 s for any answer; an object of a gigabyte takes a slow disk longer.
            async with asyncio.timeout(_HEAD_TIMEOUT_S + sum(map(len, body)) / _STORED_BYTES_PER_S):
                answer = await reader.readuntil(b"\r\n\r\n")
                while answer[9:12] == b"100":
                    answer = await reader.readuntil(b"\r\n\r\n")
            return PeerResponse(self, address, connection, method, answer[:-4])
        except BaseException as error:
            writer.close()
            if isinstance(error, asyncio.IncompleteReadError):
                raise PeerError("EOF") from error
            if isinstance(error, OSError | asyncio.LimitOverrunError | ValueError):
                raise PeerError(str(error) or type(error).__name__) from error
            raise
