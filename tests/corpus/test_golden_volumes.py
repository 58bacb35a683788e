"""Every record and index row of the golden volumes decodes to its manifest and encodes to the same bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from volumed.formats import idx, needle
from volumed.formats.fileid import format_file_id, parse_batch_file_id
from volumed.formats.superblock import SuperBlock
from volumed.formats.volumename import parse_base_name

GOLDEN = Path(__file__).parent / "golden"
VOLUMES = json.loads((GOLDEN / "manifest.json").read_text())["volumes"]
RECORDS = [(volume, record) for volume in VOLUMES for record in volume["records"]]


def each(records: list[tuple[dict[str, Any], dict[str, Any]]]) -> pytest.MarkDecorator:
    """Run a test once per record."""
    names = [f"{volume['dir']}/{volume['dat']}@{record['offset']}" for volume, record in records]
    return pytest.mark.parametrize(("volume", "record"), records, ids=names)


def path_of(volume: dict[str, Any], kind: str) -> Path:
    return GOLDEN / str(volume["dir"]) / str(volume[kind])


def content(volume: dict[str, Any], kind: str) -> bytes:
    return path_of(volume, kind).read_bytes()


def stored_bytes(volume: dict[str, Any], record: dict[str, Any]) -> bytes:
    with path_of(volume, "dat").open("rb") as dat:
        dat.seek(record["offset"])
        return dat.read(record["record_length"])


@pytest.fixture(params=VOLUMES, ids=lambda volume: f"{volume['dir']}/{volume['dat']}")
def volume(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = request.param
    return found


def test_the_corpus_is_complete() -> None:
    assert len(VOLUMES) == 11
    assert {volume["format_version"] for volume in VOLUMES} == {1, 2, 3}
    assert len(RECORDS) == 108


def test_superblock(volume: dict[str, Any]) -> None:
    raw = content(volume, "dat")
    block = SuperBlock.decode(raw)
    assert block.version == volume["format_version"]
    assert str(block.replica_placement) == volume["replica_placement"]
    assert str(block.ttl) == volume["ttl"]
    assert block.compaction_revision == volume["compaction_revision"]
    assert block.encode() == raw[: block.length] == bytes.fromhex(volume["superblock"])


def test_records_fill_the_file(volume: dict[str, Any]) -> None:
    raw, version = content(volume, "dat"), volume["format_version"]
    offset, found = SuperBlock.decode(raw).length, []
    while offset < len(raw):
        _, _, size = needle.decode_header(raw, offset)
        found.append((offset, size))
        offset += needle.record_length(size, version)
    assert found == [(record["offset"], record["size"]) for record in volume["records"]]
    assert offset == len(raw)


def test_base_name(volume: dict[str, Any]) -> None:
    assert parse_base_name(Path(volume["dat"]).stem) == (volume["collection"], volume["volume_id"])


@each(RECORDS)
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_record_decodes_to_the_manifest(volume: dict[str, Any], record: dict[str, Any], wrap: Any) -> None:
    found = needle.decode_record(
        wrap(stored_bytes(volume, record)), volume["format_version"], record["size"], record["offset"]
    )
    assert (found.key, found.cookie) == (int(record["key"], 16), int(record["cookie"], 16))
    assert format_file_id(volume["volume_id"], found.key, found.cookie) == record["fid"]
    assert found.size == record["size"]
    assert len(found.data) == record["data_size"]
    assert found.checksum == int(record["checksum"], 16)
    assert found.append_at_ns == record.get("append_at_ns", 0)
    assert found.flags == record.get("flags", 0)
    assert found.name == record.get("name", "").encode()
    assert found.mime == record.get("mime", "").encode()
    assert found.last_modified == record.get("last_modified", 0)
    assert found.ttl.to_bytes().hex() == record.get("ttl_bytes", "0000")
    assert str(found.ttl) == record.get("ttl", "")
    assert found.pairs == record.get("pairs", "").encode()
    if record["stored_sha256"] is not None:
        assert hashlib.sha256(found.data).hexdigest() == record["stored_sha256"]


@each(RECORDS)
def test_record_encodes_to_the_same_bytes(volume: dict[str, Any], record: dict[str, Any]) -> None:
    version, raw = volume["format_version"], stored_bytes(volume, record)
    found = needle.decode_record(raw, version, record["size"])
    encoded = needle.encode_record(found, version)
    padding = needle.padding_length(record["size"], version)
    assert padding == len(record["padding"]) // 2
    assert encoded == raw[:-padding] + bytes(padding)


@each([(volume, record) for volume, record in RECORDS if record["kind"] == "tombstone"])
def test_tombstone(volume: dict[str, Any], record: dict[str, Any]) -> None:
    version, raw = volume["format_version"], stored_bytes(volume, record)
    tombstone = needle.encode_tombstone(
        int(record["key"], 16),
        int(record["cookie"], 16),
        int(record["checksum"], 16),
        record.get("append_at_ns", 0),
        version,
    )
    padding = needle.padding_length(0, version)
    assert tombstone == raw[:-padding] + bytes(padding)


@each([(volume, record) for volume, record in RECORDS if volume["format_version"] > 1 and record["size"] > 0])
def test_paged_read_finds_the_same_metadata(volume: dict[str, Any], record: dict[str, Any]) -> None:
    version, raw = volume["format_version"], stored_bytes(volume, record)
    whole = needle.decode_record(raw, version, record["size"])
    head = needle.decode_paged_head(raw[: needle.PAGED_HEAD_LENGTH], version, record["size"])
    assert head.tail_offset + head.tail_length == len(raw)
    paged = needle.decode_body_meta(head, raw[head.tail_offset :], version)
    assert raw[needle.PAGED_HEAD_LENGTH :][: head.data_size] == whole.data
    whole.data = b""
    assert paged == whole


def test_index_rows(volume: dict[str, Any]) -> None:
    raw = content(volume, "idx")
    expected = [(int(key, 16), offset, size) for key, offset, size in volume["idx_rows"]]
    assert list(idx.iter_rows(raw)) == expected
    assert [idx.unpack_row(raw, at) for at in range(0, len(raw), 17)] == expected
    assert idx.pack_rows(expected) == raw
    keys, offsets, sizes = idx.decode_rows(raw)
    assert list(zip(keys.tolist(), offsets.tolist(), sizes.tolist(), strict=True)) == expected
    assert idx.encode_rows(keys, offsets, sizes) == raw


def test_every_fid_parses_to_its_record() -> None:
    objects = json.loads((GOLDEN / "manifest.json").read_text())["objects"]
    assert len(objects) == 81
    for item in objects:
        found = parse_batch_file_id(item["fid"])
        assert (found.key, found.cookie) == (int(item["key"], 16), int(item["cookie"], 16))
