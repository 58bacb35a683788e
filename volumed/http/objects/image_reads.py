"""Cropped and resized images as answers to GET and HEAD (http.md 3.9)."""

from __future__ import annotations

import asyncio

from volumed.formats.needle import Buffer
from volumed.http.objects.chunked_file import ChunkedFile, ChunkError
from volumed.http.objects.needle_source import StoredNeedle
from volumed.http.objects.node import Node
from volumed.http.protocol.message import Request
from volumed.http.rules.image_request import file_image_job, needle_image_job
from volumed.http.rules.manifest import ChunkManifest
from volumed.http.rules.read_decision import Representation, stored_representation
from volumed.http.text.compression import DecompressedTooLarge
from volumed.http.text.paths import ParsedPath
from volumed.http.text.query import Form
from volumed.http.text.ranges import ByteRange
from volumed.images.service import SOURCE_BYTES_MAX

__all__ = ["transformed_file", "transformed_needle"]


async def transformed_needle(
    request: Request, node: Node, query: Form, path: ParsedPath, stored: StoredNeedle
) -> Representation | None:
    """The image asked for; None when the file is sent as if none had been.

    Raises what `ImageService.transform` and reading the file do.
    """
    needle = stored.needle
    job = needle_image_job(request, query, path, needle, paged=stored.is_paged)
    if job is None:
        return None
    plain: Representation | None = None
    if needle.is_gzipped:
        try:
            plain = await asyncio.to_thread(stored_representation, needle, b"", SOURCE_BYTES_MAX)
        except DecompressedTooLarge:
            return None

    async def load() -> Buffer:
        await stored.load()
        return needle.data if plain is None else plain.data or b""

    image = await node.images.transform(stored.data_size if plain is None else plain.size, load, job)
    return plain if image is None else Representation(len(image), image)


async def transformed_file(
    node: Node, query: Form, path: ParsedPath, manifest: ChunkManifest, file: ChunkedFile
) -> Representation | None:
    """The same for an expanded chunk manifest. One whose chunks cannot be read is left to those who send it."""
    job = file_image_job(query, path, manifest)
    if job is None:
        return None

    async def load() -> Buffer:
        return b"".join([bytes(piece) async for piece in file.read(ByteRange(0, manifest.total_length))])

    try:
        image = await node.images.transform(manifest.total_length, load, job)
    except ChunkError:
        return None
    return None if image is None else Representation(len(image), image)
