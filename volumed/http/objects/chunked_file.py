"""Files stored as several needles, read chunk by chunk (http.md 3.8)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator
from typing import NamedTuple

from volumed.bus.calls import Location, LookupVolume
from volumed.errors import ClientError, FormatError, NeedleDeleted, NeedleNotFound, VolumedError, VolumeNotFound
from volumed.formats.fileid import parse_key_cookie, parse_volume_id
from volumed.formats.needle import Buffer
from volumed.http.objects.gunzipped import GunzippedNeedle
from volumed.http.objects.needle_source import StoredNeedle, find_needle
from volumed.http.objects.node import CALL_TIMEOUT_S, Node, own_address
from volumed.http.objects.peer import PeerError
from volumed.http.rules.authorization import self_signed
from volumed.http.rules.manifest import MANIFEST_BYTES_MAX, ChunkManifest, ChunkSlice, map_range, read_manifest
from volumed.http.text.paths import parse_read_path
from volumed.http.text.ranges import ByteRange

__all__ = ["ChunkError", "ChunkedFile"]

_LOCATIONS_MAX_AGE_S = 600.0
_DEPTH_MAX = 8


class ChunkError(ClientError):
    """A chunk cannot be read; answered 500 as text while nothing was sent."""


class _ChunkId(NamedTuple):
    """Where to look for a chunk."""

    volume_id: int
    key: int
    cookie: int
    path: bytes
    """At another server."""


class ChunkedFile:
    """The expanded file of a manifest."""

    def __init__(self, node: Node, manifest: ChunkManifest, depth: int = 0) -> None:
        """``depth``: how many manifests this one is inside of."""
        self._node = node
        self._manifest = manifest
        self._depth = depth

    async def read(self, wanted: ByteRange) -> AsyncGenerator[Buffer, None]:
        """A range of the file. Raises `ChunkError`."""
        for part in map_range(self._manifest, wanted):
            async with contextlib.aclosing(self._read_chunk(part)) as pieces:
                left = part.length
                async for piece in pieces:
                    left -= len(piece)
                    yield piece
            if left:
                raise ChunkError("EOF")

    async def _read_chunk(self, part: ChunkSlice) -> AsyncGenerator[Buffer, None]:
        fid = self._parse_id(part.fid)
        try:
            stored = await find_needle(self._node, fid.volume_id, fid.key, fid.cookie)
        except VolumeNotFound:
            async for piece in self._fetch(fid, part):
                yield piece
            return
        except (NeedleNotFound, NeedleDeleted):
            raise self._unreadable(404, own_address(self._node.config), part.fid) from None
        except VolumedError:
            raise self._unreadable(500, own_address(self._node.config), part.fid) from None
        if stored.needle.size and stored.needle.cookie != fid.cookie:
            raise self._unreadable(404, own_address(self._node.config), part.fid)
        if stored.needle.is_chunk_manifest and stored.data_size <= MANIFEST_BYTES_MAX:
            await stored.load()
            inner = await asyncio.to_thread(read_manifest, stored.needle)
            if inner is not None:
                async for piece in self._nested(inner, part):
                    yield piece
                return
        async for piece in _local_pieces(stored, part):
            yield piece

    async def _nested(self, manifest: ChunkManifest, part: ChunkSlice) -> AsyncGenerator[Buffer, None]:
        # DEVIATE: the reference follows a manifest that names itself until something breaks.
        if self._depth == _DEPTH_MAX:
            raise ChunkError("Read chunk needle error: too many manifests inside each other")
        length = max(0, min(part.length, manifest.total_length - part.offset))
        async for piece in ChunkedFile(self._node, manifest, self._depth + 1).read(ByteRange(part.offset, length)):
            yield piece

    def _parse_id(self, text: str) -> _ChunkId:
        """COMPAT: the reference takes the id as the path of a request, which may have an extension."""
        volume, *rest = text.split(",")
        if len(rest) != 1:
            raise ChunkError(f"Invalid fileId {text}")
        try:
            volume_id = parse_volume_id(volume)
        except FormatError:
            raise ChunkError("File Not Found") from None
        try:
            path = parse_read_path("/" + text)
            key, cookie = parse_key_cookie(path.fid_text)
            if path.vid_text != volume:
                raise FormatError("")
        except FormatError:
            raise self._unreadable(400, own_address(self._node.config), text) from None
        return _ChunkId(volume_id, key, cookie, f"/{volume_id},{path.fid_text}".encode())

    async def _fetch(self, fid: _ChunkId, part: ChunkSlice) -> AsyncGenerator[Buffer, None]:
        location = await self._location(fid.volume_id)
        path = fid.path
        headers = self_signed(self._node.access.read_key, path)
        if part.offset:
            headers.append((b"Range", b"bytes=%d-" % part.offset))
        try:
            answer = await self._node.peers.request("GET", location.url, path, headers)
        except PeerError as error:
            raise ChunkError(f"Read chunk needle error: {self._url(location.url, part.fid)}: {error.text}") from None
        try:
            if answer.status != (206 if part.offset else 200):
                raise self._unreadable(answer.status, location.url, part.fid)
            left = part.length
            async with contextlib.aclosing(answer.chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk[:left]
                    left -= len(chunk[:left])
                    if not left:
                        return
        except PeerError as error:
            raise ChunkError(f"Read chunk needle error: {self._url(location.url, part.fid)}: {error.text}") from None
        finally:
            answer.close()

    def _unreadable(self, status: int, address: str, fid: str) -> ChunkError:
        return ChunkError(f"Read chunk needle error: [{status}] {self._url(address, fid)}")

    def _url(self, address: str, fid: str) -> str:
        return f"{self._node.peers.scheme}://{address}/{fid}"

    async def _location(self, volume_id: int) -> Location:
        # Where only this server was named, another one may have the volume now.
        locations = await self._others(volume_id, _LOCATIONS_MAX_AGE_S) or await self._others(volume_id, 0.0)
        if not locations:
            raise ChunkError("File Not Found")
        return random.choice(locations)

    async def _others(self, volume_id: int, max_age_s: float) -> list[Location]:
        try:
            found = await self._node.supervisor.call(LookupVolume(volume_id, max_age_s=max_age_s), CALL_TIMEOUT_S)
        except VolumedError:
            raise ChunkError("File Not Found") from None
        own = own_address(self._node.config)
        return [location for location in found.locations if location.url != own]


async def _local_pieces(stored: StoredNeedle, part: ChunkSlice) -> AsyncGenerator[Buffer, None]:
    if stored.needle.is_gzipped and await stored.starts_like_gzip():
        plain = GunzippedNeedle(stored)
        length = min(part.length, await plain.size() - part.offset)
        pages = plain.read(part.offset, length)
    else:
        length = min(part.length, stored.data_size - part.offset)
        pages = stored.pages(part.offset, length)
    async with contextlib.aclosing(pages):
        async for page in pages:
            yield page
