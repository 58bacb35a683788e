"""JPEG images turned upright before they are stored, with ``-images.fix.orientation`` (http.md 4.3)."""

from __future__ import annotations

import logging

from volumed.errors import NodeError, RetryError
from volumed.formats.needle import Buffer
from volumed.formats.numbers import go_text
from volumed.http.rules.upload import ParsedUpload
from volumed.images.job import ImageJob
from volumed.images.service import ImageService

__all__ = ["may_need_turning", "turn_upright"]

_log = logging.getLogger(__name__)

_JPEG_NAMES = (b".jpg", b".jpeg")
_JPEG_MIME = b"image/jpeg"
_JPEG_START = b"\xff\xd8"
_EXIF_START = b"Exif\0\0"
_EXIF_WITHIN_BYTES = 256 << 10
"""EXIF data come first; a thumbnail or a colour profile may stand before them."""


def may_need_turning(upload: ParsedUpload) -> bool:
    """Whether an upload is a JPEG by type or name, and has EXIF data."""
    if upload.mime != _JPEG_MIME and not (upload.name or b"").lower().endswith(_JPEG_NAMES):
        return False
    start = bytes(upload.data[:_EXIF_WITHIN_BYTES])
    return start.startswith(_JPEG_START) and _EXIF_START in start


async def turn_upright(images: ImageService, upload: ParsedUpload) -> None:
    """Replace the data of an upload that lies on its side or is mirrored; its size and MD5 stay those received.

    An image that cannot be turned, for whatever reason, is stored as it is: the upload counts, and clients that know
    EXIF show it upright anyway.
    """
    if not may_need_turning(upload):
        return

    async def load() -> Buffer:
        return upload.data

    try:
        turned = await images.transform(len(upload.data), load, ImageJob(upright=True))
    except (NodeError, RetryError) as error:
        _log.warning("%s is stored as it lies: %s", go_text(upload.name or b""), error.text)
        return
    if turned is not None:
        upload.data = turned
