"""Needles for the handlers: from the page cache through the view, else through the disk's worker (http.md 3.3).

A large needle is described first and read page by page afterwards. Its place is valid for one generation of the volume;
when that ends while pages are being read, the needle is looked up again and reading goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from volumed.bus.frames import FLAG_META_ONLY, FLAG_READ_DELETED
from volumed.errors import Corruption, CorruptNeedle, NeedleDeleted, NeedleNotFound, StaleGeneration, VolumeNotFound
from volumed.formats.checksum import crc32c, matches
from volumed.formats.fileid import format_key_cookie
from volumed.formats.needle import PAGED_HEAD_LENGTH, Buffer, Needle, decode_record
from volumed.http.objects.node import Node
from volumed.http.text.compression import is_gzip
from volumed.metrics.front import HandlerEvent
from volumed.storage.read_payload import decode_payload, unpack_payload
from volumed.storage.view import Found, ReadNow

__all__ = ["StoredNeedle", "find_needle", "needle_at_hand"]

_MOVES_MAX = 8
"""How often a volume may be compacted under one reader."""


class StoredNeedle:
    """A needle that was found. `needle.data` is complete unless `is_paged`."""

    __slots__ = ("_generation", "_node", "_offset", "data_size", "disk_id", "is_paged", "needle", "volume_id")

    def __init__(self, node: Node, volume_id: int, disk_id: int, needle: Needle) -> None:
        self._node = node
        self.volume_id = volume_id
        self.disk_id = disk_id
        self.needle = needle
        self.data_size = len(needle.data)
        self.is_paged = False
        self._generation = 0
        self._offset = 0

    @classmethod
    def paged(
        cls, node: Node, volume_id: int, disk_id: int, needle: Needle, generation: int, offset: int, data_size: int
    ) -> StoredNeedle:
        """One whose data are still on disk; ``offset`` is that of the record."""
        stored = cls(node, volume_id, disk_id, needle)
        stored.is_paged = True
        stored.data_size = data_size
        stored._generation = generation
        stored._offset = offset
        return stored

    async def load(self) -> None:
        """Read all data of a paged needle into `needle.data`. Raises `CorruptNeedle`."""
        if self.is_paged:
            pages = [page async for page in self.pages(0, self.data_size)]
            self.needle.data = b"".join(pages)
            self.is_paged = False

    async def starts_like_gzip(self) -> bool:
        """Whether the stored data do."""
        start = b"".join([bytes(page) async for page in self.pages(0, min(2, self.data_size))])
        return is_gzip(start)

    async def pages(self, start: int, length: int) -> AsyncGenerator[Buffer, None]:
        """``length`` bytes of the data from ``start``, in pages; in one piece if they are at hand.

        A read of everything is verified: the last page comes only when the checksum is right, else `CorruptNeedle` is
        raised in its place.
        """
        if not self.is_paged:
            yield memoryview(self.needle.data)[start : start + max(0, length)]
            return
        end = start + length
        block = self._node.config.read_block_bytes
        checksum = 0
        whole = start == 0 and length == self.data_size
        while start < end:
            page = await self._page(start, min(block, end - start))
            start += len(page)
            if whole:
                checksum = crc32c(page, checksum)
                if start == end and not matches(checksum, self.needle.checksum):
                    self._node.metrics.corrupt_needle(Corruption.CRC)
                    name = format_key_cookie(self.needle.key, self.needle.cookie)
                    raise CorruptNeedle.paged_crc(checksum, self.needle.checksum, self.volume_id, name)
            yield page

    async def _page(self, at: int, length: int) -> Buffer:
        for _ in range(_MOVES_MAX):
            offset = self._offset + PAGED_HEAD_LENGTH + at
            handle = self._node.view.locate(self.volume_id)
            if handle is not None and handle.record.generation == self._generation and handle.files is not None:
                cached = handle.files.read(handle, offset, length)
                if cached is not None:
                    return cached
            try:
                link = self._node.link(self.disk_id)
                page = await link.read_range(self.volume_id, self._generation, offset, length)
            except StaleGeneration:
                await self._find_again()
                continue
            if len(page) != length:
                raise CorruptNeedle.eof()
            return page
        raise StaleGeneration(f"volume {self.volume_id} changes too fast")

    async def _find_again(self) -> None:
        moved = await find_needle(self._node, self.volume_id, self.needle.key)
        ours = (self.needle.cookie, self.needle.checksum, self.data_size)
        if not moved.is_paged or (moved.needle.cookie, moved.needle.checksum, moved.data_size) != ours:
            raise NeedleDeleted
        self.disk_id, self._generation, self._offset = moved.disk_id, moved._generation, moved._offset


def needle_at_hand(found: ReadNow, key: int) -> Needle | None:
    """The needle of a record that was read without waiting; None when it cannot be trusted, then the worker decides."""
    handle = found.handle
    if found.found is not Found.RECORD or handle is None:
        return None
    try:
        needle = decode_record(memoryview(found.record), handle.record.version, found.size, found.offset)
    except CorruptNeedle:
        return None
    return needle if needle.key == key else None


async def find_needle(node: Node, volume_id: int, key: int, *, read_deleted: bool = False) -> StoredNeedle:
    """Find a needle of a local volume. Its cookie is not compared.

    Raises `VolumeNotFound` when the volume is not here, `NeedleNotFound` also for one whose TTL has passed,
    `NeedleDeleted`, `CorruptNeedle`, and what the worker or the way to it raises.
    """
    try:
        stored = await _find(node, volume_id, key, read_deleted)
    except CorruptNeedle as error:
        node.metrics.corrupt_needle(error.kind)
        raise
    if stored.needle.is_expired(time.time_ns()):
        raise NeedleNotFound
    return stored


async def _find(node: Node, volume_id: int, key: int, read_deleted: bool) -> StoredNeedle:
    if read_deleted and node.view.read_now(volume_id, key).found is Found.DELETED:
        node.metrics.happened(HandlerEvent.READ_DELETED)
    now = node.view.read_now(volume_id, key, read_deleted)
    if now.handle is None:
        raise VolumeNotFound.of(volume_id)
    disk_id = now.handle.disk_id
    if now.found is Found.MISSING:
        raise NeedleNotFound
    if now.found is Found.DELETED:
        raise NeedleDeleted
    if now.found is Found.EMPTY:
        return StoredNeedle(node, volume_id, disk_id, Needle(key=key))
    if needle := needle_at_hand(now, key):
        return StoredNeedle(node, volume_id, disk_id, needle)
    return await _ask_worker(node, volume_id, disk_id, key, read_deleted)


async def _ask_worker(node: Node, volume_id: int, disk_id: int, key: int, read_deleted: bool) -> StoredNeedle:
    flags = FLAG_META_ONLY | (FLAG_READ_DELETED if read_deleted else 0)
    payload = unpack_payload(await node.link(disk_id).read(volume_id, key, flags))
    if not payload.size:
        return StoredNeedle(node, volume_id, disk_id, Needle(key=key))
    needle, head = decode_payload(payload)
    if head is None:
        return StoredNeedle(node, volume_id, disk_id, needle)
    return StoredNeedle.paged(
        node, volume_id, disk_id, needle, payload.generation, payload.offset, head.data_size
    )
