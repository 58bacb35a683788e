"""A spool as its front sees it: data on their way to the worker of one disk (``volumed.bus.spool_calls``).

A piece is gathered in a slab of the body pool while the one before it is being written: two slabs for each spool, and
whoever writes faster than the disk waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator
from typing import Any

from volumed.bus.bodypool import BodyPool, Slab
from volumed.bus.frames import StoreOutcome, StoreResult
from volumed.bus.spool_calls import (
    SPOOL_BLOCK_BYTES_MAX,
    AppendSpool,
    CloseSpool,
    OpenSpool,
    ReadSpool,
    StoreSpool,
)
from volumed.errors import RetryError, VolumedError
from volumed.formats.checksum import crc32c
from volumed.formats.needle import Buffer, Needle, encode_body_frame
from volumed.http.objects.node import Link, Node
from volumed.storage.view import VolumeHandle

__all__ = ["Spool"]

_CALL_S = 60.0
_numbers = itertools.count(1)
_STORE_BYTES_PER_S = 8 << 20
"""A disk that copies more slowly is taken for one that hangs."""


class Spool:
    """Made by `open`. `write` all data, `finish`; then `put` and ``async for``, as often as wanted; `release` once.

    All but `put` raise what the disk raises, `DiskUnavailable` among it."""

    def __init__(self, link: Link, pool: BodyPool, disk_id: int) -> None:
        self._link = link
        self._pool = pool
        self._disk_id = disk_id
        self._spool_id = next(_numbers)
        self._slab: Slab | None = None
        self._filled = 0
        self._append: asyncio.Future[Any] | None = None
        self._length = 0
        self.checksum = 0
        """CRC-32C of what was written."""

    @classmethod
    async def open(cls, node: Node, disk_id: int, expected_bytes: int) -> Spool:
        """An empty spool on one disk."""
        spool = cls(node.link(disk_id), node.pool, disk_id)
        try:
            await spool._link.call(OpenSpool(spool._spool_id, expected_bytes), _CALL_S)
        except BaseException:
            spool.release()
            raise
        return spool

    def __len__(self) -> int:
        """Bytes written."""
        return self._length

    async def write(self, data: Buffer) -> None:
        """Append."""
        view = memoryview(data)
        self.checksum = crc32c(view, self.checksum)
        self._length += len(view)
        while view:
            if self._slab is None:
                self._slab = self._pool.allocate(SPOOL_BLOCK_BYTES_MAX)
            piece = view[: SPOOL_BLOCK_BYTES_MAX - self._filled]
            self._slab.data[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            view = view[len(piece) :]
            if self._filled == SPOOL_BLOCK_BYTES_MAX:
                await self._send()

    async def finish(self) -> None:
        """Everything was written; it is on its disk when this returns."""
        if self._filled:
            await self._send()
        await self._sent()

    async def _send(self) -> None:
        await self._sent()
        slab, self._slab = self._slab, None
        assert slab is not None
        try:
            piece = AppendSpool(self._spool_id, slab.offset, self._filled)
            self._append = self._link.call(piece, _CALL_S, slab)
        finally:
            self._filled = 0
            slab.release()

    async def _sent(self) -> None:
        append, self._append = self._append, None
        if append is not None:
            await append

    async def put(self, handle: VolumeHandle, volume_id: int, needle: Needle, flags: int) -> StoreResult:
        """Store the needle, whose data are what was written. What goes wrong is part of the result."""
        try:
            return await self._put(handle, volume_id, needle, flags)
        except VolumedError as error:
            return StoreResult(StoreOutcome.ERROR, 0, error)

    async def _put(self, handle: VolumeHandle, volume_id: int, needle: Needle, flags: int) -> StoreResult:
        if handle.disk_id != self._disk_id:
            raise RetryError(f"volume {volume_id} has moved to another disk")
        prefix, suffix = encode_body_frame(needle, self._length, handle.record.version)
        generation, checksum = handle.record.generation, needle.checksum
        call = StoreSpool(
            self._spool_id, volume_id, generation, needle.cookie, needle.key, checksum, prefix, suffix, flags
        )
        stored = await self._link.call(call, _CALL_S + self._length / _STORE_BYTES_PER_S)
        return StoreResult(stored.outcome, stored.size)

    async def __aiter__(self) -> AsyncGenerator[Buffer, None]:
        """What was written, in blocks."""
        for at in range(0, self._length, SPOOL_BLOCK_BYTES_MAX):
            block = ReadSpool(self._spool_id, at, min(SPOOL_BLOCK_BYTES_MAX, self._length - at))
            yield (await self._link.call(block, _CALL_S)).data

    def release(self) -> None:
        """Have it thrown away."""
        slab, self._slab = self._slab, None
        if slab is not None:
            slab.release()
        append, self._append = self._append, None
        if append is not None:
            append.add_done_callback(_forget)
        with contextlib.suppress(VolumedError):
            self._link.call(CloseSpool(self._spool_id), _CALL_S).add_done_callback(_forget)


def _forget(future: asyncio.Future[Any]) -> None:
    """How it ended does not matter; that nobody looked must not be logged."""
    if not future.cancelled():
        future.exception()
