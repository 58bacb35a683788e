"""The decompressed data of a needle that is stored compressed, read piece by piece (http.md 3.7).

How long they are is only known when all of them were decompressed once, so a reader needs two passes: one that counts,
and one for the bytes. Neither keeps more than a page. The work is done in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from volumed.formats.needle import Buffer
from volumed.http.objects.needle_source import StoredNeedle
from volumed.http.text.compression import GunzipStream, NotGzip

__all__ = ["GunzippedNeedle"]


class GunzippedNeedle:
    """Reading raises what reading the needle does."""

    def __init__(self, stored: StoredNeedle) -> None:
        self._stored = stored

    async def size(self) -> int:
        """Length in bytes; 0 when the data cannot be decompressed (COMPAT: they are sent as nothing).

        Raises `DecompressedTooLarge`."""
        stream = GunzipStream()
        size = 0
        try:
            async with contextlib.aclosing(self._stored.pages(0, self._stored.data_size)) as pages:
                async for page in pages:
                    size += await asyncio.to_thread(_count, stream, page)
        except NotGzip:
            return 0
        return size if stream.complete else 0

    async def read(self, start: int, length: int) -> AsyncGenerator[Buffer, None]:
        """A range of what `size` has counted."""
        if not length:
            return
        at = 0
        async with contextlib.aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                first, last = max(0, start - at), min(len(piece), start + length - at)
                if first < last:
                    yield memoryview(piece)[first:last]
                at += len(piece)
                if at >= start + length:
                    return

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        stream = GunzipStream()
        async with contextlib.aclosing(self._stored.pages(0, self._stored.data_size)) as pages:
            async for page in pages:
                pieces = stream.feed(page)
                while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                    yield piece


def _count(stream: GunzipStream, page: Buffer) -> int:
    return sum(map(len, stream.feed(page)))
