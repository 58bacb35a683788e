"""Copies of a volume on other servers: which there are, and writes and deletes passed on to them (http.md 4.7, 5)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Sequence
from typing import NamedTuple
from urllib.parse import quote, quote_plus

import msgspec

from volumed.bus.calls import Location, LookupVolume
from volumed.errors import ClientError, VolumedError, VolumeNotFound
from volumed.formats.needle import Buffer, Needle
from volumed.formats.numbers import go_bytes, go_text
from volumed.formats.replication import ReplicaPlacement
from volumed.http.objects.node import CALL_TIMEOUT_S, Node, own_address
from volumed.http.objects.peer import PeerError, SizedStream
from volumed.http.protocol.message import Headers, Request
from volumed.http.rules.authorization import passed_on
from volumed.http.rules.upload import ParsedUpload, UploadForm
from volumed.http.text.headertext import canonical_name
from volumed.http.text.mime import extension, mime_by_extension
from volumed.http.text.pairs import pairs_to_headers
from volumed.storage.map_records import VolumeRecord

__all__ = ["ReplicaError", "delete_on_replicas", "find_replicas", "write_to_replicas"]

_ANSWER_BYTES_MAX = 64 << 10
_DELETED_STATUSES = frozenset({200, 202, 204, 404})


class ReplicaError(ClientError):
    """The copies are too few, or one of them failed."""


class _PeerAnswer(msgspec.Struct):
    error: str = ""


class _Form(NamedTuple):
    """A multipart body in pieces and its Content-Type."""

    content_type: bytes
    body: tuple[Buffer | SizedStream, ...]


async def find_replicas(
    node: Node, volume_id: int, record: VolumeRecord | None, *, for_delete: bool = False
) -> list[str]:
    """Addresses of the other copies; ``record`` is None when the volume is not here.

    Raises `ReplicaError` when the look-up fails or there are fewer copies than there should be.
    """
    copies = 0 if record is None else ReplicaPlacement.from_byte(record.replica_placement).copies
    if copies == 1:
        return []
    try:
        found = await node.supervisor.call(LookupVolume(volume_id), CALL_TIMEOUT_S)
        locations: list[Location] = found.locations
    except VolumeNotFound:
        locations = []
    except VolumedError as error:
        raise ReplicaError(f"replicating lookup failed for {volume_id}: {error.text}") from None
    locations = [location for location in locations if not location.read_only]
    if len(locations) < copies:
        what = "replication" if for_delete else "writable replication"
        raise ReplicaError(
            f"{what} locations [{len(locations)}] is less than volume {volume_id} replication copy count [{copies}]"
        )
    own = own_address(node.config)
    return [location.url for location in locations if location.url != own]


async def write_to_replicas(
    node: Node,
    targets: Sequence[str],
    request: Request,
    form: UploadForm,
    upload: ParsedUpload,
    needle: Needle,
    data: Buffer | SizedStream,
) -> None:
    """Store the needle with its ``data``, which may lie elsewhere, on all targets. The first failure cancels the others
    and raises `ReplicaError`."""
    target = quote(go_bytes(request.path), safe="/,:;=@&$+!*'()~").encode() + b"?" + _write_query(form, upload).encode()
    await _on_all(
        {address: _write_one(node, address, target, request, upload, needle, data) for address in targets},
    )


async def delete_on_replicas(node: Node, targets: Sequence[str], request: Request) -> None:
    """Delete the needle of the request on all targets. Raises `ReplicaError` on the first failure."""
    token = passed_on(request)
    await _on_all({address: _delete_one(node, address, request.raw_path, token) for address in targets})


async def _on_all(work: dict[str, Awaitable[None]]) -> None:
    async def one(address: str, task: Awaitable[None]) -> None:
        try:
            await task
        except VolumedError as error:
            raise ReplicaError(f"[{address}]: {error.text}") from None

    try:
        async with asyncio.TaskGroup() as group:
            for address, task in work.items():
                group.create_task(one(address, task))
    except* ReplicaError as failures:
        raise _first(failures) from None


def _first(group: BaseExceptionGroup[ReplicaError]) -> ReplicaError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _write_one(
    node: Node,
    address: str,
    target: bytes,
    request: Request,
    upload: ParsedUpload,
    needle: Needle,
    data: Buffer | SizedStream,
) -> None:
    url = f"{node.peers.scheme}://{address}{go_text(target)}"
    name = go_text(needle.name)
    form = _multipart(upload, needle, url, data)
    headers: Headers = [
        (b"Content-Type", form.content_type),
        *((b"Seaweed-" + canonical_name(pair), value) for pair, value in pairs_to_headers(needle.pairs)),
        *passed_on(request),
        (b"X-Amz-Request-Id", request.request_id),
    ]
    try:
        answer = await node.peers.request("POST", address, target, headers, form.body)
        content = await answer.read(_ANSWER_BYTES_MAX)
    except PeerError as error:
        node.metrics.upload_failed(0)
        raise PeerError(f"upload {name} {len(data)} bytes to {url}: {error.text}") from None
    if answer.status == 204:
        return
    try:
        result = msgspec.json.decode(content, type=_PeerAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        node.metrics.upload_failed(answer.status)
        raise ReplicaError(f"unmarshal {url}: {error}") from None
    if result.error:
        node.metrics.upload_failed(answer.status)
        raise ReplicaError(f"unmarshalled error {url}: {result.error}")


def _write_query(form: UploadForm, upload: ParsedUpload) -> str:
    values = {
        "cm": "true" if upload.is_manifest else "",
        "fsync": "true" if form.fsync else "",
        "ts": str(upload.last_modified),
        "ttl": str(upload.ttl),
        "type": "replicate",
    }
    always = ("ttl",)
    return "&".join(f"{name}={quote_plus(value)}" for name, value in values.items() if value or name in always)


def _multipart(upload: ParsedUpload, needle: Needle, url: str, data: Buffer | SizedStream) -> _Form:
    boundary = secrets.token_hex(30).encode()
    name = needle.name.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\r", b"").replace(b"\n", b"")
    mime = needle.mime or mime_by_extension(extension(go_text(needle.name)).lower()).encode()
    lines = [b'Content-Disposition: form-data; filename="%b"; name="file"' % name]
    if upload.is_gzipped:
        lines.append(b"Content-Encoding: gzip")
    if upload.content_md5:
        lines.append(b"Content-MD5: " + go_bytes(upload.content_md5))
    if mime:
        lines.append(b"Content-Type: " + mime.replace(b"\r", b"").replace(b"\n", b""))
    lines.append(b"Idempotency-Key: " + go_bytes(url))
    head = b"--%b\r\n%b\r\n\r\n" % (boundary, b"\r\n".join(lines))
    return _Form(b"multipart/form-data; boundary=" + boundary, (head, data, b"\r\n--%b--\r\n" % boundary))


async def _delete_one(node: Node, address: str, path: bytes, token: Headers) -> None:
    answer = await node.peers.request("DELETE", address, path + b"?type=replicate", token)
    content = await answer.read(_ANSWER_BYTES_MAX)
    if answer.status in _DELETED_STATUSES:
        return
    try:
        text = msgspec.json.decode(content, type=_PeerAnswer).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = ""
    raise ReplicaError(text or go_text(content))
