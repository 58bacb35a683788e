"""Needles of erasure coded volumes as the handlers know needles (erasure-coding.md 4.11)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from volumed.erasure.errors import EcReadFailed
from volumed.errors import CorruptNeedle, DiskUnavailable, RetryError, StaleGeneration
from volumed.formats.needle import Buffer, Needle
from volumed.http.objects.node import Node
from volumed.shards.reader import StoredEcNeedle

__all__ = ["EcPages", "FoundEcNeedle", "find_ec_needle"]


class EcPages:
    """The data of a long needle."""

    def __init__(self, node: Node, stored: StoredEcNeedle) -> None:
        self._node = node
        self._stored = stored

    async def begin(self, *, whole: bool) -> None:
        """What is sent as a whole is verified at that time."""
        stored = self._stored
        if whole and not stored.is_fresh:
            with self._or_decoded():
                self._stored = await self._node.shards.read(stored.volume, stored.needle.key, None, afresh=True)

    async def page(self, at: int, length: int) -> Buffer:
        """So many bytes of the data."""
        if self._node.shards.find(self._stored.volume.volume_id) is None:
            self._require_no_volume()
        with self._or_decoded():
            return await self._node.shards.read_data(self._stored, at, length)

    def distrust(self) -> None:
        """All data were read, and the checksum was wrong."""
        self._node.shards.distrust(self._stored)

    @contextmanager
    def _or_decoded(self) -> Iterator[None]:
        """What cannot be read from shards is perhaps in a volume now."""
        try:
            yield
        except (EcReadFailed, RetryError):
            self._require_no_volume()
            raise

    def _require_no_volume(self) -> None:
        """Raises `StaleGeneration` when there is a normal volume, which readers prefer."""
        volume_id = self._stored.volume.volume_id
        with suppress(DiskUnavailable):
            if self._node.view.locate(volume_id) is not None:
                raise StaleGeneration(f"ec volume {volume_id} was decoded")


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
    pages = EcPages(node, stored) if stored.is_long else None
    return FoundEcNeedle(stored.needle, pages, stored.data_size)
