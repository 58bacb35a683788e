"""The icons of the status pages (http.md 6.4), drawn here: a stack of three disks."""

from __future__ import annotations

import struct
import zlib
from functools import cache

__all__ = ["static_file"]

_COLOURS = (b"\x00\x00\x00\x00", b"\x1f\x6f\x8b\xff")


@cache
def static_file(path: str) -> tuple[bytes, bytes] | None:
    """(content type, content) of a static path; None when there is no such file."""
    if path == "/favicon.ico":
        icon = _draw(32)
        entry = struct.pack("<HHHBBBBHHII", 0, 1, 1, 32, 32, 0, 0, 1, 32, len(icon), 22)
        return b"image/x-icon", entry + icon
    if path == "/seaweedfsstatic/seaweed50x50.png":
        return b"image/png", _draw(50)
    return None


def _draw(side: int) -> bytes:
    """A PNG of three bars."""
    rows = []
    for y in range(side):
        inside = y * 7 // side in (1, 3, 5)
        margin = side // 8
        row = b"".join(_COLOURS[inside and margin <= x < side - margin] for x in range(side))
        rows.append(b"\0" + row)
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
