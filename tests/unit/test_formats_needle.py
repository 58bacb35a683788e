"""Needle records: layout, verification, and every way in which a stored one can be wrong."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volumed.errors import Corruption, CorruptNeedle
from volumed.formats import needle as codec
from volumed.formats.checksum import crc32c, etag, masked
from volumed.formats.needle import Needle
from volumed.formats.ttl import Ttl

property_test = settings(deadline=None)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
byte = st.integers(0, 255)
versions = st.sampled_from([1, 2, 3])

ALL_FLAGS = 0x3E
"""Every optional part present."""


@st.composite
def needles(draw: st.DrawFn, min_data: int = 0) -> Needle:
    """Needles whose fields are set only where a flag says so, with the right checksum."""
    flags = draw(byte)
    data = draw(st.binary(min_size=min_data, max_size=64))
    return Needle(
        cookie=draw(u32),
        key=draw(u64),
        data=data,
        flags=flags,
        name=draw(st.binary(max_size=255)) if flags & codec.FLAG_NAME else b"",
        mime=draw(st.binary(max_size=255)) if flags & codec.FLAG_MIME else b"",
        last_modified=draw(st.integers(0, 2**40 - 1)) if flags & codec.FLAG_LAST_MODIFIED else 0,
        ttl=Ttl(draw(byte), draw(byte)) if flags & codec.FLAG_TTL else Ttl(),
        pairs=draw(st.binary(max_size=300)) if flags & codec.FLAG_PAIRS else b"",
        checksum=crc32c(data),
        append_at_ns=draw(u64),
    )


def record(version: int = 3, data: bytes = b"0123456789", flags: int = ALL_FLAGS) -> tuple[bytes, int]:
    """A record with all parts, and its S."""
    full = Needle(
        1,
        0xAB,
        0,
        data,
        flags,
        b"name",
        b"mime",
        1_700_000_000,
        Ttl(3, 2),
        b"{}",
        crc32c(data),
        5,
    )
    encoded = codec.encode_record(full, version)
    return encoded, codec.decode_header(encoded)[2]


def failure(buffer: bytes, version: int, size: int, offset: int = 0) -> CorruptNeedle:
    with pytest.raises(CorruptNeedle) as caught:
        codec.decode_record(buffer, version, size, offset)
    return caught.value


def patched(buffer: bytes, at: int, new: bytes) -> bytes:
    return buffer[:at] + new + buffer[at + len(new) :]


@pytest.mark.parametrize("size", range(24))
@pytest.mark.parametrize(("version", "fixed"), [(1, 20), (2, 20), (3, 28)])
def test_lengths(size: int, version: int, fixed: int) -> None:
    padding = codec.padding_length(size, version)
    assert 1 <= padding <= 8
    assert codec.record_length(size, version) == fixed + size + padding == 8 * ((size + fixed) // 8 + 1)


def test_a_tombstone_row_has_the_length_of_an_empty_record() -> None:
    assert codec.record_length(-1, 3) == codec.record_length(0, 3) == 32
    assert codec.record_length(-1, 2) == codec.record_length(0, 1) == 24


def test_masked_checksum() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert masked(0xE3069283) == ((0xE3069283 >> 15 | 0xE3069283 << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32
    assert masked(0) == 0xA282EAD8
    assert etag(0xAB) == "000000ab"


@property_test
@given(needles(min_data=1), st.sampled_from([2, 3]))
def test_round_trip(original: Needle, version: int) -> None:
    encoded = codec.encode_record(original, version)
    _, _, size = codec.decode_header(encoded)
    assert len(encoded) == codec.record_length(size, version)
    original.size = size
    if version == 2:
        original.append_at_ns = 0
    assert codec.decode_record(encoded, version, size) == original


@property_test
@given(needles())
def test_version_1_keeps_the_data_alone(original: Needle) -> None:
    encoded = codec.encode_record(original, 1)
    assert codec.decode_record(encoded, 1, len(original.data)) == Needle(
        original.cookie, original.key, len(original.data), original.data, checksum=original.checksum
    )


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_empty_object_loses_everything_but_its_id(version: int) -> None:
    encoded, size = record(version, data=b"")
    assert size == 0
    found = codec.decode_record(encoded, version, 0)
    assert found == Needle(1, 0xAB, append_at_ns=5 if version == 3 else 0)


@property_test
@given(needles(min_data=1), versions)
def test_the_pieces_of_a_body_are_the_body(original: Needle, version: int) -> None:
    prefix, data, suffix = codec.encode_body(original, version)
    assert data is original.data
    body = b"".join((prefix, data, suffix))
    encoded = codec.encode_record(original, version)
    header = codec.encode_header(original.cookie, original.key, len(body))
    footer = codec.encode_footer(len(body), original.checksum, original.append_at_ns, version)
    assert header + body + footer == encoded
    found = codec.decode_record(encoded, version, len(body))
    found.cookie = found.key = found.checksum = found.append_at_ns = 0
    assert codec.decode_body(body, version) == found


def test_data_is_a_view_of_the_buffer() -> None:
    encoded, size = record()
    found = codec.decode_record(memoryview(encoded), 3, size)
    assert isinstance(found.data, memoryview)
    assert found.data.obj is encoded
    assert isinstance(found.name, bytes)


def test_append_time_offset() -> None:
    encoded, size = record()
    assert struct.unpack_from(">Q", encoded, codec.append_time_offset(size)) == (5,)
    tombstone = codec.encode_tombstone(1, 2, 3, 77, 3)
    assert struct.unpack_from(">Q", tombstone, codec.append_time_offset(-1)) == (77,)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_deletion_row_reads_its_tombstone(version: int) -> None:
    tombstone = codec.encode_tombstone(9, 0x22222222, 0x7BCB56BD, 77, version)
    found = codec.decode_record(tombstone, version, -1)
    assert (found.key, found.cookie, found.checksum, found.size) == (9, 0x22222222, 0x7BCB56BD, 0)


def test_padding_is_written_as_zeros_and_never_read() -> None:
    encoded, size = record()
    padding = codec.padding_length(size, 3)
    assert encoded[-padding:] == bytes(padding)
    scratched = encoded[:-padding] + b"\xff" * padding
    assert codec.decode_record(scratched, 3, size) == codec.decode_record(encoded, 3, size)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_short_read_is_eof(version: int) -> None:
    encoded, size = record(version)
    for length in range(len(encoded)):
        error = failure(encoded[:length], version, size)
        assert (error.kind, error.text) == (Corruption.EOF, "EOF")


def test_another_size_is_a_mismatch() -> None:
    encoded, size = record()
    error = failure(encoded, 3, size - 1, 4096)
    assert error.kind is Corruption.SIZE
    assert error.text == (
        f"size mismatch: entry not found: offset 4096 found id 6162 size {size}, expected size {size - 1}"
    )


@pytest.mark.parametrize("version", [1, 2, 3])
def test_wrong_data_is_a_crc_error(version: int) -> None:
    encoded, size = record(version)
    at = 16 if version == 1 else 20
    error = failure(patched(encoded, at, b"X"), version, size)
    assert error.kind is Corruption.CRC
    assert error.text == (
        f"invalid CRC for needle ab (got {crc32c(b'X123456789'):08x}, want {crc32c(b'0123456789'):08x}), "
        "data on disk corrupted: needle data corrupted"
    )


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_checksum_of_the_old_form_is_accepted_and_reported_raw(version: int) -> None:
    encoded, size = record(version)
    raw = crc32c(b"0123456789")
    old = patched(encoded, 16 + size, masked(raw).to_bytes(4, "big"))
    assert codec.decode_record(old, version, size).checksum == raw


def test_every_flipped_data_bit_is_noticed() -> None:
    encoded, size = record()
    for bit in range(8 * 10):
        at = 20 + bit // 8
        flipped = patched(encoded, at, bytes([encoded[at] ^ 1 << bit % 8]))
        assert failure(flipped, 3, size).kind is Corruption.CRC


# data 10 | flags | 4 "name" | 4 "mime" | last modified | ttl | 2 "{}"
PARTS = {
    "data size": (16, b"\xff\xff\xff\xff", 1),
    "name": (31, b"\xff", 2),
    "mime": (36, b"\xff", 3),
    "pairs": (48, b"\xff\xff", 7),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("version", [2, 3])
def test_a_part_that_runs_over_the_body(part: str, version: int) -> None:
    at, new, number = PARTS[part]
    encoded, size = record(version)
    error = failure(patched(encoded, at, new), version, size)
    assert error.kind is Corruption.BOUNDS
    assert error.text == f"index out of range {number}: needle data corrupted"


def cut_body(length: int) -> bytes:
    """A record whose body is the first `length` bytes of the full one."""
    encoded, _ = record()
    body = encoded[16 : 16 + length]
    footer = codec.encode_footer(length, crc32c(b"0123456789"), 5, 3)
    return codec.encode_header(1, 0xAB, length) + body + footer


@pytest.mark.parametrize(
    ("length", "number"),
    [(1, 1), (3, 1), (4, 1), (13, 1), (16, 2), (19, 2), (21, 3), (26, 4), (29, 4), (31, 5), (33, 6), (35, 7)],
)
def test_a_body_that_ends_inside_a_part(length: int, number: int) -> None:
    error = failure(cut_body(length), 3, length)
    assert error.text == f"index out of range {number}: needle data corrupted"


@pytest.mark.parametrize(
    ("length", "last"),
    [(14, "data"), (15, "flags"), (20, "name"), (25, "mime"), (30, "last_modified"), (32, "ttl"), (36, "pairs")],
)
def test_a_body_may_end_after_any_complete_part(length: int, last: str) -> None:
    found = codec.decode_record(cut_body(length), 3, length)
    order = ["data", "flags", "name", "mime", "last_modified", "ttl", "pairs"]
    present = [field for field in order if getattr(found, field)]
    assert present == order[: order.index(last) + 1]


@pytest.mark.parametrize(
    ("flags", "ttl", "expired_at_ns"),
    [(0x18, Ttl(3, 1), 180 * 10**9 + 7), (0x10, Ttl(3, 1), None), (0x08, Ttl(3, 1), None), (0x18, Ttl(3, 9), None)],
)
def test_expiry_counts_from_the_append(flags: int, ttl: Ttl, expired_at_ns: int | None) -> None:
    stored = Needle(flags=flags, ttl=ttl, last_modified=1, append_at_ns=7)
    if expired_at_ns is None:
        assert not stored.is_expired(2**63)
    else:
        assert not stored.is_expired(expired_at_ns - 1)
        assert stored.is_expired(expired_at_ns)


def test_flag_properties() -> None:
    assert Needle(flags=0x01).is_gzipped
    assert Needle(flags=0x80).is_chunk_manifest
    assert not Needle(flags=0x7E).is_gzipped
    assert not Needle(flags=0x7E).is_chunk_manifest


def test_paged_head_of_another_size() -> None:
    encoded, size = record()
    with pytest.raises(CorruptNeedle) as caught:
        codec.decode_paged_head(encoded, 3, size + 1, 8)
    assert caught.value.text == (
        f"size mismatch for entry at offset 8: found id 6162 size {size}, expected size {size + 1}"
    )


@pytest.mark.parametrize("data_size", [0xFFFFFFFF, 65])
def test_paged_data_size_beyond_the_record(data_size: int) -> None:
    encoded, size = record()
    damaged = patched(encoded, 16, data_size.to_bytes(4, "big"))
    length = len(encoded) - 20 - data_size
    with pytest.raises(CorruptNeedle) as caught:
        codec.decode_paged_head(damaged, 3, size, 8)
    assert caught.value.text == f"invalid needle meta size {length}: DataSize={data_size}, size={size}, offset=8"


def test_paged_data_size_that_leaves_too_much_behind() -> None:
    encoded, size = record(data=bytes(200_000))
    damaged = patched(encoded, 16, bytes(4))
    with pytest.raises(CorruptNeedle) as caught:
        codec.decode_paged_head(damaged, 3, size)
    assert caught.value.text.startswith(f"invalid needle meta size {len(encoded) - 20}: DataSize=0")


def test_paged_data_size_that_reaches_into_the_footer() -> None:
    encoded, size = record()
    damaged = patched(encoded, 16, (size - 3).to_bytes(4, "big"))
    head = codec.decode_paged_head(damaged, 3, size)
    with pytest.raises(CorruptNeedle) as caught:
        codec.decode_body_meta(head, damaged[head.tail_offset :], 3)
    assert caught.value.kind is Corruption.BOUNDS


def test_a_short_paged_read_is_eof() -> None:
    encoded, size = record()
    with pytest.raises(CorruptNeedle, match=r"^EOF$"):
        codec.decode_paged_head(encoded[:19], 3, size)
    head = codec.decode_paged_head(encoded, 3, size)
    with pytest.raises(CorruptNeedle, match=r"^EOF$"):
        codec.decode_body_meta(head, encoded[head.tail_offset : head.tail_offset + 10], 3)


def test_paged_read_reports_the_stored_checksum() -> None:
    encoded, size = record()
    old = patched(encoded, 16 + size, b"\x01\x02\x03\x04")
    head = codec.decode_paged_head(old, 3, size)
    assert codec.decode_body_meta(head, old[head.tail_offset :], 3).checksum == 0x01020304


@property_test
@given(st.binary(max_size=120), versions, st.integers(-(2**31), 2**31 - 1))
def test_nothing_but_corrupt_needle_escapes(raw: bytes, version: int, size: int) -> None:
    for decode in (codec.decode_record, codec.decode_paged_head):
        with contextlib.suppress(CorruptNeedle):
            decode(raw, version, size)
        with contextlib.suppress(CorruptNeedle):
            decode(raw, version, codec.decode_header(raw)[2])


@property_test
@given(needles(min_data=1), versions, st.integers(0), byte)
def test_a_damaged_record_is_read_or_refused(original: Needle, version: int, at: int, new: int) -> None:
    encoded = codec.encode_record(original, version)
    _, _, size = codec.decode_header(encoded)
    damaged = patched(encoded, at % len(encoded), bytes([new]))
    with contextlib.suppress(CorruptNeedle):
        assert codec.decode_record(damaged, version, size).data == original.data


@property_test
@given(st.binary(max_size=80), versions)
def test_an_arbitrary_body_is_read_or_refused(body: bytes, version: int) -> None:
    with contextlib.suppress(CorruptNeedle):
        assert len(codec.decode_body(body, version).data) <= len(body)


@property_test
@given(st.binary(max_size=60), st.integers(0, 100), st.sampled_from([2, 3]))
def test_an_arbitrary_tail_is_read_or_refused(tail: bytes, data_size: int, version: int) -> None:
    for size in range(4, 60, 5):
        start = codec.encode_header(1, 2, size) + data_size.to_bytes(4, "big")
        with contextlib.suppress(CorruptNeedle):
            codec.decode_body_meta(codec.decode_paged_head(start, version, size), tail, version)
