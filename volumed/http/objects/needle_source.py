"""Needles for the handlers: from the page cache through the view, else through the disk's worker (http.md 3.3); from
shards when there is no such volume but an erasure coded one (erasure-coding.md 4.11).

A large needle is described first and read page by page afterwards. Its place is valid for one generation of the volume;
when that ends while pages are being read, or the volume is encoded or decoded, the needle is looked up again and
reading goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Protocol

from volumed.bus.frames import FLAG_META_ONLY, FLAG_READ_DELETED
from volumed.errors import (
    Corruption,
    CorruptNeedle,
    DiskUnavailable,
    NeedleDeleted,
    NeedleNotFound,
    StaleGeneration,
    VolumeClosed,
    VolumeNotFound,
)
from volumed.formats.checksum import crc32c, matches
from volumed.formats.fileid import format_key_cookie
from volumed.formats.needle import PAGED_HEAD_LENGTH, Buffer, Needle, decode_record
from volumed.http.objects.ec_needles import find_ec_needle
from volumed.http.objects.node import Node
from volumed.http.text.compression import is_gzip
from volumed.metrics.front import HandlerEvent
from volumed.storage.read_payload import ReadPayload, decode_payload, unpack_payload
from volumed.storage.view import Found, ReadNow

__all__ = ["StoredNeedle", "find_needle", "needle_at_hand"]

_MOVES_MAX = 8
"""How often a needle may move under the reader of one page."""
_MOVED = (StaleGeneration, VolumeClosed, VolumeNotFound)


class DataPages(Protocol):
    """Where the data of a large needle are read.

    `begin` and `page` raise one of `_MOVED` when they are not there any more.
    """

    async def begin(self, *, whole: bool) -> None:
        """Some data are going to be read, or all."""
        ...

    async def page(self, at: int, length: int) -> Buffer:
        """So many bytes of the data."""
        ...

    def distrust(self) -> None:
        """All data were read, and the checksum was wrong."""
        ...


class StoredNeedle:
    """A needle that was found. `needle.data` is complete unless `is_paged`."""

    __slots__ = ("_in_shards", "_node", "_pages", "data_size", "needle", "volume_id")

    def __init__(
        self,
        node: Node,
        volume_id: int,
        needle: Needle,
        pages: DataPages | None = None,
        data_size: int = 0,
        *,
        in_shards: bool = False,
    ) -> None:
        """With ``pages`` the data, of ``data_size`` bytes, are still to be read."""
        self._in_shards = in_shards
        self._node = node
        self._pages = pages
        self.volume_id = volume_id
        self.needle = needle
        self.data_size = len(needle.data) if pages is None else data_size

    def fits(self, cookie: int) -> bool:
        """Whether who names this cookie may have the needle."""
        # COMPAT: of an empty needle of a normal volume the reference reads no record, so that any cookie fits.
        return self.needle.cookie == cookie or not (self.needle.size or self._in_shards)

    @property
    def is_paged(self) -> bool:
        """Whether the data are still to be read."""
        return self._pages is not None

    async def load(self) -> None:
        """Read all data of a paged needle into `needle.data`. Raises `CorruptNeedle`."""
        if self.is_paged:
            pages = [page async for page in self.pages(0, self.data_size)]
            self.needle.data = b"".join(pages)
            self._pages = None

    async def starts_like_gzip(self) -> bool:
        """Whether the stored data do."""
        start = b"".join([bytes(page) async for page in self.pages(0, min(2, self.data_size))])
        return is_gzip(start)

    async def pages(self, start: int, length: int) -> AsyncGenerator[Buffer, None]:
        """``length`` bytes of the data from ``start``, in pages; in one piece if they are at hand.

        A read of everything is verified: the last page comes only when the checksum is right, else `CorruptNeedle` is
        raised in its place.
        """
        if self._pages is None:
            yield memoryview(self.needle.data)[start : start + max(0, length)]
            return
        end = start + length
        block = self._node.config.read_block_bytes
        checksum = 0
        whole = start == 0 and length == self.data_size
        pages = await self._begun(self._pages, whole=whole)
        while start < end:
            pages, page = await self._page(pages, start, min(block, end - start))
            start += len(page)
            if whole:
                checksum = crc32c(page, checksum)
                if start == end and not matches(checksum, self.needle.checksum):
                    self._node.metrics.corrupt_needle(Corruption.CRC)
                    pages.distrust()
                    name = format_key_cookie(self.needle.key, self.needle.cookie)
                    raise CorruptNeedle.paged_crc(checksum, self.needle.checksum, self.volume_id, name)
            yield page

    async def _begun(self, pages: DataPages, *, whole: bool) -> DataPages:
        try:
            await pages.begin(whole=whole)
        except _MOVED:
            return await self._find_again()
        return pages

    async def _page(self, pages: DataPages, at: int, length: int) -> tuple[DataPages, Buffer]:
        """A page from where the data are now, and this place."""
        for _ in range(_MOVES_MAX):
            try:
                return pages, await pages.page(at, length)
            except _MOVED:
                pages = await self._find_again()
        raise StaleGeneration(f"volume {self.volume_id} changes too fast")

    async def _find_again(self) -> DataPages:
        """Where the data are now that the volume was compacted, encoded or decoded; verified lately if in shards.

        Raises what `find_needle` raises, and `StaleGeneration` when there is another needle of the key.
        """
        needle = self.needle
        moved = await find_needle(self._node, self.volume_id, needle.key, needle.cookie)
        if not moved._has_same_data(self):
            name = format_key_cookie(needle.key, needle.cookie)
            raise StaleGeneration(f"volume {self.volume_id}: needle {name} was replaced")
        self._pages = moved._pages or _HeldPages(moved.needle.data)
        return self._pages

    def _has_same_data(self, other: StoredNeedle) -> bool:
        ours, theirs = self.needle, other.needle
        # Of data that are at hand the checksum is the calculated one, of others it may have the old masked form.
        same = matches(ours.checksum, theirs.checksum) or matches(theirs.checksum, ours.checksum)
        return same and ours.cookie == theirs.cookie and self.data_size == other.data_size


class _HeldPages:
    """The data of a needle that is at hand."""

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data)

    async def begin(self, *, whole: bool) -> None:
        """Nothing has to be prepared."""

    async def page(self, at: int, length: int) -> Buffer:
        return self._data[at : at + length]

    def distrust(self) -> None:
        """Nothing is remembered of it."""


class _DiskPages:
    """The data of a needle of a volume, whose record lies at ``payload.offset`` of one generation."""

    def __init__(self, node: Node, volume_id: int, disk_id: int, payload: ReadPayload) -> None:
        self._node = node
        self._volume_id = volume_id
        self._disk_id = disk_id
        self._generation = payload.generation
        self._offset = payload.offset

    async def begin(self, *, whole: bool) -> None:
        """Nothing has to be prepared."""

    async def page(self, at: int, length: int) -> Buffer:
        offset = self._offset + PAGED_HEAD_LENGTH + at
        handle = self._node.view.locate(self._volume_id)
        if handle is not None and handle.record.generation == self._generation and handle.files is not None:
            cached = handle.files.read(handle, offset, length)
            if cached is not None:
                return cached
        link = self._node.link(self._disk_id)
        page = await link.read_range(self._volume_id, self._generation, offset, length)
        if len(page) != length:
            raise CorruptNeedle.eof()
        return page

    def distrust(self) -> None:
        """Nothing is remembered of it."""


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


async def find_needle(
    node: Node, volume_id: int, key: int, cookie: int | None = None, *, read_deleted: bool = False
) -> StoredNeedle:
    """Find a needle of a local volume, normal or erasure coded. Whether ``cookie`` fits is for the caller to see.

    Raises `VolumeNotFound` when the volume is not here, `NeedleNotFound` also for one whose TTL has passed,
    `NeedleDeleted`, `CorruptNeedle`, and what the worker or the way to it raises.
    """
    try:
        stored = await _find(node, volume_id, key, read_deleted)
    except (VolumeNotFound, DiskUnavailable):
        found = await find_ec_needle(node, volume_id, key, cookie)
        if found is None:
            raise
        # COMPAT: the TTL of a needle in shards is not looked at.
        return StoredNeedle(node, volume_id, *found, in_shards=True)
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
    if now.found is Found.MISSING:
        raise NeedleNotFound
    if now.found is Found.DELETED:
        raise NeedleDeleted
    if now.found is Found.EMPTY:
        return StoredNeedle(node, volume_id, Needle(key=key))
    if needle := needle_at_hand(now, key):
        return StoredNeedle(node, volume_id, needle)
    return await _ask_worker(node, volume_id, now.handle.disk_id, key, read_deleted)


async def _ask_worker(node: Node, volume_id: int, disk_id: int, key: int, read_deleted: bool) -> StoredNeedle:
    flags = FLAG_META_ONLY | (FLAG_READ_DELETED if read_deleted else 0)
    payload = unpack_payload(await node.link(disk_id).read(volume_id, key, flags))
    if not payload.size:
        return StoredNeedle(node, volume_id, Needle(key=key))
    needle, head = decode_payload(payload)
    if head is None:
        return StoredNeedle(node, volume_id, needle)
    pages = _DiskPages(node, volume_id, disk_id, payload)
    return StoredNeedle(node, volume_id, needle, pages, head.data_size)
