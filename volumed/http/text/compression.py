"""Automatic gzip compression of uploads, decompression for reads (http.md 3.7, 4.4, 4.5)."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from types import ModuleType
from typing import Protocol

from volumed.errors import ClientError
from volumed.formats.needle import Buffer

__all__ = [
    "DECOMPRESSED_BYTES_MAX",
    "Compressor",
    "DecompressedTooLarge",
    "Digest",
    "GunzipStream",
    "NotGzip",
    "gunzip",
    "gzip_if_smaller",
    "gzip_stream",
    "is_compressible",
    "is_gzip",
    "measure_gzip",
    "saves_enough",
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
_STEP_BYTES = 16 << 10
"""Compressed bytes taken at a time; each end of a member copies what is left of a step."""
_PIECE_BYTES = 256 << 10
"""Longest piece that a step gives."""

_COMPRESSIBLE_IMAGE_NAMES = frozenset({".svg", ".bmp", ".wav"})
_ARCHIVE_NAMES = frozenset({".zip", ".rar", ".gz", ".bz2", ".xz", ".zst", ".br"})
_SOURCE_NAMES = frozenset(
    ".pdf .txt .html .htm .css .js .json .php .java .go .rb .c .cpp .h .hpp".split()  # noqa: SIM905
)
_IMAGE_NAMES = frozenset({".png", ".jpg", ".jpeg"})
_COMPRESSIBLE_AUDIO = frozenset({"wave", "wav", "x-wav", "x-pn-wav"})


class Compressor(Protocol):
    """Of ``zlib`` or ``isal``."""

    def compress(self, data: Buffer, /) -> bytes: ...

    def flush(self) -> bytes: ...


class Digest(Protocol):
    """Of ``hashlib``."""

    def update(self, data: Buffer, /) -> None: ...


class NotGzip(ClientError):
    """Data that are said to be gzip and are not."""


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
    return compressed if saves_enough(len(compressed), len(data)) else None


def gzip_stream() -> Compressor:
    """The same for data that come in pieces."""
    stream: Compressor = codec.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    return stream


def saves_enough(compressed_bytes: int, bytes_before: int) -> bool:
    """Whether compressed data are kept (http.md 4.4)."""
    return compressed_bytes * 10 < bytes_before * 9


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


def measure_gzip(data: Buffer, digest: Digest | None, limit: int = DECOMPRESSED_BYTES_MAX) -> int | None:
    """The length of what `gunzip` returns, also told to ``digest``; nothing of it is kept. None as there.

    Raises `DecompressedTooLarge`."""
    stream = GunzipStream(limit)
    size = 0
    try:
        for piece in stream.feed(data):
            size += len(piece)
            if digest is not None:
                digest.update(piece)
    except NotGzip:
        return None
    return size if stream.complete else None


class GunzipStream:
    """`gunzip` for data that come in pieces, with bounded output at a time."""

    def __init__(self, limit: int = DECOMPRESSED_BYTES_MAX) -> None:
        self._limit = limit
        self._size = 0
        self._member = codec.decompressobj(_GZIP_WINDOW)
        self.complete = False
        """A member has ended, and nothing came behind it."""

    def feed(self, data: Buffer) -> Iterator[bytes]:
        """What these bytes decompress to, in pieces. Raises `NotGzip`, `DecompressedTooLarge`."""
        view = memoryview(data)
        for at in range(0, len(view), _STEP_BYTES):
            yield from self._step(bytes(view[at : at + _STEP_BYTES]))

    def _step(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self.complete:
                # Zeros may fill the space behind a member.
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._member = codec.decompressobj(_GZIP_WINDOW)
                self.complete = False
            for piece in self._inflate(data):
                self._size += len(piece)
                if self._size > self._limit:
                    raise DecompressedTooLarge(f"decompressed data over the limited {self._limit} bytes")
                yield piece
            self.complete = self._member.eof
            data = self._member.unused_data if self.complete else b""

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        member = self._member
        try:
            while True:
                piece: bytes = member.decompress(data, _PIECE_BYTES)
                if piece:
                    yield piece
                data = member.unconsumed_tail
                if member.eof or (not data and len(piece) < _PIECE_BYTES):
                    return
        except (codec.error, OSError, EOFError) as error:
            raise NotGzip(str(error)) from error


def _gunzip_members(data: Buffer, length_max: int) -> bytes:
    """Content of several members; data of millions of empty ones take seconds, not hours."""
    with gzip_file(fileobj=io.BytesIO(data)) as file:
        content: bytes = file.read(length_max)
    return content
