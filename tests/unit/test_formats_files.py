"""Superblock, index rows, `.vif` and the heartbeat report."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volumed.errors import FormatError
from volumed.formats import idx
from volumed.formats.replication import ReplicaPlacement
from volumed.formats.report import VolumeReport, volume_hash, volumes_digest
from volumed.formats.superblock import SUPERBLOCK_LENGTH_MAX, SuperBlock
from volumed.formats.ttl import Ttl
from volumed.formats.vif import EcShardConfig, RemoteFile, VolumeInfo, decode_vif, encode_vif

property_test = settings(deadline=None)
u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
byte = st.integers(0, 255)


# Superblock


@property_test
@given(st.sampled_from([2, 3]), byte, byte, byte, u16, st.binary(max_size=50))
def test_superblock_round_trip(
    version: int, placement: int, count: int, unit: int, revision: int, extra: bytes
) -> None:
    block = SuperBlock(version, ReplicaPlacement.from_byte(placement), Ttl(count, unit), revision, extra)
    encoded = block.encode()
    assert len(encoded) == block.length == 8 + len(extra)
    assert SuperBlock.decode(encoded + b"records") == block


def test_new_superblock() -> None:
    assert SuperBlock().encode() == bytes.fromhex("0300000000000000")
    assert replace(SuperBlock(), compaction_revision=65536).encode()[4:6] == b"\0\0"


def test_version_1_has_no_extra_part() -> None:
    block = SuperBlock.decode(bytes.fromhex("0100000000000005") + b"12345")
    assert (block.length, block.extra) == (8, b"")
    assert SuperBlock(1, extra=b"lost").encode() == bytes.fromhex("0100000000000000")


def test_the_longest_superblock_is_read_at_once() -> None:
    assert SuperBlock(extra=bytes(65535)).length == SUPERBLOCK_LENGTH_MAX


@pytest.mark.parametrize("version", [0, 4, 255])
def test_superblock_of_an_unknown_version(version: int) -> None:
    text = f"volume super block version {version} is not supported"
    with pytest.raises(FormatError, match=text):
        SuperBlock.decode(bytes([version]) + bytes(7))
    with pytest.raises(FormatError, match=text):
        SuperBlock(version).encode()


@property_test
@given(st.binary(max_size=20))
def test_superblock_of_arbitrary_bytes(raw: bytes) -> None:
    with contextlib.suppress(FormatError):
        assert SuperBlock.decode(raw).length <= len(raw)


@property_test
@given(st.binary(max_size=60), st.sampled_from([4, 5]))
def test_index_of_arbitrary_bytes(raw: bytes, width: int) -> None:
    with contextlib.suppress(FormatError):
        assert idx.pack_rows(idx.iter_rows(raw, width), width) == raw


# Index rows

rows_of = {
    width: st.lists(
        st.tuples(
            u64,
            st.integers(0, idx.MAX_VOLUME_SIZE[width] // 8 - 1).map(lambda unit: unit * 8),
            st.integers(-(2**31), 2**31 - 1),
        ),
        max_size=20,
    )
    for width in (4, 5)
}


@pytest.mark.parametrize("width", [4, 5])
@property_test
@given(st.data())
def test_rows_round_trip(width: int, data: st.DataObject) -> None:
    rows = data.draw(rows_of[width])
    packed = idx.pack_rows(rows, width)
    assert len(packed) == len(rows) * idx.ROW_LENGTH[width]
    assert idx.row_count(len(packed), width) == len(rows)
    assert list(idx.iter_rows(packed, width)) == rows
    length = idx.ROW_LENGTH[width]
    assert [idx.unpack_row(packed, at * length, width) for at in range(len(rows))] == rows
    keys, offsets, sizes = idx.decode_rows(packed, width)
    assert list(zip(keys.tolist(), offsets.tolist(), sizes.tolist(), strict=True)) == rows
    assert [str(array.dtype) for array in (keys, offsets, sizes)] == ["uint64", "int64", "int32"]
    assert idx.encode_rows(keys, offsets, sizes, width) == packed


def test_the_fifth_offset_byte_is_the_highest_and_comes_last() -> None:
    row = idx.pack_row(1, 0xAB_0102_0304 * 8, -1)
    assert row.hex() == "0000000000000001" + "01020304" + "ab" + "ffffffff"
    assert idx.pack_row(1, 0x01020304 * 8, 7, 4).hex() == "0000000000000001" + "01020304" + "00000007"


@pytest.mark.parametrize(("width", "offset"), [(5, 12), (5, 1 << 43), (4, 1 << 35), (5, -8)])
def test_an_offset_that_no_row_can_hold(width: int, offset: int) -> None:
    import numpy as np

    with pytest.raises(ValueError, match="no index row can hold"):
        idx.pack_row(1, offset, 1, width)
    keys, sizes = np.array([1], np.uint64), np.array([1], np.int32)
    with pytest.raises(ValueError, match="no index row can hold"):
        idx.encode_rows(keys, np.array([offset], np.int64), sizes, width)


@pytest.mark.parametrize("width", [4, 5])
@pytest.mark.parametrize("extra", [1, 15])
def test_an_index_that_ends_inside_a_row(width: int, extra: int) -> None:
    raw = bytes(idx.ROW_LENGTH[width] + extra)
    text = f"index file's size is {len(raw)} bytes, maybe corrupted"
    for decode in (idx.iter_rows, idx.decode_rows):
        with pytest.raises(FormatError, match=text):
            decode(raw, width)
    with pytest.raises(FormatError, match=text):
        idx.unpack_row(raw, idx.ROW_LENGTH[width], width)


@pytest.mark.parametrize(
    ("offset", "size", "live"), [(8, 5, True), (8, 0, True), (8, -1, False), (8, -9, False), (0, 5, False)]
)
def test_meaning_of_a_row(offset: int, size: int, live: bool) -> None:
    assert idx.is_live(offset, size) is live


# .vif


def volume_infos() -> st.SearchStrategy[VolumeInfo]:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
    i64 = st.integers(-(2**63), 2**63 - 1)
    remote = st.builds(RemoteFile, text, text, text, u64, u64, u64, text)
    shards = st.builds(EcShardConfig, u32, u32, i64, i64)
    unknown = st.dictionaries(text.map("x".__add__), st.none() | st.booleans() | text | st.lists(u32))
    return st.builds(
        VolumeInfo,
        st.lists(remote, max_size=2).map(tuple),
        u32,
        text,
        u32,
        i64,
        u64,
        st.booleans(),
        st.none() | shards,
        st.booleans(),
        unknown,
    )


@property_test
@given(volume_infos())
def test_vif_round_trip(info: VolumeInfo) -> None:
    assert decode_vif(encode_vif(info)) == info


def test_remote_files_are_laid_out_like_the_rest() -> None:
    info = VolumeInfo(files=(RemoteFile("s3", "default", "k", 0, 12, 1_700_000_000, ".dat"),))
    assert encode_vif(info).decode().splitlines()[:12] == [
        "{",
        '  "files":  [',
        "    {",
        '      "backendType":  "s3",',
        '      "backendId":  "default",',
        '      "key":  "k",',
        '      "offset":  "0",',
        '      "fileSize":  "12",',
        '      "modifiedTime":  "1700000000",',
        '      "extension":  ".dat"',
        "    }",
        "  ],",
    ]


def test_unknown_fields_survive_a_rewrite_at_every_level() -> None:
    raw = b'{"new":{"a":[1,null]},"files":[{"key":"k","tier":2}],"ecShardConfig":{"dataShards":3,"x":"y"}}'
    info = decode_vif(raw)
    assert info.intact
    written = json.loads(encode_vif(replace(info, read_only=True)))
    assert written["new"] == {"a": [1, None]}
    assert written["files"][0]["tier"] == 2
    assert written["ecShardConfig"]["x"] == "y"
    assert written["readOnly"] is True


@pytest.mark.parametrize("value", ["7", '"7"', "7.0", "7e0"])
def test_integers_in_any_spelling(value: str) -> None:
    assert decode_vif(f'{{"version": {value}, "datFileSize":\n{value}}}'.encode()) == VolumeInfo(
        version=7, dat_file_size=7
    )


def test_null_is_the_default() -> None:
    nothing = dict.fromkeys(json.loads(encode_vif(VolumeInfo())))
    assert decode_vif(json.dumps(nothing).encode()) == VolumeInfo()


@pytest.mark.parametrize(
    "field",
    [
        '"version": -1',
        '"version": 4294967296',
        '"version": true',
        '"version": 1.5',
        '"version": "1_0"',
        '"version": " 1"',
        '"version": [1]',
        '"readOnlyCanDelete": 1',
        '"replication": 1',
        '"files": {}',
        '"files": [1]',
        '"files": [{"key": 1}]',
        '"ecShardConfig": []',
        '"ecShardConfig": {"dataShards": "x"}',
    ],
)
def test_a_value_of_the_wrong_type_spoils_only_its_field(field: str) -> None:
    assert decode_vif(f'{{"readOnly": true, {field}}}'.encode()) == VolumeInfo(read_only=True, intact=False)


@pytest.mark.parametrize(
    "content",
    [
        b"not json",
        b"[]",
        b"1",
        b"\xff\xfe",
        b'{"version": 3',
        b'{"x": NaN}',
        b'{"x": 1e999}',
        b'{"x": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
    ids=range(10),
)
def test_what_is_no_volume_info_gives_defaults(content: bytes) -> None:
    assert decode_vif(content) == VolumeInfo(intact=False)


def test_an_empty_file_is_intact() -> None:
    assert decode_vif(b"") == VolumeInfo(intact=True)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["files", "version", "key", "x", ""]), inner),
    max_leaves=8,
)


@property_test
@given(st.binary(max_size=60) | json_like.map(lambda value: json.dumps({"files": value, "u": value}).encode()))
def test_an_arbitrary_vif_is_read_and_written_stably(content: bytes) -> None:
    info = decode_vif(content)
    assert decode_vif(encode_vif(info)) == replace(info, intact=True)


# Report


def test_every_field_that_counts_changes_the_hash() -> None:
    base = VolumeReport(id=1, size=8, ttl=0x302)
    changes = {
        "id": 2,
        "size": 16,
        "collection": "c",
        "file_count": 1,
        "delete_count": 1,
        "deleted_byte_count": 1,
        "read_only": True,
        "read_only_can_delete": True,
        "replica_placement": 1,
        "version": 2,
        "ttl": 0x402,
        "compact_revision": 1,
        "modified_at_second": -1,
        "remote_storage_name": "s3",
        "disk_type": "ssd",
        "disk_id": 1,
    }
    hashes = {volume_hash(msgspec.structs.replace(base, **{name: new})) for name, new in changes.items()}
    assert len(hashes | {volume_hash(base)}) == len(changes) + 1


@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        ("file_count", 2**32 - 1, 2**40),
        ("delete_count", 2**32 - 1, 2**33),
        ("version", 3, 0x103),
        ("ttl", 0, 0x03),
        ("remote_storage_key", "", "k"),
    ],
)
def test_what_the_hash_does_not_see(field: str, one: object, other: object) -> None:
    base = VolumeReport(id=1, size=8)
    first, second = (msgspec.structs.replace(base, **{field: value}) for value in (one, other))
    assert volume_hash(first) == volume_hash(second)


def test_digest_ignores_the_order() -> None:
    assert volumes_digest([]) == 0
    assert volumes_digest([1, 2, 4]) == volumes_digest([4, 1, 2]) == 7
