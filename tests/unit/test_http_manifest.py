"""Chunk manifests: reading them, and the errors of what is none (http.md 3.8 and 5)."""

import contextlib
import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumed.errors import FormatError
from volumed.formats.jsonsyntax import syntax_error
from volumed.formats.needle import FLAG_GZIP, Needle
from volumed.http.rules.manifest import Chunk, ChunkManifest, ChunkSlice, map_range, parse_manifest, read_manifest
from volumed.http.text.ranges import ByteRange

MANIFEST = (
    b'{"name":"mani.txt","mime":"text/csv","size":5210,'
    b'"chunks":[{"fid":"6,0b01020304","offset":10,"size":5200},{"fid":"5,0a01020304","offset":0,"size":10}]}'
)


def test_manifest_chunks_are_ordered() -> None:
    manifest = parse_manifest(MANIFEST)
    assert manifest == ChunkManifest(
        "mani.txt", "text/csv", 5210, (Chunk("5,0a01020304", 0, 10), Chunk("6,0b01020304", 10, 5200))
    )
    assert manifest.total_length == 5210


def test_compressed_manifest() -> None:
    assert read_manifest(Needle(data=gzip.compress(MANIFEST), flags=FLAG_GZIP)) == parse_manifest(MANIFEST)
    assert read_manifest(Needle(data=MANIFEST, flags=FLAG_GZIP)) == parse_manifest(MANIFEST)
    assert read_manifest(Needle(data=memoryview(MANIFEST))) == parse_manifest(MANIFEST)


@pytest.mark.parametrize("raw", [b"{}", b'{"chunks":null,"name":null}', b'{"other":1}', b"null"])
def test_everything_in_a_manifest_is_optional(raw: bytes) -> None:
    assert parse_manifest(raw) == ChunkManifest("", "", 0, ())


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "unexpected end of JSON input"),
        (b"[]", "json: cannot unmarshal array into Go value of type operation.ChunkManifest"),
        (b"x", "invalid character 'x' looking for beginning of value"),
        (b'{"size":"x"}', "json: cannot unmarshal string into Go struct field ChunkManifest.size of type int64"),
        (
            b'{"chunks":[{},{"size":1.5}]}',
            "json: cannot unmarshal number 1.5 into Go struct field ChunkManifest.chunks.1.size of type int64",
        ),
        (
            b'{"size":9223372036854775808}',
            "json: cannot unmarshal number 9223372036854775808 into Go struct field ChunkManifest.size of type int64",
        ),
        (
            b'{"chunks":[1]}',
            "json: cannot unmarshal number into ChunkManifest.chunks.0 of type operation.ChunkInfo",
        ),
        (b"{" * 20_000, "invalid character '{' looking for beginning of object key string"),
        (b"[" * 20_000, "exceeded max depth"),
    ],
)  # fmt: skip
def test_what_is_no_manifest(raw: bytes, text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_manifest(raw)
    assert caught.value.text == text
    assert read_manifest(Needle(data=raw)) is None


@pytest.mark.parametrize(
    "raw",
    [b'{"chunks":[{"size":-1}]}', b'{"chunks":[{"offset":-1}]}', b'{"chunks":[null]}',
     b'{"chunks":[{"size":9223372036854775807},{"size":1}]}'],
)  # fmt: skip
def test_absurd_manifests_are_not_expanded(raw: bytes) -> None:
    assert parse_manifest(raw).chunks
    assert read_manifest(Needle(data=raw)) is None


def test_names_in_other_letters_and_repeated_ones() -> None:
    raw = b'{"NAME":"a","Chunks":[{"FID":"1,01","Size":3}],"name":"b\\ud800"}'
    assert parse_manifest(raw) == ChunkManifest("b\ufffd", "", 0, (Chunk("1,01", 0, 3),))


@given(st.binary(max_size=60))
def test_manifests_raise_nothing_else(raw: bytes) -> None:
    for text in (raw, b'{"chunks":[' + raw):
        with contextlib.suppress(FormatError):
            parse_manifest(text)


def test_a_manifest_of_very_many_chunks_is_none() -> None:
    raw = b'{"chunks":[' + b"{}," * 1_000_000 + b"{},{}]}"
    with pytest.raises(FormatError, match="too many chunks"):
        parse_manifest(raw)
    assert read_manifest(Needle(data=raw)) is None


JSON_PIECES = [
    "{", "}", "[", "]", ",", ":", " ", "\n", '"', '"a"', "\\", "\\u00", "e9", "n", "null",
    "true", "fals", "0", "1", "-", ".", "e", "+", "\x01",
]  # fmt: skip


@given(st.lists(st.sampled_from(JSON_PIECES), max_size=9).map("".join))
def test_syntax_errors_are_found_where_the_standard_library_finds_some(text: str) -> None:
    try:
        json.loads(text)
        sound = True
    except ValueError:
        sound = False
    assert (syntax_error(text.encode()) is None) is sound


@given(st.lists(st.integers(0, 9), max_size=6), st.integers(0, 60), st.integers(0, 60))
def test_mapped_ranges_are_the_bytes_of_the_whole(sizes: list[int], start: int, length: int) -> None:
    contents = {f"{number},01": bytes([65 + number]) * size for number, size in enumerate(sizes)}
    chunks = tuple(Chunk(fid, 0, len(data)) for fid, data in contents.items())
    slices = map_range(ChunkManifest("", "", 0, chunks), ByteRange(start, length))
    assert all(part.length > 0 for part in slices)
    joined = b"".join(contents[part.fid][part.offset : part.offset + part.length] for part in slices)
    assert joined == b"".join(contents.values())[start : start + length]


def test_mapped_range_inside_one_chunk() -> None:
    manifest = parse_manifest(MANIFEST)
    assert map_range(manifest, ByteRange(12, 3)) == [ChunkSlice("6,0b01020304", 2, 3)]
