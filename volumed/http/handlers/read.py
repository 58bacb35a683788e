"""GET and HEAD of a needle (http.md 3)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from urllib.parse import quote_plus

from volumed.bus.calls import Location, LookupVolume
from volumed.erasure.errors import EcReadFailed
from volumed.errors import DiskUnavailable, FormatError, NeedleDeleted, NeedleNotFound, VolumedError, VolumeNotFound
from volumed.formats.fileid import parse_key_cookie, parse_volume_id
from volumed.formats.needle import Buffer
from volumed.formats.numbers import go_bytes
from volumed.http.objects.chunked_file import ChunkedFile, ChunkError
from volumed.http.objects.gunzipped import GunzippedNeedle
from volumed.http.objects.image_reads import transformed_file, transformed_needle
from volumed.http.objects.needle_source import StoredNeedle, find_needle
from volumed.http.objects.node import CALL_TIMEOUT_S, Node, own_address
from volumed.http.objects.peer import PeerError, PeerResponse
from volumed.http.objects.throttle import Budget
from volumed.http.protocol.message import Headers, Request, Response
from volumed.http.protocol.responses import empty_response, error_response, plain_text_error, redirect_response
from volumed.http.rules.authorization import WrongToken, check_read
from volumed.http.rules.manifest import MANIFEST_BYTES_MAX, read_manifest
from volumed.http.rules.read_decision import (
    ReadPlan,
    Representation,
    body_plan,
    expands_manifest,
    not_modified_plan,
    plan_at_hand,
    plan_read,
    with_sniffed_type,
)
from volumed.http.text.compression import DecompressedTooLarge
from volumed.http.text.headertext import clean_value, is_valid_name
from volumed.http.text.paths import ParsedPath, parse_read_path
from volumed.http.text.query import Form, parse_query
from volumed.http.text.ranges import ByteRange
from volumed.images.service import ImagesBusy
from volumed.metrics.front import HandlerEvent

__all__ = ["hand_over", "handle_read"]

_log = logging.getLogger(__name__)

_LOCATIONS_MAX_AGE_S = 600.0
_MOVED_MAX_AGE_S = 1.0
"""When shards are gone from where they were a moment ago."""
_INLINE_BYTES_MAX = 64 << 10
"""More than this is not decompressed on the loop."""
_INLINE_PLAIN_BYTES_MAX = 1 << 20
"""Nor what becomes longer than this."""
_NOT_RELAYED = frozenset({b"server", b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"date"})
_NOT_FORWARDED = frozenset(
    {b"host", b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"te", b"upgrade", b"expect"}
)
_DESCRIBING = frozenset({b"Content-Type", b"Content-Range", b"Content-Encoding"})

_HELD_BYTES = 128 << 10
"""Of a body that is read piece by piece, so much is read before the head is sent."""

_LOADED_BYTES_MAX = 4 << 20
"""Longer compressed data are not read whole."""
_PLAIN_BYTES_MAX = 8 << 20
"""What becomes longer than this is decompressed piece by piece."""

OpenRange = Callable[[ByteRange], AsyncIterator[Buffer]]
Pages = Callable[[int, int], AsyncIterator[Buffer]]


async def handle_read(request: Request, node: Node) -> Response:
    """Answer a GET or HEAD."""
    query = parse_query(request.query_string)
    try:
        check_read(request, node.access)
        path = parse_read_path(request.path)
        volume_id = parse_volume_id(path.vid_text)
        key, cookie = parse_key_cookie(path.fid_text)
    except WrongToken as error:
        return error_response(401, error.text, pretty=bool(query.get("pretty")))
    except FormatError:
        return empty_response(400)
    try:
        if node.downloads is not None:
            _count(request, node, node.downloads, volume_id, key)
        stored = await find_needle(node, volume_id, key, cookie, read_deleted=query.get("readDeleted") == "true")
        if node.downloads is not None and request.on_sent is None:
            # In shards: its size was not known before it was found.
            request.on_sent = node.downloads.take(stored.needle.size)
        if not stored.fits(cookie):
            return _missing(node)
        return await _answer(request, node, query, path, stored)
    except VolumeNotFound:
        return await _answer_from_elsewhere(request, node, query, path, volume_id)
    except (DiskUnavailable, EcReadFailed) as error:
        max_age_s = _MOVED_MAX_AGE_S if isinstance(error, EcReadFailed) else _LOCATIONS_MAX_AGE_S
        response = await _answer_from_elsewhere(request, node, query, path, volume_id, max_age_s)
        # What another server has is nothing to report: with a failed disk that may be most of what clients ask for.
        if response.status in (404, 500):
            request_id = request.request_id.decode()
            _log.warning("%s %s: %s", request_id, request.path, error.text, extra={"volume": volume_id})
        # The object may be on the disk that does not serve, or in shards that come back: 404 would say that it is gone.
        return _broken(node) if response.status == 404 else response
    except NeedleNotFound:
        return _unknown(node)
    except NeedleDeleted:
        return _missing(node)
    except DecompressedTooLarge:
        return empty_response(413)
    except ImagesBusy:
        return empty_response(503)
    except VolumedError as error:
        _log.error("%s %s: %s", request.request_id.decode(), request.path, error.text, extra={"volume": volume_id})
        return _broken(node)


def _missing(node: Node) -> Response:
    node.metrics.read_failed(HandlerEvent.NOT_FOUND)
    return empty_response(404)


def _unknown(node: Node) -> Response:
    """Missing, and nothing says that it was ever there."""
    node.metrics.invalid_needle()
    return _missing(node)


def _broken(node: Node) -> Response:
    node.metrics.read_failed(HandlerEvent.INTERNAL)
    return empty_response(500)


def _count(request: Request, node: Node, downloads: Budget, volume_id: int, key: int) -> None:
    """The needle is in flight from now until its last byte has left this process, or the client is gone."""
    entry = None
    with contextlib.suppress(DiskUnavailable):
        handle = node.view.locate(volume_id)
        entry = None if handle is None else handle.lookup(key)
    if entry is not None:
        request.on_sent = downloads.take(abs(entry[1]))


async def _answer(request: Request, node: Node, query: Form, path: ParsedPath, stored: StoredNeedle) -> Response:
    needle = stored.needle
    if plan := not_modified_plan(request, needle):
        return _response(plan)
    if expands_manifest(needle, query) and stored.data_size <= MANIFEST_BYTES_MAX:
        await stored.load()
        manifest = await asyncio.to_thread(read_manifest, needle)
        if manifest is not None:
            file = ChunkedFile(node, manifest)
            if image := await transformed_file(node, query, path, manifest, file):
                return _send(plan_at_hand(request, query, path, needle, image, _boundary, manifest), image)
            whole = Representation(manifest.total_length)
            plan = body_plan(request, query, path, needle, whole, _boundary, manifest)
            try:
                return await _streamed(plan, file.read)
            except ChunkError as error:
                return _chunk_failure(plan, error)
    if (needle.is_gzipped or needle.is_chunk_manifest) and stored.data_size <= _LOADED_BYTES_MAX:
        await stored.load()
    if image := await transformed_needle(request, node, query, path, stored):
        return _send(plan_at_hand(request, query, path, needle, image, _boundary), image)
    if not stored.is_paged:
        with contextlib.suppress(DecompressedTooLarge):
            return await _at_hand(request, query, path, stored)
    whole, read = await _large_representation(request, stored)
    plan = body_plan(request, query, path, needle, whole, _boundary)
    return await _streamed(plan, lambda part: read(part.start, part.length))


async def _large_representation(request: Request, stored: StoredNeedle) -> tuple[Representation, Pages]:
    """What to send of data that are read piece by piece, and how (http.md 3.7)."""
    if not stored.needle.is_gzipped or not await stored.starts_like_gzip():
        return Representation(stored.data_size), stored.pages
    if b"gzip" in request.headers.get(b"accept-encoding", b""):
        return Representation(stored.data_size, encoding=b"gzip"), stored.pages
    plain = GunzippedNeedle(stored)
    return Representation(await plain.size()), plain.read


async def _at_hand(request: Request, query: Form, path: ParsedPath, stored: StoredNeedle) -> Response:
    """Raises `DecompressedTooLarge` for what is to be decompressed piece by piece."""
    needle = stored.needle
    work = (request, query, path, needle, _boundary)
    decompresses = needle.is_gzipped and b"gzip" not in request.headers.get(b"accept-encoding", b"")
    if not decompresses or len(needle.data) <= _INLINE_BYTES_MAX:
        with contextlib.suppress(DecompressedTooLarge):
            return _send(*plan_read(*work, _INLINE_PLAIN_BYTES_MAX))
    return _send(*await asyncio.to_thread(plan_read, *work, _PLAIN_BYTES_MAX))


def _send(plan: ReadPlan, whole: Representation) -> Response:
    """A response from data at hand."""
    response = _response(plan)
    if plan.segments:
        data = memoryview(whole.data or b"")
        parts = [
            data[part.start : part.start + part.length] if isinstance(part, ByteRange) else part
            for part in plan.segments
        ]
        response.body = parts[0] if len(parts) == 1 else b"".join(parts)
    return response


def _chunk_failure(plan: ReadPlan, error: ChunkError) -> Response:
    """The text of the error under the headers of the file, as far as they do not describe a body."""
    failure = plain_text_error(500, error.text)
    failure.headers += [header for header in plan.headers if header[0] not in _DESCRIBING]
    return failure


def _boundary() -> bytes:
    return secrets.token_hex(30).encode()


def _response(plan: ReadPlan) -> Response:
    return Response(plan.status, plan.headers, content_length=plan.content_length)


async def _streamed(plan: ReadPlan, open_range: OpenRange) -> Response:
    """A response whose body is read piece by piece. The first pieces are read before the head is decided: they may be
    needed for the type, and an error is an answer as long as nothing was sent."""
    if not plan.segments:
        return _response(plan)
    pieces = _pieces(plan.segments, open_range)
    held: list[Buffer] = []
    size = 0
    async for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _HELD_BYTES:
            break
    if plan.sniff:
        with_sniffed_type(plan, held[0] if len(held) == 1 else b"".join(held))
    response = _response(plan)
    response.body = _prepend(held, pieces)
    return response


async def _pieces(segments: tuple[bytes | ByteRange, ...], open_range: OpenRange) -> AsyncGenerator[Buffer, None]:
    for segment in segments:
        if isinstance(segment, bytes):
            yield segment
        else:
            async for piece in open_range(segment):
                yield piece


async def _prepend(first: list[Buffer], rest: AsyncIterator[Buffer]) -> AsyncGenerator[bytes | memoryview, None]:
    for piece in first:
        yield memoryview(piece)
    async for piece in rest:
        yield memoryview(piece)


# The volume is not here (http.md 3.2)


async def _answer_from_elsewhere(
    request: Request,
    node: Node,
    query: Form,
    path: ParsedPath,
    volume_id: int,
    max_age_s: float = _LOCATIONS_MAX_AGE_S,
) -> Response:
    # DEVIATE: the reference does not look at `proxied` here; two servers with stale tables ask each other for ever.
    if node.config.read_mode == "local" or query.get("proxied") == "true":
        return _unknown(node)
    return await hand_over(request, node, query, path, volume_id, max_age_s)


async def hand_over(
    request: Request,
    node: Node,
    query: Form,
    path: ParsedPath,
    volume_id: int,
    max_age_s: float = _LOCATIONS_MAX_AGE_S,
) -> Response:
    """Have another server with this volume answer, one that the master has named in the last ``max_age_s`` seconds."""
    others = await _others(node, volume_id, max_age_s)
    if not others:
        return _unknown(node)
    location = random.choice(others)
    if node.config.read_mode == "proxy":
        return await _proxy(request, node, query, volume_id, location)
    collection = f"collection={quote_plus(go_bytes(query['collection']))}&" if query.get("collection") else ""
    node.metrics.happened(HandlerEvent.READ_REDIRECT)
    target = f"{node.peers.scheme}://{location.url}/{path.vid_text},{path.fid_text}?{collection}proxied=true"
    return redirect_response(request, 301, go_bytes(target))


async def _others(node: Node, volume_id: int, max_age_s: float) -> list[Location]:
    """The other servers with a volume, as the master has named them in the last ``max_age_s`` seconds."""
    lookup = LookupVolume(volume_id, max_age_s=max_age_s)
    try:
        found = await node.supervisor.call(lookup, CALL_TIMEOUT_S)
    except VolumedError as error:
        _log.debug("look-up of volume %d: %s", volume_id, error.text)
        return []
    own = own_address(node.config)
    others: list[Location] = [location for location in found.locations if own not in location.url]
    if not others and max_age_s > _MOVED_MAX_AGE_S:
        # What was named was this server alone: it had the volume then, and another one may have it now.
        return await _others(node, volume_id, _MOVED_MAX_AGE_S)
    if not others:
        node.metrics.happened(HandlerEvent.READ_PROXY_NOWHERE)
    return others


async def _proxy(request: Request, node: Node, query: Form, volume_id: int, location: Location) -> Response:
    answer = await _ask(request, node, query, location)
    if answer is None or answer.status == 404:
        # DEVIATE: the reference says for minutes that there is nothing where a volume no longer is.
        others = await _others(node, volume_id, _MOVED_MAX_AGE_S)
        if others and location.url not in {other.url for other in others}:
            if answer is not None:
                answer.close()
            answer = await _ask(request, node, query, random.choice(others))
    return _broken(node) if answer is None else _relayed(request, answer)


async def _ask(request: Request, node: Node, query: Form, location: Location) -> PeerResponse | None:
    """The answer of another server; None: it could not be asked."""
    pairs = sorted({**query, "proxied": "true"}.items())
    encoded = "&".join(f"{quote_plus(go_bytes(name))}={quote_plus(go_bytes(value))}" for name, value in pairs)
    headers = [(name, value) for name, value in request.raw_headers if name.lower() not in _NOT_FORWARDED]
    node.metrics.happened(HandlerEvent.READ_PROXY)
    try:
        return await node.peers.request("GET", location.url, request.raw_path + b"?" + encoded.encode(), headers)
    except PeerError as error:
        _log.error("read of %s from %s: %s", request.path, location.url, error.text)
        node.metrics.happened(HandlerEvent.READ_PROXY_FAILED)
        return None


def _relayed(request: Request, answer: PeerResponse) -> Response:
    relayed: Headers = [
        (name, clean_value(value))
        for name, value in answer.headers
        if name.lower() not in _NOT_RELAYED and is_valid_name(name)
    ]
    response = Response(answer.status, relayed, content_length=answer.content_length)
    if request.method == "HEAD" or answer.content_length == 0:
        answer.close()
    else:
        response.body = answer.chunks()
        response.content_length = answer.content_length
    return response
