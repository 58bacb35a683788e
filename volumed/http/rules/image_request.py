"""Which requests ask for another image than the stored one (http.md 3.9)."""

from __future__ import annotations

import re

from volumed.formats.needle import Needle
from volumed.formats.numbers import go_text
from volumed.http.protocol.message import Request
from volumed.http.rules.manifest import ChunkManifest
from volumed.http.text.mime import extension
from volumed.http.text.paths import ParsedPath
from volumed.http.text.query import Form
from volumed.images.job import Box, Encoding, ImageJob

__all__ = ["file_image_job", "image_job", "needle_image_job"]

_ENCODINGS: dict[str, Encoding] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".gif": "gif",
    # COMPAT: what is asked for as WebP is sent as PNG.
    ".webp": "png",
}
_NOT_CROPPED = ".webp"
_MODES = frozenset({"fit", "fill"})
_NUMBER = re.compile(r"[+-]?[0-9]+")
_INT64_MAX = (1 << 63) - 1
_INT64_DIGITS = 19


def image_job(ext: str, query: Form) -> ImageJob | None:
    """What is to be done to a file with this extension (dot included); None: nothing."""
    ext = ext.lower()
    encoding = _ENCODINGS.get(ext)
    if encoding is None or not query:
        return None
    crop = _crop(query) if ext != _NOT_CROPPED else None
    width, height = _number(query, "width"), _number(query, "height")
    if width <= 0 and height <= 0:
        width = height = 0
        if crop is None:
            return None
    mode = query.get("mode", "")
    return ImageJob(encoding, crop, width, height, mode if mode in _MODES else "")


def needle_image_job(
    request: Request, query: Form, path: ParsedPath, needle: Needle, *, paged: bool
) -> ImageJob | None:
    """The same for a stored file. ``paged``: it is large, neither compressed nor a manifest (http.md 3.3)."""
    if paged:
        # COMPAT: such a file is streamed before its name is known, and only its length is looked up for HEAD.
        return None if request.method == "HEAD" else image_job(path.ext, query)
    ext = path.ext
    if not ext and not path.filename:
        ext = extension(go_text(needle.name))
    if needle.is_gzipped and ext != ext.lower() and b"gzip" in request.headers.get(b"accept-encoding", b""):
        # COMPAT: whether to decompress is decided by the extension as it is written.
        return None
    return image_job(ext, query)


def file_image_job(query: Form, path: ParsedPath, manifest: ChunkManifest) -> ImageJob | None:
    """The same for an expanded chunk manifest."""
    return image_job(path.ext or extension(path.filename or manifest.name), query)


def _crop(query: Form) -> Box | None:
    left, top, right, bottom = (_number(query, f"crop_{side}") for side in ("x1", "y1", "x2", "y2"))
    return (left, top, right, bottom) if 0 <= left < right and 0 <= top < bottom else None


def _number(query: Form, name: str) -> int:
    """A decimal number; 0 when it is none, the largest or smallest of 64 bits when it is beyond (COMPAT)."""
    text = query.get(name, "")
    if not text or not _NUMBER.fullmatch(text):
        return 0
    digits = text.lstrip("+-").lstrip("0")
    value = min(int(digits or "0"), _INT64_MAX) if len(digits) <= _INT64_DIGITS else _INT64_MAX
    return -value if text.startswith("-") else value
