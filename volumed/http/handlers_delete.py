"""DELETE of a needle (http.md 5)."""

from __future__ import annotations

from volumed.bus.calls import DeleteNeedle, DeleteNeedles, DeletionResults, LookupVolume
from volumed.bus.frames import StoreOutcome, StoreResult, pack_delete
from volumed.errors import (
    ClientError,
    CookieMismatch,
    FormatError,
    NeedleDeleted,
    NeedleNotFound,
    RetryError,
    StaleGeneration,
    VolumedError,
    VolumeNotFound,
)
from volumed.formats.fileid import FileId, parse_batch_file_id, parse_key_cookie, parse_volume_id
from volumed.formats.replication import ReplicaPlacement
from volumed.http.authorization import WrongToken, check_write, is_listed, self_signed
from volumed.http.background import finish_anyway
from volumed.http.compression import gunzip
from volumed.http.handlers_write import StoreOperationParts, store
from volumed.http.manifest import ChunkManifest, parse_manifest
from volumed.http.message import Request, Response
from volumed.http.needle_source import StoredNeedle, find_needle
from volumed.http.node import CALL_TIMEOUT_S, Node
from volumed.http.paths import parse_read_path
from volumed.http.query import Form, parse_query
from volumed.http.replicas import ReplicaError, delete_at, delete_on_replicas, find_replicas
from volumed.http.responses import empty_response, error_response, json_response

__all__ = ["handle_delete"]

_GENERATIONS_MAX = 4
_GONE_STATUSES = frozenset({202, 304, 404})


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
    try:
        stored = await find_needle(node, _volume_id(path.vid_text), key)
    except RetryError as error:
        # A disk that does not serve now: 404 would say that the object is gone.
        node.metrics.write_failed()
        return error_response(500, f"Deletion Failed: {error.text}", pretty=pretty)
    except VolumedError:
        return json_response(404, {"size": 0}, pretty=pretty)
    if stored.needle.size and stored.needle.cookie != cookie:
        return error_response(400, CookieMismatch.on_delete().text, pretty=pretty)
    stored.needle.cookie = cookie
    try:
        size = await finish_anyway(_delete(node, request, query, stored))
    except VolumedError as error:
        node.metrics.write_failed()
        return error_response(500, error.text, pretty=pretty)
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
        await _delete_chunks(node, manifest)
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
    await stored.load()
    raw = stored.needle.data
    manifest = parse_manifest((gunzip(raw) or raw) if stored.needle.is_gzipped else raw)
    if manifest is None:
        raise ClientError("Load chunks manifest error: invalid character in manifest")
    return manifest


async def _delete_here(node: Node, stored: StoredNeedle) -> StoreResult:
    needle = stored.needle
    for _ in range(_GENERATIONS_MAX):
        handle = node.view.locate(stored.volume_id)
        if handle is None:
            raise VolumeNotFound.of(stored.volume_id)
        operation = pack_delete(
            stored.volume_id, handle.record.generation, needle.cookie, needle.key, needle.checksum
        )
        result = await store(node.link(handle.disk_id), StoreOperationParts(operation))
        if not isinstance(result.error, StaleGeneration):
            break
    if result.outcome == StoreOutcome.ERROR and result.error is not None:
        raise result.error
    return result


async def _delete_chunks(node: Node, manifest: ChunkManifest) -> None:
    """Delete the chunks one by one; missing ones are fine."""
    for chunk in manifest.chunks:
        try:
            await _delete_chunk(node, chunk.fid)
        except (NeedleNotFound, NeedleDeleted):
            continue
        except VolumedError as error:
            raise ClientError(f"Delete chunks error: chunk delete {chunk.fid}: {error.text}") from None


async def _delete_chunk(node: Node, text: str) -> None:
    fid = parse_batch_file_id(text)
    handle = node.view.locate(fid.volume_id)
    if handle is None or ReplicaPlacement.from_byte(handle.record.replica_placement).copies > 1:
        await _delete_chunk_everywhere(node, fid, text)
        return
    deletion = DeleteNeedles([DeleteNeedle(fid.volume_id, fid.key, None)])
    answer: DeletionResults = await node.link(handle.disk_id).call(deletion, CALL_TIMEOUT_S)
    result = answer.results[0]
    if result.status not in _GONE_STATUSES:
        raise ClientError(result.error)


async def _delete_chunk_everywhere(node: Node, fid: FileId, text: str) -> None:
    try:
        found = await node.supervisor.call(LookupVolume(fid.volume_id), CALL_TIMEOUT_S)
    except VolumedError:
        raise ClientError(f"volume id {fid.volume_id} not found") from None
    try:
        path = b"/" + text.encode()
        # The caller's token is for the manifest.
        token = self_signed(node.access.write_key, path)
        await delete_at(node, [location.url for location in found.locations], path, token)
    except ReplicaError as error:
        raise ClientError(error.text) from None
