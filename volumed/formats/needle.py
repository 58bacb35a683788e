"""Needle records of a `.dat` file (docs/spec/storage.md 3).

A record is a header (16 bytes), a body of `S` bytes, and a footer (checksum, append time in version 3,
padding). In names, *size* is always `S` and *length* counts whole records or buffers, both in bytes.

Reading gives slices of the buffer that was passed in: pass a `memoryview` to get the data without a copy.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

import msgspec

from volumed.errors import CorruptNeedle
from volumed.formats.checksum import crc32c, matches
from volumed.formats.ttl import NO_TTL, Ttl

__all__ = [
    "FLAG_CHUNK_MANIFEST",
    "FLAG_GZIP",
    "FLAG_LAST_MODIFIED",
    "FLAG_MIME",
    "FLAG_NAME",
    "FLAG_PAIRS",
    "FLAG_TTL",
    "HEADER_LENGTH",
    "PAGED_HEAD_LENGTH",
    "PAGED_SIZE_MIN",
    "Buffer",
    "Needle",
    "PagedHead",
    "append_time_offset",
    "decode_body",
    "decode_body_meta",
    "decode_header",
    "decode_paged_head",
    "decode_record",
    "encode_body",
    "encode_body_frame",
    "encode_footer",
    "encode_header",
    "encode_record",
    "encode_tombstone",
    "padding_length",
    "record_length",
]

Buffer = bytes | bytearray | memoryview

FLAG_GZIP = 0x01
FLAG_NAME = 0x02
FLAG_MIME = 0x04
FLAG_LAST_MODIFIED = 0x08
FLAG_TTL = 0x10
FLAG_PAIRS = 0x20
FLAG_CHUNK_MANIFEST = 0x80

HEADER_LENGTH = 16
PAGED_HEAD_LENGTH = 20
"""Header and data size: what a paged read starts with."""
PAGED_SIZE_MIN = 1 << 20
"""Only needles with a larger S are read page by page."""
PAGED_TAIL_LENGTH_MAX = 128 << 10

_ALIGNMENT = 8
_CHECKSUM_LENGTH = 4
_NS_PER_MINUTE = 60 * 10**9

_HEADER = Struct(">IQi")
_PAGED_HEAD = Struct(">IQiI")
_U16 = Struct(">H")
_U32 = Struct(">I")
_FOOTER_V2 = Struct(">I")
_FOOTER_V3 = Struct(">IQ")
_FOOTER_LENGTH = {1: _FOOTER_V2.size, 2: _FOOTER_V2.size, 3: _FOOTER_V3.size}
_FIXED_LENGTH = {version: HEADER_LENGTH + footer for version, footer in _FOOTER_LENGTH.items()}
"""Bytes of a record that are neither body nor padding, by version."""
_ZEROS = [bytes(length) for length in range(_ALIGNMENT + 1)]


class Needle(msgspec.Struct, gc=False):
    """One stored object. Optional parts are present exactly when `flags` says so, even if empty."""

    cookie: int = 0
    key: int = 0
    size: int = 0
    """S as read from the header; ignored when encoding."""
    data: Buffer = b""
    """As stored: compressed when `FLAG_GZIP` is set."""
    flags: int = 0
    name: bytes = b""
    mime: bytes = b""
    last_modified: int = 0
    """Seconds since 1970, 40 bits."""
    ttl: Ttl = NO_TTL
    pairs: bytes = b""
    """JSON object of the upload's extra headers."""
    checksum: int = 0
    """Raw CRC-32C of the data; after a paged read and in a tombstone whatever is stored."""
    append_at_ns: int = 0
    """Version 3 only, else 0."""

    @property
    def is_gzipped(self) -> bool:
        return bool(self.flags & FLAG_GZIP)

    @property
    def is_chunk_manifest(self) -> bool:
        return bool(self.flags & FLAG_CHUNK_MANIFEST)

    def is_expired(self, now_ns: int) -> bool:
        """Whether its own TTL has passed; the clock starts at the append, not at last modified (6.4)."""
        wanted = FLAG_TTL | FLAG_LAST_MODIFIED
        if self.flags & wanted != wanted or not self.ttl:
            return False
        return now_ns >= self.append_at_ns + self.ttl.minutes * _NS_PER_MINUTE


class PagedHead(NamedTuple):
    """What the first bytes of a large record say, in bytes; `tail_offset` counts from the record's start."""

    cookie: int
    key: int
    size: int
    data_size: int
    tail_offset: int
    tail_length: int
    """From the end of the data to the end of the record."""


# Lengths


def padding_length(size: int, version: int) -> int:
    """Padding of a record: 1 to 8 bytes, never 0 (3.3)."""
    return _ALIGNMENT - (size + _FIXED_LENGTH[version]) % _ALIGNMENT


def record_length(size: int, version: int) -> int:
    """Length of the record whose header or index row has this size; a negative one is a tombstone's."""
    # PERF: called for every read; setting the low three bits and adding 1 is the next multiple of 8 above.
    return ((size if size > 0 else 0) + _FIXED_LENGTH[version] | _ALIGNMENT - 1) + 1


def append_time_offset(size: int) -> int:
    """Where the 8 bytes of the append time lie in a version 3 record."""
    return HEADER_LENGTH + max(size, 0) + _CHECKSUM_LENGTH


# Writing


def encode_header(cookie: int, key: int, size: int) -> bytes:
    """The 16 bytes before a body of `size` bytes (below 2 GiB, else `struct.error`)."""
    return _HEADER.pack(cookie, key, size)


def encode_body(needle: Needle, version: int) -> tuple[bytes, Buffer, bytes]:
    """The body as (prefix, data, suffix), so that large data is not copied; S is the sum of their lengths.

    Empty data has no body: everything but cookie and key is lost. Version 1 keeps the data alone.
    Name and mime must be shorter than 256 bytes and pairs than 65536, else `ValueError` or `struct.error`:
    uploads drop longer ones before (3.2).
    """
    prefix, suffix = encode_body_frame(needle, len(needle.data), version)
    return prefix, needle.data, suffix


def encode_body_frame(needle: Needle, data_length: int, version: int) -> tuple[bytes, bytes]:
    """(prefix, suffix) of a body whose data are elsewhere; like `encode_body`."""
    if not data_length or version == 1:
        return b"", b""
    return _U32.pack(data_length), _encode_meta(needle)


def _encode_meta(needle: Needle) -> bytes:
    flags = needle.flags
    meta = bytearray((flags,))
    if flags & FLAG_NAME:
        meta.append(len(needle.name))
        meta += needle.name
    if flags & FLAG_MIME:
        meta.append(len(needle.mime))
        meta += needle.mime
    if flags & FLAG_LAST_MODIFIED:
        meta += (needle.last_modified & 0xFF_FFFF_FFFF).to_bytes(5, "big")
    if flags & FLAG_TTL:
        meta += needle.ttl.to_bytes()
    if flags & FLAG_PAIRS:
        meta += _U16.pack(len(needle.pairs))
        meta += needle.pairs
    return bytes(meta)


def encode_footer(size: int, checksum: int, append_at_ns: int, version: int) -> bytes:
    """Checksum, append time (version 3) and padding after a body of `size` bytes."""
    # The reference leaves scratch bytes in the padding; readers must not look at it, so zeros do.
    padding = _ZEROS[padding_length(size, version)]
    if version == 3:
        return _FOOTER_V3.pack(checksum, append_at_ns) + padding
    return _FOOTER_V2.pack(checksum) + padding


def encode_record(needle: Needle, version: int) -> bytes:
    """The whole record, with the needle's checksum and append time as they are."""
    body = b"".join(encode_body(needle, version))
    size = len(body)
    return b"".join(
        (
            encode_header(needle.cookie, needle.key, size),
            body,
            encode_footer(size, needle.checksum, needle.append_at_ns, version),
        )
    )


def encode_tombstone(key: int, cookie: int, checksum: int, append_at_ns: int, version: int) -> bytes:
    """The record that a delete appends (3.5)."""
    return encode_header(cookie, key, 0) + encode_footer(0, checksum, append_at_ns, version)


# Reading


def decode_header(buffer: Buffer, position: int = 0) -> tuple[int, int, int]:
    """(cookie, key, S) of the header at `position`. Raises `CorruptNeedle` (eof)."""
    if len(buffer) - position < HEADER_LENGTH:
        raise CorruptNeedle.eof()
    cookie, key, size = _HEADER.unpack_from(buffer, position)
    return cookie, key, size


def decode_record(buffer: Buffer, version: int, expected_size: int, offset: int = 0) -> Needle:
    """The needle whose record starts the buffer, size, layout and checksum verified.

    `expected_size` is that of the index row; a negative one (a deletion) reads a tombstone. `offset` is the
    place in the file, for error texts. Raises `CorruptNeedle`. The key is not compared with anything (3.7).
    """
    if expected_size < 0:
        expected_size = 0
    if len(buffer) < record_length(expected_size, version):
        raise CorruptNeedle.eof()
    cookie, key, size = _HEADER.unpack_from(buffer)
    if size != expected_size:
        raise CorruptNeedle.size_mismatch(offset, key, size, expected_size)
    needle = Needle(cookie, key, size)
    footer = HEADER_LENGTH + size
    if version == 3:
        stored, needle.append_at_ns = _FOOTER_V3.unpack_from(buffer, footer)
    else:
        (stored,) = _FOOTER_V2.unpack_from(buffer, footer)
    needle.checksum = stored
    if size:
        _read_body(needle, buffer, HEADER_LENGTH, footer, version)
        calculated = needle.checksum = crc32c(needle.data)
        if calculated != stored and not matches(calculated, stored):
            raise CorruptNeedle.crc(key, calculated, stored)
    return needle


def decode_body(body: Buffer, version: int) -> Needle:
    """The needle of a body alone; cookie, key, checksum and append time are not in it and stay 0."""
    needle = Needle(size=len(body))
    if needle.size:
        _read_body(needle, body, 0, needle.size, version)
    return needle


def decode_paged_head(buffer: Buffer, version: int, expected_size: int, offset: int = 0) -> PagedHead:
    """First step of a paged read (versions 2 and 3): check the head and find the tail.

    `buffer` holds the first `PAGED_HEAD_LENGTH` bytes of the record. Raises `CorruptNeedle`.
    """
    if len(buffer) < PAGED_HEAD_LENGTH:
        raise CorruptNeedle.eof()
    cookie, key, size, data_size = _PAGED_HEAD.unpack_from(buffer)
    if size != expected_size:
        raise CorruptNeedle.paged_size_mismatch(offset, key, size, expected_size)
    tail_offset = PAGED_HEAD_LENGTH + data_size
    tail_length = record_length(size, version) - tail_offset
    if not 0 <= tail_length <= PAGED_TAIL_LENGTH_MAX:
        raise CorruptNeedle.meta_size(tail_length, data_size, size, offset)
    return PagedHead(cookie, key, size, data_size, tail_offset, tail_length)


def decode_body_meta(head: PagedHead, tail: Buffer, version: int) -> Needle:
    """Second step of a paged read: everything but the data, whose length is `head.data_size`.

    The checksum is the stored one, unverified. Raises `CorruptNeedle`.
    """
    end = HEADER_LENGTH + head.size - head.tail_offset
    if end < 0:
        raise CorruptNeedle.out_of_range(1)
    if len(tail) < end + _FOOTER_LENGTH[version]:
        raise CorruptNeedle.eof()
    needle = Needle(head.cookie, head.key, head.size)
    _read_meta(needle, tail, 0, end)
    if version == 3:
        needle.checksum, needle.append_at_ns = _FOOTER_V3.unpack_from(tail, end)
    else:
        (needle.checksum,) = _FOOTER_V2.unpack_from(tail, end)
    return needle


def _read_body(needle: Needle, buffer: Buffer, at: int, end: int, version: int) -> None:
    if version == 1:
        needle.data = buffer[at:end]
        return
    if end - at < _U32.size:
        raise CorruptNeedle.out_of_range(1)
    data_at = at + _U32.size
    data_end = data_at + _U32.unpack_from(buffer, at)[0]
    if data_end > end:
        raise CorruptNeedle.out_of_range(1)
    needle.data = buffer[data_at:data_end]
    if data_end < end:
        _read_meta(needle, buffer, data_end, end)


def _read_meta(needle: Needle, buffer: Buffer, at: int, end: int) -> None:
    """Flags and optional parts in `buffer[at:end]`, which may end after any complete part."""
    if at >= end:
        return
    needle.flags = flags = buffer[at]
    at += 1
    if flags & FLAG_NAME and at < end:
        at, needle.name = _read_part(buffer, at + 1, buffer[at], end, 2)
    if flags & FLAG_MIME and at < end:
        at, needle.mime = _read_part(buffer, at + 1, buffer[at], end, 3)
    if flags & FLAG_LAST_MODIFIED and at < end:
        at, seconds = _read_part(buffer, at, 5, end, 4)
        needle.last_modified = int.from_bytes(seconds, "big")
    if flags & FLAG_TTL and at < end:
        at, ttl = _read_part(buffer, at, 2, end, 5)
        needle.ttl = Ttl.from_bytes(ttl)
    if flags & FLAG_PAIRS and at < end:
        at, length = _read_part(buffer, at, 2, end, 6)
        at, needle.pairs = _read_part(buffer, at, int.from_bytes(length, "big"), end, 7)


def _read_part(buffer: Buffer, at: int, length: int, end: int, part: int) -> tuple[int, bytes]:
    """(position behind, bytes) of one part; `part` is its number in the error text."""
    stop = at + length
    if stop > end:
        raise CorruptNeedle.out_of_range(part)
    return stop, bytes(buffer[at:stop])
