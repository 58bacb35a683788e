"""Uploads whose body is too long for memory: read while they arrive, into spools of the disk (http.md 4.2 to 4.5).

The decisions are those of smaller uploads (``upload``, ``form_rules``). What is decided late, which part of a form to
store and whether the compressed data are worth it, is kept in both forms until then, each in a spool of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable
from typing import NamedTuple, TypeVar

from volumed.errors import FormatError, SizeLimitExceeded, VolumedError
from volumed.formats.needle import Buffer
from volumed.formats.numbers import go_text
from volumed.http.objects.node import Node
from volumed.http.objects.replicas import ReplicaError, find_replicas
from volumed.http.objects.spool import Spool
from volumed.http.protocol.body import BodyStream
from volumed.http.protocol.message import Request
from volumed.http.rules.content_stream import ContentStream, QuotedPrintable
from volumed.http.rules.form_rules import FIELD_BYTES_MAX, Malformed, is_quoted_printable, is_text_field
from volumed.http.rules.form_stream import Event, FormStream, PartEnd, PartStart
from volumed.http.rules.upload import (
    ContentHead,
    ParsedUpload,
    UploadForm,
    UploadRules,
    check_md5,
    form_content_head,
    is_form_upload,
    raw_content_head,
)
from volumed.http.text.compression import saves_enough

__all__ = ["LargeUpload", "SpoolError", "receive_upload"]

_THREAD_BYTES_MIN = 32 << 10
"""A shorter piece is hashed or compressed on the loop."""
_T = TypeVar("_T")


class SpoolError(VolumedError):
    """The data could not be kept; answered 500."""


class LargeUpload(NamedTuple):
    """A complete upload; ``upload.data`` is empty."""

    upload: ParsedUpload
    spool: Spool | None
    """To be released; None: the volume is nowhere, so that the data were dropped."""


async def receive_upload(
    node: Node, request: Request, form: UploadForm, volume_id: int, body: BodyStream, size_limit_bytes: int
) -> LargeUpload:
    """Read the whole body. Raises what `parse_upload` raises, `BodyTooLarge`, `BodyError` and `SpoolError`."""
    disk_ids = await _choose_disks(node, form, volume_id)
    context = _Context(node, request, form, disk_ids, size_limit_bytes, body.length or 0)
    reader = _FormReader(context) if is_form_upload(request) else _RawReader(context)
    try:
        await reader.read(body)
        return reader.choose()
    finally:
        reader.close()


async def _choose_disks(node: Node, form: UploadForm, volume_id: int) -> list[int]:
    """Disks that may keep the data: the one that has the volume; any, if only others have it; none, if nobody has."""
    handle = node.view.locate(volume_id)
    if handle is not None:
        return [handle.disk_id]
    if not form.is_replicate:
        with contextlib.suppress(ReplicaError):
            if await find_replicas(node, volume_id, None):
                return [disk.disk_id for disk in node.config.disks]
    return []


class _Context(NamedTuple):
    """What all contents of one upload share."""

    node: Node
    request: Request
    form: UploadForm
    disk_ids: list[int]
    size_limit_bytes: int
    expected_bytes: int

    async def open_spool(self, expected_bytes: int) -> Spool | None:
        """On the first disk that can. Raises `SpoolError`."""
        failure: VolumedError | None = None
        for disk_id in self.disk_ids:
            try:
                return await Spool.open(self.node, disk_id, expected_bytes)
            except VolumedError as error:
                failure = error
        if failure is not None:
            raise _spool_error(failure)
        return None


class _Content:
    """One content on its way into its spools."""

    def __init__(self, context: _Context, head: ContentHead, spool: Spool | None, *, decodes: bool) -> None:
        self._context = context
        self._head = head
        self._spool = spool
        self._packed: Spool | None = None
        """The compressed data."""
        self._received = 0
        self._decoder = QuotedPrintable() if decodes else None
        self._stream = ContentStream(
            is_gzipped=head.is_gzipped,
            wants_md5=bool(self._rules({}).expected_md5),
            may_compress=self._may_compress,
        )

    @classmethod
    async def start(cls, context: _Context, head: ContentHead, *, decodes: bool = False) -> _Content:
        """``decodes``: it is quoted-printable."""
        return cls(context, head, await context.open_spool(context.expected_bytes), decodes=decodes)

    async def write(self, data: Buffer) -> None:
        """The next bytes. Raises `SizeLimitExceeded`, `SpoolError`."""
        self._received += len(data)
        if self._received > self._context.size_limit_bytes:
            raise SizeLimitExceeded.file(self._context.size_limit_bytes)
        await self._keep(data if self._decoder is None else self._decoder.feed(data))

    async def finish(self) -> None:
        """The data are complete."""
        if self._decoder is not None:
            await self._keep(self._decoder.finish())
        await self._keep_packed(await asyncio.to_thread(self._stream.finish))
        for spool in (self._spool, self._packed):
            if spool is not None:
                await _spooled(spool.finish())

    def choose(self, fields: dict[str, str]) -> LargeUpload:
        """This content is the upload. Raises `FormatError`, `DecompressedTooLarge`."""
        stream, rules = self._stream, self._rules(fields)
        if stream.error is not None:
            raise stream.error
        if rules.expected_md5:
            check_md5(rules.expected_md5, stream.md5, stream.original_size)
        is_compressed = rules.compresses(stream.start) and saves_enough(stream.packed_size, stream.size)
        upload = rules.upload(
            b"", is_compressed=is_compressed, original_size=stream.original_size, now_s=int(time.time())
        )
        if is_compressed:
            chosen, self._packed = self._packed, None
        else:
            chosen, self._spool = self._spool, None
        return LargeUpload(upload, chosen)

    def close(self) -> None:
        """Throw away what was not chosen."""
        for spool in (self._spool, self._packed):
            if spool is not None:
                spool.release()
        self._spool = self._packed = None

    async def _keep(self, data: Buffer) -> None:
        stream = self._stream
        if stream.is_heavy and len(data) >= _THREAD_BYTES_MIN:
            packed = await asyncio.to_thread(stream.feed, data)
        else:
            packed = stream.feed(data)
        if self._spool is not None:
            await _spooled(self._spool.write(data))
        await self._keep_packed(packed)

    async def _keep_packed(self, packed: bytes) -> None:
        if packed and self._spool is not None:
            if self._packed is None:
                self._packed = await self._context.open_spool(0)
            assert self._packed is not None
            await _spooled(self._packed.write(packed))

    def _may_compress(self, start: bytes) -> bool:
        # A field behind the file may still say that it is a manifest, and that changes the type that decides.
        return any(self._rules(fields).compresses(start) for fields in ({}, {"cm": "true"}))

    def _rules(self, fields: dict[str, str]) -> UploadRules:
        return UploadRules(self._context.request, self._context.form, self._head, fields)


class _RawReader:
    """A body that is the data."""

    def __init__(self, context: _Context) -> None:
        self._context = context
        self._content: _Content | None = None

    async def read(self, body: BodyStream) -> None:
        head = raw_content_head(self._context.request)
        self._content = content = await _Content.start(self._context, head)
        async for chunk in body.chunks:
            await content.write(chunk)
        await content.finish()

    def choose(self) -> LargeUpload:
        assert self._content is not None
        return self._content.choose({})

    def close(self) -> None:
        if self._content is not None:
            self._content.close()


class _FormReader:
    """A form: the first part with a file name is stored, else the first part (http.md 4.2)."""

    def __init__(self, context: _Context) -> None:
        self._context = context
        self._form = FormStream(context.request.headers.get(b"content-type", b""))
        self._chosen: _Content | None = None
        """Complete."""
        self._has_filename = False
        self._fields: dict[str, str] = {}
        self._part = PartStart({}, "", "")
        self._content: _Content | None = None
        """Of the part that is being read, if it may be chosen."""
        self._text = bytearray()
        """Of the part that is being read, as far as a field may be long."""

    async def read(self, body: BodyStream) -> None:
        try:
            async for chunk in body.chunks:
                for event in self._form.feed(bytes(chunk)):
                    await self._take(event)
            for event in self._form.finish():
                await self._take(event)
        except Malformed:
            # COMPAT: once there is a first part, whatever is wrong between later ones only ends the search.
            if self._chosen is None:
                raise
            async for _ in body.chunks:
                pass

    def choose(self) -> LargeUpload:
        assert self._chosen is not None
        return self._chosen.choose(self._fields)

    def close(self) -> None:
        for content in (self._chosen, self._content):
            if content is not None:
                content.close()

    async def _take(self, event: Event) -> None:
        if isinstance(event, PartStart):
            await self._start(event)
        elif isinstance(event, PartEnd):
            await self._end(truncated=event.truncated)
        else:
            self._text += event[: FIELD_BYTES_MAX + 1 - len(self._text)]
            if self._content is not None:
                await self._content.write(event)

    async def _start(self, part: PartStart) -> None:
        self._part = part
        self._text.clear()
        if self._chosen is None or (part.filename and not self._has_filename):
            head = form_content_head(part.filename, part.headers)
            decodes = is_quoted_printable(part.headers)
            self._content = await _Content.start(self._context, head, decodes=decodes)

    async def _end(self, *, truncated: bool) -> None:
        content, part = self._content, self._part
        if content is not None:
            if truncated:
                raise FormatError("unexpected EOF")
            await content.finish()
            if self._chosen is not None:
                self._chosen.close()
            self._chosen, self._content = content, None
            self._has_filename = bool(part.filename)
        if is_text_field(part.filename, part.field_name) and not truncated and len(self._text) <= FIELD_BYTES_MAX:
            self._fields.setdefault(part.field_name, go_text(bytes(self._text)))


async def _spooled(work: Awaitable[_T]) -> _T:
    try:
        return await work
    except VolumedError as error:
        raise _spool_error(error) from error


def _spool_error(error: VolumedError) -> SpoolError:
    return SpoolError(f"failed to write to local disk: {error.text}")
