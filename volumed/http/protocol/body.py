"""Request bodies as they arrive: buffered within bounds, collected on demand, or thrown away.

Theory of operation
    The connection feeds a body, a handler wants it. Until it is wanted only a little is kept and then the connection
    stops reading. `IncomingBody.read` then collects the rest: a large one of known length straight into a slab of the
    front's body pool, so that it crosses to the worker by reference. A very long one is taken in pieces (`receive`). A
    body over the limit is read and dropped, since a client that is still sending would not look at the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple, Protocol

from volumed.bus.bodypool import BodyPool, Slab
from volumed.bus.frames import SHARED_BODY_BYTES_MIN
from volumed.errors import ClientError
from volumed.formats.needle import Buffer

__all__ = [
    "NO_BODY",
    "SLAB_HEAD_ROOM",
    "SLAB_TAIL_ROOM",
    "BodyError",
    "BodySource",
    "BodyStream",
    "BodyTooLarge",
    "IncomingBody",
    "ReceivedBody",
    "receive",
]

SLAB_HEAD_ROOM = 4
"""Before the data of a needle body lies their length (docs/spec/storage.md 3.2)."""
SLAB_TAIL_ROOM = 1 + 2 * 256 + 5 + 2 + 2 + 0xFFFF
"""Behind them at most: flags, name, mime, last modified, TTL, pairs."""

_UNWANTED_BYTES_MAX = 256 << 10
"""What is kept of a body that nobody has asked for yet."""


class BodyError(ClientError):
    """The body did not arrive as announced."""


class BodyTooLarge(ClientError):
    """The body is longer than the caller takes; it was read to its end and dropped."""


class ReceivedBody:
    """A complete body. `release` it once when its bytes are not needed any more."""

    __slots__ = ("data", "slab")

    def __init__(self, data: Buffer, slab: Slab | None = None) -> None:
        self.data = data
        self.slab = slab
        """The pool memory that `data` lies in, if it does."""

    def release(self) -> None:
        if self.slab is not None:
            self.slab.release()
            self.slab = None
        self.data = b""


class BodyStream(NamedTuple):
    """A body that is too long to have all at once."""

    chunks: AsyncIterator[Buffer]
    """The body as it arrives; raises `BodyTooLarge`, or `BodyError` when it does not come."""
    length: int | None
    """In bytes, None = not known yet."""


class BodySource(Protocol):
    """Where a handler gets the body of its request from."""

    @property
    def length(self) -> int | None:
        """In bytes, None for one whose end is not known before it is there."""
        ...

    def chunks(self) -> AsyncIterator[Buffer]:
        """The body piece by piece, as it arrives. Raises `BodyError`."""
        ...

    async def read(self, limit_bytes: int) -> ReceivedBody:
        """The whole body. Raises `BodyTooLarge`, or `BodyError` when it does not come."""
        ...

    async def discard(self) -> None:
        """Read what is left and drop it; how it ends does not matter."""
        ...


async def receive(body: BodySource, whole_bytes_max: int, limit_bytes: int) -> ReceivedBody | BodyStream:
    """The whole body if it is no longer than ``whole_bytes_max``, else the way to read it.

    Raises what `BodySource.read` raises; at most ``limit_bytes`` are taken."""
    if body.length is not None and (body.length <= whole_bytes_max or body.length > limit_bytes):
        return await body.read(limit_bytes)
    chunks = body.chunks()
    if body.length is not None:
        return BodyStream(chunks, body.length)
    head: list[Buffer] = []
    size = 0
    async for chunk in chunks:
        head.append(chunk)
        size += len(chunk)
        if size > whole_bytes_max:
            return BodyStream(_joined(head, chunks, limit_bytes), None)
    return ReceivedBody(b"".join(head))


async def _joined(head: list[Buffer], rest: AsyncIterator[Buffer], limit_bytes: int) -> AsyncIterator[Buffer]:
    left = limit_bytes
    while head:
        left -= len(head[0])
        yield head.pop(0)
    async for chunk in rest:
        left -= len(chunk)
        if left < 0:
            raise BodyTooLarge("body too large")
        yield chunk


class IncomingBody:
    """A body on its way. `feed`, `finish` and `fail` are for the connection, the rest for one handler.

    ``on_wanted`` is called when a handler first asks (then `100 Continue` is due), ``on_level`` whenever the body may
    have come to hold too much, or no longer does (`is_full`).
    """

    __slots__ = (
        "_buffered",
        "_chunks",
        "_dropping",
        "_error",
        "_on_level",
        "_on_wanted",
        "_slab",
        "_waiter",
        "_wants_all",
        "complete",
        "length",
        "pool",
        "received",
        "wanted",
    )

    def __init__(
        self,
        length: int | None,
        pool: BodyPool | None,
        on_wanted: Callable[[], None],
        on_level: Callable[[], None],
    ) -> None:
        """``length`` in bytes, None for a chunked body."""
        self.length = length
        self.received = 0
        self.complete = length == 0
        self.wanted = False
        self.pool = pool
        self._on_wanted = on_wanted
        self._on_level = on_level
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._slab: Slab | None = None
        self._error: BodyError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._wants_all = False
        self._dropping = False

    # The connection's side

    @property
    def is_full(self) -> bool:
        """Whether no more may be fed for now."""
        return self._buffered > _UNWANTED_BYTES_MAX and not self._wants_all

    @property
    def is_awaited(self) -> bool:
        """Whether a handler waits for more of it."""
        return self._waiter is not None

    @property
    def has_ended(self) -> bool:
        """Whether no more will come: it is complete or has failed."""
        return self.complete or self._error is not None

    @property
    def missing(self) -> int | None:
        """Bytes that are still to come, None when unknown."""
        return None if self.length is None else self.length - self.received

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        at = self.received
        self.received += len(data)
        if self._dropping:
            return
        if self._slab is not None:
            self._slab.data[at : self.received] = data
            return
        self._chunks.append(data)
        self._buffered += len(data)
        if not self._wants_all:
            self._on_level()
        self._wake()

    def finish(self) -> None:
        """The body is complete."""
        self.complete = True
        self._wake()

    def fail(self, text: str) -> None:
        """The rest will not come."""
        if not self.complete and self._error is None:
            self._error = BodyError(text)
            self._wake()

    def take_all(self) -> bytes:
        """What has arrived of a complete small body, for a caller that does not wait."""
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = [data]
        return data

    def drop(self) -> None:
        """Nobody wants what is left."""
        self._dropping = True
        self._chunks.clear()
        self._buffered = 0
        if self._slab is not None:
            self._slab.release()
            self._slab = None
        self._on_level()

    # The handler's side

    async def read(self, limit_bytes: int) -> ReceivedBody:
        """The whole body. Raises `BodyTooLarge`, `BodyError`, and `RetryError` when there is no room for it."""
        self._want()
        if self.length is not None and self.length > limit_bytes:
            await self.discard()
            raise BodyTooLarge("body too large")
        self._wants_all = True
        if self.pool is not None and self.length is not None and self.length >= SHARED_BODY_BYTES_MIN:
            self._move_to_slab(self.pool.allocate(self.length, SLAB_HEAD_ROOM, SLAB_TAIL_ROOM))
        self._on_level()
        await self._collect(limit_bytes)
        slab, self._slab = self._slab, None
        return ReceivedBody(self.take_all()) if slab is None else ReceivedBody(slab.data, slab)

    async def discard(self) -> None:
        """Read what is left and drop it."""
        self._want()
        self.drop()
        while not self.complete and self._error is None:
            await self._wait()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body piece by piece, as it arrives. Raises `BodyError`."""
        self._want()
        while True:
            if self._chunks:
                data = b"".join(self._chunks)
                self._chunks.clear()
                self._buffered = 0
                self._on_level()
                yield data
            elif self.complete:
                return
            elif self._error is not None:
                raise self._error
            else:
                await self._wait()

    def _want(self) -> None:
        if not self.wanted:
            self.wanted = True
            if not self.complete:
                self._on_wanted()

    def _move_to_slab(self, slab: Slab) -> None:
        at = 0
        for chunk in self._chunks:
            slab.data[at : at + len(chunk)] = chunk
            at += len(chunk)
        self._chunks.clear()
        self._buffered = 0
        self._slab = slab

    async def _collect(self, limit_bytes: int) -> None:
        try:
            while not self.complete:
                if self._error is not None:
                    raise self._error
                if self._buffered > limit_bytes:
                    await self.discard()
                    raise BodyTooLarge("body too large")
                await self._wait()
            if self._buffered > limit_bytes:
                raise BodyTooLarge("body too large")
        except BaseException:
            self.drop()
            raise

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _nothing() -> None:
    pass


NO_BODY = IncomingBody(0, None, _nothing, _nothing)
"""Shared by all requests without one; it never changes (`want` aside)."""
