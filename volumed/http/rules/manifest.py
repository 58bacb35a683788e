"""Chunk manifests: files stored as several needles (http.md 3.8)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from volumed.errors import FormatError
from volumed.formats.jsonsyntax import syntax_error
from volumed.formats.needle import Buffer, Needle
from volumed.http.text.compression import gunzip
from volumed.http.text.ranges import ByteRange

__all__ = [
    "MANIFEST_BYTES_MAX",
    "Chunk",
    "ChunkManifest",
    "ChunkSlice",
    "map_range",
    "parse_manifest",
    "read_manifest",
]

MANIFEST_BYTES_MAX = 64 << 20
"""Nothing longer is taken for a manifest."""
_COMMAS_MAX = 1_000_000
"""Between values: as many as 300 000 chunks need. Each costs a hundred bytes of memory and some time."""

_INT64_MAX = (1 << 63) - 1
_INTEGER = re.compile("-?[0-9]{1,19}")
_SURROGATES = re.compile("[\ud800-\udfff]")
"""Halves of characters, which escapes may write."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One needle of the file: `size` bytes at `offset`."""

    fid: str = ""
    offset: int = 0
    size: int = 0


_NULL_CHUNK = Chunk("", -1)


@dataclass(frozen=True, slots=True)
class ChunkManifest:
    """`chunks` are in order of their offsets; `size` is what the manifest says, used by DELETE alone."""

    name: str
    mime: str
    size: int
    chunks: tuple[Chunk, ...]

    @property
    def total_length(self) -> int:
        """Bytes of the expanded file."""
        return sum(chunk.size for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class ChunkSlice:
    """`length` bytes from `offset` inside the needle `fid`."""

    fid: str
    offset: int
    length: int


class _Object(list[tuple[str, Any]]):
    """A JSON object: its pairs in order."""


class _Number(str):
    """A JSON number as it is written."""


def parse_manifest(raw: Buffer) -> ChunkManifest:
    """Decode manifest JSON as the reference does: names in any letter case, null for anything, the last of a repeated
    name. Raises `FormatError` with its text. Takes long for a large one."""
    plain = bytes(raw)
    # DEVIATE: the reference takes any number.
    if plain.count(b",") > _COMMAS_MAX:
        raise FormatError("too many chunks")
    try:
        document = json.loads(
            plain.decode("utf-8", "replace"), object_pairs_hook=_Object, parse_int=_Number, parse_float=_Number,
            parse_constant=_no_constant,
        )  # fmt: skip
    except RecursionError:
        raise FormatError("exceeded max depth") from None
    except ValueError:
        raise FormatError(syntax_error(plain) or "invalid JSON") from None
    if document is None:
        return ChunkManifest("", "", 0, ())
    if not isinstance(document, _Object):
        raise FormatError(f"json: cannot unmarshal {_kind(document)} into Go value of type operation.ChunkManifest")
    return _manifest(document)


def read_manifest(needle: Needle) -> ChunkManifest | None:
    """The manifest that a needle holds, decompressed first if need be; None when it holds none, and is to be served as
    it is. Raises `DecompressedTooLarge`.

    DEVIATE: with a negative size or offset, or a chunk that is null, it is none; the reference fails, or crashes.
    """
    plain = gunzip(needle.data, MANIFEST_BYTES_MAX) if needle.is_gzipped else None
    try:
        manifest = parse_manifest(needle.data if plain is None else plain)
    except FormatError:
        return None
    absurd = any(chunk.size < 0 or chunk.offset < 0 for chunk in manifest.chunks)
    return None if absurd or manifest.total_length > _INT64_MAX else manifest


def map_range(manifest: ChunkManifest, wanted: ByteRange) -> list[ChunkSlice]:
    """The parts of chunks that make up a range of the expanded file, in order, without empty ones."""
    slices: list[ChunkSlice] = []
    position, end = 0, wanted.start + wanted.length
    for chunk in manifest.chunks:
        first, last = max(wanted.start, position), min(end, position + chunk.size)
        if first < last:
            slices.append(ChunkSlice(chunk.fid, first - position, last - first))
        position += chunk.size
    return slices


def _manifest(document: _Object) -> ChunkManifest:
    name = mime = ""
    size = 0
    chunks: list[Chunk] = []
    for key, value in document:
        match key.lower():
            case "name":
                name = _text(value, key)
            case "mime":
                mime = _text(value, key)
            case "size":
                size = _int64(value, key)
            case "chunks":
                chunks = _chunks(value, key)
    return ChunkManifest(name, mime, size, tuple(sorted(chunks, key=lambda chunk: chunk.offset)))


def _chunks(value: Any, field: str) -> list[Chunk]:
    if value is None:
        return []
    if isinstance(value, _Object) or not isinstance(value, list):
        raise _mismatch(value, field, "operation.ChunkList")
    return [_chunk(item, f"{field}.{number}") for number, item in enumerate(value)]


def _chunk(value: Any, at: str) -> Chunk:
    if value is None:
        return _NULL_CHUNK
    if not isinstance(value, _Object):
        # COMPAT: the reference words this one differently.
        raise FormatError(f"json: cannot unmarshal {_kind(value)} into ChunkManifest.{at} of type operation.ChunkInfo")
    fid, offset, size = "", 0, 0
    for key, item in value:
        match key.lower():
            case "fid":
                fid = _text(item, f"{at}.{key}")
            case "offset":
                offset = _int64(item, f"{at}.{key}")
            case "size":
                size = _int64(item, f"{at}.{key}")
    return Chunk(fid, offset, size)


def _text(value: Any, field: str) -> str:
    if value is None:
        return ""
    if isinstance(value, _Number) or not isinstance(value, str):
        raise _mismatch(value, field, "string")
    return _SURROGATES.sub("\ufffd", value)


def _int64(value: Any, field: str) -> int:
    if value is None:
        return 0
    if not isinstance(value, _Number):
        raise _mismatch(value, field, "int64")
    digits = _INTEGER.fullmatch(value)
    number = int(digits[0]) if digits else None
    if number is None or not -_INT64_MAX - 1 <= number <= _INT64_MAX:
        raise _mismatch(value, field, "int64", f" {value}")
    return number


def _mismatch(value: Any, field: str, wanted: str, shown: str = "") -> FormatError:
    return FormatError(
        f"json: cannot unmarshal {_kind(value)}{shown} into Go struct field ChunkManifest.{field} of type {wanted}"
    )


def _kind(value: Any) -> str:
    if isinstance(value, _Object):
        return "object"
    if isinstance(value, list):
        return "array"
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, _Number) else "string"


def _no_constant(_: str) -> Any:
    """`NaN` and the like are no JSON."""
    raise ValueError
