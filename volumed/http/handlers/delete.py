"""DELETE of a needle (http.md 5)."""

from __future__ import annotations

import asyncio

from volumed.bus.frames import StoreOutcome, StoreResult, pack_delete
from volumed.errors import (
    ClientError,
    CookieMismatch,
    FormatError,
    NeedleDeleted,
    RetryError,
    StaleGeneration,
    VolumedError,
    VolumeNotFound,
)
from volumed.formats.fileid import parse_key_cookie, parse_volume_id
from volumed.formats.needle import Needle
from volumed.http.handlers.write import StoreOperationParts, store
from volumed.http.objects.background import finish_anyway
from volumed.http.objects.chunk_deletes import delete_chunks
from volumed.http.objects.needle_source import StoredNeedle, find_needle
from volumed.http.objects.node import Node
from volumed.http.objects.replicas import delete_on_replicas, find_replicas
from volumed.http.protocol.message import Request, Response
from volumed.http.protocol.responses import empty_response, error_response, json_response
from volumed.http.rules.authorization import WrongToken, check_write, is_listed
from volumed.http.rules.manifest import MANIFEST_BYTES_MAX, ChunkManifest, parse_manifest
from volumed.http.rules.read_decision import stored_representation
from volumed.http.text.compression import DecompressedTooLarge
from volumed.http.text.paths import parse_read_path
from volumed.http.text.query import Form, parse_query
from volumed.shards.view import NodeEcVolume

__all__ = ["handle_delete"]

_GENERATIONS_MAX = 4


async def handle_delete(request: Request, node: Node) -> Response:
    """Answer a DELETE."""
    query = parse_query(request.query_string)
    pretty = bool(query.get("pretty"))
    if not is_listed(request, node.access):
        return empty_response(401)
    try:
        path = parse_read_path(request.path)
        key, cookie = parse_key_cookie(path.fid_text)
        check_write(request, node.access)
    except WrongToken as error:
        return error_response(401, error.text, pretty=pretty)
    except FormatError as error:
        return error_response(400, error.text, pretty=pretty)
    volume_id = _volume_id(path.vid_text)
    if volume := node.shards.find(volume_id):
        return await _delete_from_shards(node, volume, key, cookie, pretty)
    try:
        stored = await find_needle(node, volume_id, key)
    except RetryError as error:
        # A disk that does not serve now: 404 would say that the object is gone.
        node.metrics.write_failed()
        return error_response(500, f"Deletion Failed: {error.text}", pretty=pretty)
    except VolumedError:
        return json_response(404, {"size": 0}, pretty=pretty)
    if not stored.fits(cookie):
        return error_response(400, CookieMismatch.on_delete().text, pretty=pretty)
    stored.needle.cookie = cookie
    try:
        size = await finish_anyway(_delete(node, request, query, stored))
    except VolumedError as error:
        node.metrics.write_failed()
        return error_response(500, error.text, pretty=pretty)
    return json_response(202, {"size": size}, pretty=pretty)


async def _delete_from_shards(node: Node, volume: NodeEcVolume, key: int, cookie: int, pretty: bool) -> Response:
    """COMPAT: the chunks of a manifest stay, and nobody else is told (erasure-coding.md 5.13)."""
    try:
        size = await finish_anyway(node.shards.delete(volume, key, cookie))
    except NeedleDeleted:
        return json_response(404, {"size": 0}, pretty=pretty)
    except VolumedError as error:
        node.metrics.write_failed()
        return error_response(500, f"Deletion Failed: {error.text}", pretty=pretty)
    return json_response(202, {"size": size}, pretty=pretty)


def _volume_id(text: str) -> int:
    """COMPAT: what is no number is volume 0, which nobody has."""
    try:
        return parse_volume_id(text)
    except FormatError:
        return 0


async def _delete(node: Node, request: Request, query: Form, stored: StoredNeedle) -> int:
    """Chunks first, then here, then on the replicas; the size to report."""
    size = stored.needle.size
    if stored.needle.is_chunk_manifest:
        manifest = await _load_manifest(stored)
        await delete_chunks(node, manifest)
        size = manifest.size
    targets: list[str] = []
    try:
        if query.get("type") != "replicate":
            handle = node.view.locate(stored.volume_id)
            record = None if handle is None else handle.record
            targets = await find_replicas(node, stored.volume_id, record, for_delete=True)
        await _delete_here(node, stored)
        with node.metrics.replication("delete", len(targets)):
            if targets:
                await delete_on_replicas(node, targets, request)
    except VolumedError as error:
        raise ClientError(f"Deletion Failed: {error.text}") from None
    return size


async def _load_manifest(stored: StoredNeedle) -> ChunkManifest:
    if stored.data_size > MANIFEST_BYTES_MAX:
        raise ClientError(f"Load chunks manifest error: over the limited {MANIFEST_BYTES_MAX} bytes")
    await stored.load()
    try:
        return await asyncio.to_thread(_manifest_in, stored.needle)
    except (FormatError, DecompressedTooLarge) as error:
        raise ClientError(f"Load chunks manifest error: {error.text}") from None


def _manifest_in(needle: Needle) -> ChunkManifest:
    return parse_manifest(stored_representation(needle, b"", MANIFEST_BYTES_MAX).data or b"")


async def _delete_here(node: Node, stored: StoredNeedle) -> StoreResult:
    needle = stored.needle
    for _ in range(_GENERATIONS_MAX):
        handle = node.view.locate(stored.volume_id)
        if handle is None:
            raise VolumeNotFound.of(stored.volume_id)
        operation = pack_delete(stored.volume_id, handle.record.generation, needle.cookie, needle.key, needle.checksum)
        result = await store(node.link(handle.disk_id), StoreOperationParts(operation))
        if not isinstance(result.error, StaleGeneration):
            break
    if result.outcome == StoreOutcome.ERROR and result.error is not None:
        raise result.error
    return result
