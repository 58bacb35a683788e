"""Needles of erasure coded volumes as the handlers know needles (erasure-coding.md 4.11)."""

from __future__ import annotations

from typing import NamedTuple

from volumed.errors import CorruptNeedle
from volumed.formats.needle import Buffer, Needle
from volumed.http.objects.node import Node, Shards
from volumed.shards.reader import StoredEcNeedle

__all__ = ["EcPages", "FoundEcNeedle", "find_ec_needle"]


class EcPages:
    """The data of a long needle."""

    def __init__(self, shards: Shards, stored: StoredEcNeedle) -> None:
        self._shards = shards
        self._stored = stored

    async def begin(self, *, whole: bool) -> None:
        """What is sent as a whole is verified at that time."""
        stored = self._stored
        if whole and not stored.is_fresh:
            self._stored = await self._shards.read(stored.volume, stored.needle.key, None, afresh=True)

    async def page(self, at: int, length: int) -> Buffer:
        """So many bytes of the data."""
        return await self._shards.read_data(self._stored, at, length)

    def distrust(self) -> None:
        """All data were read, and the checksum was wrong."""
        self._shards.distrust(self._stored)


class FoundEcNeedle(NamedTuple):
    """Without ``pages`` the needle has its data."""

    needle: Needle
    pages: EcPages | None
    data_size: int


async def find_ec_needle(node: Node, volume_id: int, key: int, cookie: int | None) -> FoundEcNeedle | None:
    """None when no such volume is mounted. Raises what `EcReader.read` raises."""
    shards = node.shards
    volume = shards.find(volume_id)
    if volume is None:
        return None
    needle = shards.read_now(volume, key)
    if needle is not None and cookie in (None, needle.cookie):
        return FoundEcNeedle(needle, None, len(needle.data))
    try:
        stored = await shards.read(volume, key, cookie)
    except CorruptNeedle as error:
        node.metrics.corrupt_needle(error.kind)
        raise
    pages = EcPages(shards, stored) if stored.is_long else None
    return FoundEcNeedle(stored.needle, pages, stored.data_size)
