"""Automatic gzip compression of uploads, decompression for reads (http.md 3.7, 4.4, 4.5)."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from types import ModuleType

from volumed.errors import ClientError
from volumed.formats.needle import Buffer

__all__ = [
    "DECOMPRESSED_BYTES_MAX",
    "DecompressedTooLarge",
    "gunzip",
    "gzip_if_smaller",
    "is_compressible",
    "is_gzip",
]

codec: ModuleType = zlib
gzip_file: type[gzip.GzipFile] = gzip.GzipFile
# Without the wheel it is slower, and other bytes of the same content.
with contextlib.suppress(ImportError):
    from isal import isal_zlib as codec
    from isal.igzip import IGzipFile as gzip_file

DECOMPRESSED_BYTES_MAX = 2 << 30
_GZIP_WINDOW = 31
"""zlib's way to ask for a gzip header; it writes no time and no name, so equal data give equal bytes."""
_LEVEL = 1

_COMPRESSIBLE_IMAGE_NAMES = frozenset({".svg", ".bmp", ".wav"})
_ARCHIVE_NAMES = frozenset({".zip", ".rar", ".gz", ".bz2", ".xz", ".zst", ".br"})
_SOURCE_NAMES = frozenset(
    ".pdf .txt .html .htm .css .js .json .php .java .go .rb .c .cpp .h .hpp".split()  # noqa: SIM905
)
_IMAGE_NAMES = frozenset({".png", ".jpg", ".jpeg"})
_COMPRESSIBLE_AUDIO = frozenset({"wave", "wav", "x-wav", "x-pn-wav"})


class DecompressedTooLarge(ClientError):
    """Stored or uploaded gzip data that would grow over the limit; answered 413."""


def is_gzip(data: Buffer) -> bool:
    """Whether data start like a gzip member."""
    return bytes(data[:2]) == b"\x1f\x8b"


def is_compressible(name: str, mime: str) -> bool:
    """The table of http.md 4.4; `mime` is the stored or sniffed type without a meaningless octet-stream.

    COMPAT: `name` is compared as a whole, as if it were an extension: `p.json` is not `.json`, a file called
    exactly `.txt` is. Replicas and clients compare sizes, so the decision must be the reference's.
    """
    if mime.startswith("text/") or name in _COMPRESSIBLE_IMAGE_NAMES:
        return True
    if mime.startswith("image/") or name in _ARCHIVE_NAMES:
        return False
    if name in _SOURCE_NAMES:
        return True
    if name in _IMAGE_NAMES:
        return False
    kind, _, subtype = mime.partition("/")
    if kind == "application":
        return subtype.endswith(("xml", "script"))
    return kind == "audio" and subtype in _COMPRESSIBLE_AUDIO


def gzip_if_smaller(data: Buffer) -> bytes | None:
    """The data compressed at the fastest level, or None when that saves less than a tenth."""
    compressed: bytes = codec.compress(data, _LEVEL, _GZIP_WINDOW)
    return compressed if len(compressed) * 10 < len(data) * 9 else None


def gunzip(data: Buffer, limit: int = DECOMPRESSED_BYTES_MAX) -> bytes | None:
    """All gzip members decompressed, or None when the data are something else.

    Raises `DecompressedTooLarge` as soon as more than `limit` bytes come out.
    """
    member = codec.decompressobj(_GZIP_WINDOW)
    try:
        content: bytes = member.decompress(data, limit + 1)
        complete = member.eof
        if complete and member.unused_data:
            content = _gunzip_members(data, limit + 1)
    except (codec.error, OSError, EOFError):
        return None
    if len(content) > limit:
        raise DecompressedTooLarge(f"decompressed data over the limited {limit} bytes")
    return content if complete else None


def _gunzip_members(data: Buffer, length_max: int) -> bytes:
    """Content of several members; data of millions of empty ones take seconds, not hours."""
    with gzip_file(fileobj=io.BytesIO(data)) as file:
        content: bytes = file.read(length_max)
    return content
