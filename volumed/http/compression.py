"""Automatic gzip compression of uploads, decompression for reads (http.md 3.7, 4.4, 4.5)."""

from __future__ import annotations

import contextlib
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
# Without the wheel it is slower, and other bytes of the same content.
with contextlib.suppress(ImportError):
    from isal import isal_zlib as codec

DECOMPRESSED_BYTES_MAX = 2 << 30
_GZIP_WINDOW = 31
"""zlib's way to ask for a gzip header; it writes no time and no name, so equal data give equal bytes."""
_LEVEL = 1
_FIRST_OUTPUT_BYTES = 1 << 20

_COMPRESSIBLE_NAMES = frozenset({".svg", ".bmp", ".wav"})
_SOURCE_NAMES = frozenset(
    ".pdf .txt .html .htm .css .js .json .php .java .go .rb .c .cpp .h .hpp".split()  # noqa: SIM905
)
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
    if mime.startswith("text/") or name in _COMPRESSIBLE_NAMES:
        return True
    if mime.startswith("image/"):
        return False
    if name in _SOURCE_NAMES:
        return True
    kind, _, subtype = mime.partition("/")
    if kind == "application":
        return subtype.endswith(("xml", "script"))
    return kind == "audio" and subtype in _COMPRESSIBLE_AUDIO


def gzip_if_smaller(data: Buffer) -> bytes | None:
    """The data compressed at the fastest level, or None when that saves less than a tenth."""
    compressed: bytes = codec.compress(data, _LEVEL, _GZIP_WINDOW)
    return compressed if len(compressed) * 10 < len(data) * 9 else None


def gunzip(data: Buffer, limit: int = DECOMPRESSED_BYTES_MAX) -> bytes | None:
    """All gzip members decompressed, or None when the data are not exactly that.

    Raises `DecompressedTooLarge` as soon as more than `limit` bytes come out.
    """
    parts: list[bytes] = []
    room = limit
    rest: Buffer = data
    while rest:
        try:
            part, rest = _gunzip_member(rest, room)
        except (codec.error, EOFError):
            return None
        parts.append(part)
        room -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts) or None


def _gunzip_member(data: Buffer, room: int) -> tuple[bytes, bytes]:
    """(content, what follows the member)."""
    member = codec.decompressobj(_GZIP_WINDOW)
    content: bytes = member.decompress(data, room + 1)
    if len(content) > room:
        raise DecompressedTooLarge(f"decompressed data over the limited {room} bytes")
    if not member.eof:
        raise EOFError
    return content, member.unused_data
