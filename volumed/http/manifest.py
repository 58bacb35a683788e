"""Chunk manifests: files stored as several needles (http.md 3.8)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from volumed.formats.needle import Buffer, Needle
from volumed.http.compression import gunzip
from volumed.http.ranges import ByteRange

__all__ = ["Chunk", "ChunkManifest", "ChunkSlice", "map_range", "parse_manifest", "read_manifest"]

_INT64_MAX = (1 << 63) - 1


class Chunk(msgspec.Struct, frozen=True):
    """One needle of the file: `size` bytes at `offset`."""

    fid: str = ""
    offset: int = 0
    size: int = 0


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


class _Wire(msgspec.Struct):
    name: str | None = None
    mime: str | None = None
    size: int | None = None
    chunks: list[Chunk] | None = None


def parse_manifest(raw: Buffer) -> ChunkManifest | None:
    """Decode manifest JSON; None when it is not one (the needle is then served as it is).

    DEVIATE: a negative size makes it none; the reference answers with a negative length or not at all.
    """
    try:
        wire = msgspec.json.decode(bytes(raw).decode("utf-8", "replace"), type=_Wire)
    except msgspec.DecodeError:
        return None
    chunks = tuple(sorted(wire.chunks or (), key=lambda chunk: chunk.offset))
    sizes = [chunk.size for chunk in chunks]
    if any(size < 0 for size in sizes) or sum(sizes) > _INT64_MAX:
        return None
    return ChunkManifest(wire.name or "", wire.mime or "", wire.size or 0, chunks)


def read_manifest(needle: Needle) -> ChunkManifest | None:
    """The manifest that a needle holds, decompressed first if need be. Raises `DecompressedTooLarge`."""
    plain = gunzip(needle.data) if needle.is_gzipped else None
    return parse_manifest(needle.data if plain is None else plain)


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
