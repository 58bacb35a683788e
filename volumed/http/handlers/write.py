"""POST and PUT of a needle (http.md 4)."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import time
from typing import NamedTuple

from volumed.bus.bodypool import BodyPool, Slab
from volumed.bus.frames import (
    FLAG_FSYNC,
    SHARED_BODY_BYTES_MIN,
    StoreOutcome,
    StoreResult,
    pack_put,
    pack_put_shared,
)
from volumed.errors import (
    ClientError,
    FormatError,
    RetryError,
    SizeLimitExceeded,
    StaleGeneration,
    VolumedError,
    VolumeNotFound,
)
from volumed.formats.checksum import etag
from volumed.formats.fileid import parse_key_cookie, parse_volume_id
from volumed.formats.needle import FLAG_TTL, Buffer, Needle, encode_body
from volumed.formats.numbers import go_bytes
from volumed.formats.ttl import Ttl
from volumed.http.objects.background import finish_anyway
from volumed.http.objects.large_upload import receive_upload
from volumed.http.objects.node import Link, Node, own_address
from volumed.http.objects.orientation import turn_upright
from volumed.http.objects.replicas import ReplicaError, find_replicas, write_to_replicas
from volumed.http.objects.spool import Spool
from volumed.http.protocol.body import SLAB_HEAD_ROOM, BodySource, BodyStream, BodyTooLarge, ReceivedBody, receive
from volumed.http.protocol.message import Request, Response
from volumed.http.protocol.responses import empty_response, error_response, json_response
from volumed.http.rules.authorization import WrongToken, check_write, is_listed
from volumed.http.rules.upload import (
    FORM_TOO_LARGE,
    ParsedUpload,
    UploadForm,
    is_form_body,
    parse_upload,
    parse_upload_form,
    upload_result,
)
from volumed.http.text.compression import DecompressedTooLarge
from volumed.http.text.paths import parse_read_path, parse_write_path
from volumed.http.text.query import parse_query
from volumed.security.access import Access
from volumed.storage.map_records import VolumeRecord
from volumed.storage.view import VolumeHandle

__all__ = [
    "INLINE_PLAIN_BYTES_MAX",
    "StoreOperationParts",
    "UploadTarget",
    "handle_write",
    "pack_upload",
    "parse_target",
    "store",
    "upload_response",
]

_FRAMING_BYTES_MAX = 1 << 20
"""How much longer than the file limit a form may be."""
_INLINE_BYTES_MAX = 128 << 10
"""Larger bodies are parsed, hashed and compressed in a thread."""
INLINE_PLAIN_BYTES_MAX = 1 << 20
"""So are those that decompress to more than this."""
_UPRIGHT_BYTES_MAX = 64 << 20
"""With images turned upright this much is received whole, since the picture is needed whole."""
_GENERATIONS_MAX = 4


class UploadTarget(NamedTuple):
    """A complete upload and the needle it makes."""

    request: Request
    form: UploadForm
    upload: ParsedUpload
    volume_id: int
    needle: Needle


class StoreOperationParts(NamedTuple):
    """A packed put; ``slab`` is where a shared body lies."""

    operation: bytes
    slab: Slab | None = None


async def handle_write(request: Request, body: BodySource, node: Node) -> Response:
    """Answer a POST or PUT."""
    pretty = bool(parse_query(request.query_string).get("pretty"))
    limit = node.config.file_size_limit_bytes
    if not is_listed(request, node.access):
        return empty_response(401)
    try:
        form, volume_id, received = await _receive(request, body, node, limit + _FRAMING_BYTES_MAX)
    except WrongToken as error:
        return error_response(401, error.text, pretty=pretty)
    except BodyTooLarge:
        return _failed(node, 400, SizeLimitExceeded.file(limit).text, pretty=pretty)
    except RetryError as error:
        await body.discard()
        return _failed(node, 500, error.text, pretty=pretty)
    except ClientError as error:
        return _failed(node, 400, error.text, pretty=pretty)
    if isinstance(received, BodyStream):
        return await _write_large(request, body, node, form, volume_id, received)
    try:
        upload = await _parse(request, form, received.data, limit)
        if node.config.images_upright:
            await turn_upright(node.images, upload)
        target = parse_target(request, form, upload, volume_id)
    except ClientError as error:
        received.release()
        return _failed(node, 413 if isinstance(error, DecompressedTooLarge) else 400, error.text, pretty=pretty)
    except BaseException:
        received.release()
        raise
    return await finish_anyway(_store(node, target, received))


async def _write_large(
    request: Request, body: BodySource, node: Node, form: UploadForm, volume_id: int, stream: BodyStream
) -> Response:
    """The same for a body that is read while it arrives."""
    limit, pretty = node.config.file_size_limit_bytes, form.pretty
    try:
        upload, spool = await receive_upload(node, request, form, volume_id, stream, limit)
    except VolumedError as error:
        await body.discard()
        return _failed(node, *_large_failure(error, limit), pretty=pretty)
    try:
        key, cookie = parse_key_cookie(parse_write_path(request.path))
    except FormatError as error:
        if spool is not None:
            spool.release()
        return _failed(node, 400, error.text, pretty=pretty)
    needle = upload.to_needle(key, cookie, 0 if spool is None else spool.checksum)
    return await finish_anyway(_store(node, UploadTarget(request, form, upload, volume_id, needle), spool))


def _large_failure(error: VolumedError, limit_bytes: int) -> tuple[int, str]:
    if isinstance(error, BodyTooLarge):
        return 400, SizeLimitExceeded.file(limit_bytes).text
    if isinstance(error, DecompressedTooLarge):
        return 413, error.text
    return (400 if isinstance(error, ClientError) else 500), error.text


def _failed(node: Node, status: int, text: str, *, pretty: bool) -> Response:
    node.metrics.write_failed()
    return error_response(status, text, pretty=pretty)


def parse_target(request: Request, form: UploadForm, upload: ParsedUpload, volume_id: int) -> UploadTarget:
    """The needle of an upload. Raises `FormatError` for a bad file id."""
    key, cookie = parse_key_cookie(parse_write_path(request.path))
    return UploadTarget(request, form, upload, volume_id, upload.to_needle(key, cookie))


def pack_upload(target: UploadTarget, record: VolumeRecord, pool: BodyPool, slab: Slab | None) -> StoreOperationParts:
    """The put of an upload into the volume described by ``record``. ``slab`` is what the body was received into.

    Raises `RetryError` when there is no room for a large body.
    """
    needle = target.needle
    _inherit_ttl(needle, record)
    flags = FLAG_FSYNC if target.form.fsync else 0
    head = (target.volume_id, record.generation, needle.cookie, needle.key, needle.checksum)
    prefix, data, suffix = encode_body(needle, record.version)
    size = len(prefix) + len(data) + len(suffix)
    if size < SHARED_BODY_BYTES_MIN:
        return StoreOperationParts(pack_put(*head, b"".join((prefix, data, suffix)), flags))
    start = None if slab is None else _place_around(slab, prefix, data, suffix)
    if slab is not None and start is not None:
        slab.retain()
    else:
        slab, start = _copy_to_slab(pool, prefix, data, suffix), 0
    return StoreOperationParts(pack_put_shared(*head, size, slab.offset + start, flags), slab)


def _inherit_ttl(needle: Needle, record: VolumeRecord) -> None:
    if not needle.ttl and record.ttl:
        needle.ttl = Ttl.from_u32(record.ttl)
        needle.flags |= FLAG_TTL


def upload_response(target: UploadTarget, result: StoreResult) -> Response:
    """201, or 204 when the same was stored already (http.md 4.6)."""
    checksum = etag(target.needle.checksum)
    headers = [
        (b"Content-Md5", go_bytes(target.upload.content_md5)),
        (b"Etag", f'"{checksum}"'.encode()),
    ]
    if result.outcome == StoreOutcome.UNCHANGED:
        return Response(204, headers)
    response = json_response(201, upload_result(target.upload, checksum, pretty=target.form.pretty))
    response.headers = headers + response.headers
    return response


async def _receive(
    request: Request, body: BodySource, node: Node, limit_bytes: int
) -> tuple[UploadForm, int, ReceivedBody | BodyStream]:
    """Form, volume id and body. What can be refused without the body is, before it is asked for."""
    whole_bytes_max = _UPRIGHT_BYTES_MAX if node.config.images_upright else node.config.whole_body_bytes_max
    if is_form_body(request):
        received = await receive(body, whole_bytes_max, limit_bytes)
        if isinstance(received, BodyStream):
            await body.discard()
            raise FormatError(FORM_TOO_LARGE)
        try:
            form = parse_upload_form(request, received.data)
            return form, _writable_volume(request, node.access), received
        except BaseException:
            received.release()
            raise
    form = parse_upload_form(request, b"")
    volume_id = _writable_volume(request, node.access)
    return form, volume_id, await receive(body, whole_bytes_max, limit_bytes)


def _writable_volume(request: Request, access: Access) -> int:
    """The volume of the path. Raises `FormatError`, then `WrongToken`."""
    volume_id = parse_volume_id(parse_read_path(request.path).vid_text)
    check_write(request, access)
    return volume_id


async def _parse(request: Request, form: UploadForm, data: Buffer, limit_bytes: int) -> ParsedUpload:
    now_s = int(time.time())
    if len(data) <= _INLINE_BYTES_MAX:
        with contextlib.suppress(DecompressedTooLarge):
            return parse_upload(
                request,
                form,
                data,
                now_s=now_s,
                size_limit_bytes=limit_bytes,
                plain_bytes_max=INLINE_PLAIN_BYTES_MAX,
            )
    return await asyncio.to_thread(
        parse_upload, request, form, data, now_s=now_s, size_limit_bytes=limit_bytes
    )


async def _store(node: Node, target: UploadTarget, data: ReceivedBody | Spool | None) -> Response:
    """Write here and on the replicas; ``data`` are released. None: they were dropped, the volume being nowhere."""
    pretty = target.form.pretty
    try:
        handle = node.view.locate(target.volume_id)
        targets: list[str] = []
        if not target.form.is_replicate:
            record = None if handle is None else handle.record
            targets = await find_replicas(node, target.volume_id, record)
        if data is None or (handle is None and not targets):
            raise VolumeNotFound.on_server(target.volume_id, own_address(node.config))
        result = StoreResult(StoreOutcome.STORED, 0)
        if handle is not None:
            with node.metrics.local_write():
                result = await _store_here(node, target, data)
        with node.metrics.replication("write", len(targets)):
            if targets:
                await _replicate(node, target, targets, data if isinstance(data, Spool) else target.needle.data)
        return upload_response(target, result)
    except VolumedError as error:
        return _failed(node, 500, error.text, pretty=pretty)
    finally:
        if data is not None:
            data.release()


async def _replicate(node: Node, target: UploadTarget, targets: list[str], data: Buffer | Spool) -> None:
    try:
        await write_to_replicas(node, targets, target.request, target.form, target.upload, target.needle, data)
    except ReplicaError as error:
        raise ReplicaError(
            f"failed to write to replicas for volume {target.volume_id}: {error.text}"
        ) from None


async def _store_here(node: Node, target: UploadTarget, data: ReceivedBody | Spool) -> StoreResult:
    for _ in range(_GENERATIONS_MAX):
        handle = node.view.locate(target.volume_id)
        if handle is None:
            raise VolumeNotFound.on_server(target.volume_id, own_address(node.config))
        try:
            result = await _put(node, handle, target, data)
        except VolumedError as error:
            raise ClientError(f"failed to write to local disk: {error.text}") from None
        if not isinstance(result.error, StaleGeneration):
            break
    if result.error is not None:
        raise ClientError(f"failed to write to local disk: {result.error.text}")
    return result


async def _put(node: Node, handle: VolumeHandle, target: UploadTarget, data: ReceivedBody | Spool) -> StoreResult:
    if not isinstance(data, Spool):
        return await store(node.link(handle.disk_id), pack_upload(target, handle.record, node.pool, data.slab))
    _inherit_ttl(target.needle, handle.record)
    return await data.put(handle, target.volume_id, target.needle, FLAG_FSYNC if target.form.fsync else 0)


async def store(link: Link, parts: StoreOperationParts) -> StoreResult:
    """Send one operation and wait for its result. Raises what the link raises at once."""
    future: asyncio.Future[StoreResult] = asyncio.get_running_loop().create_future()

    def done(result: StoreResult) -> None:
        if not future.done():
            future.set_result(result)

    try:
        link.store(parts.operation, done, parts.slab)
    finally:
        if parts.slab is not None:
            parts.slab.release()
    return await future


def _place_around(slab: Slab, prefix: bytes, data: Buffer, suffix: bytes) -> int | None:
    """Complete a body whose data lie in a slab already; returns its start, None when they lie elsewhere.

    What stood around the data (the framing of a form) is overwritten, and is of no use any more.
    """
    if not isinstance(data, memoryview) or data.obj is not slab.view.obj:
        return None
    at = _address(data) - _address(slab.view)
    start, end = at - len(prefix), at + len(data)
    if start < 0 or end + len(suffix) > slab.length or len(prefix) > SLAB_HEAD_ROOM:
        return None
    slab.view[start:at] = prefix
    slab.view[end : end + len(suffix)] = suffix
    return start


def _address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def _copy_to_slab(pool: BodyPool, *parts: Buffer) -> Slab:
    slab = pool.allocate(sum(map(len, parts)))
    at = 0
    for part in parts:
        slab.data[at : at + len(part)] = part
        at += len(part)
    return slab
