"""Answers to GET and HEAD (http.md 3.4 to 3.8, 3.10)."""

import gzip
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumed.formats.checksum import crc32c
from volumed.formats.needle import FLAG_CHUNK_MANIFEST, FLAG_GZIP, FLAG_PAIRS, Needle
from volumed.http.protocol.head import encode_head, server_name
from volumed.http.protocol.message import Request, Response
from volumed.http.rules.manifest import parse_manifest
from volumed.http.rules.read_decision import (
    ReadPlan,
    Representation,
    body_plan,
    expands_manifest,
    is_plain_get,
    not_modified_plan,
    plain_get_head,
    plan_read,
    stored_representation,
    with_sniffed_type,
)
from volumed.http.text.paths import ParsedPath, parse_read_path
from volumed.http.text.query import parse_query
from volumed.http.text.ranges import ByteRange

DATA = b"0123456789abcdef"
NEEDLE = Needle(
    data=DATA, flags=0x0E, name=b"1,01", mime=b"application/octet-stream", last_modified=1700000000, checksum=0x42D3119E
)
STORED_AT = b"Tue, 14 Nov 2023 22:13:20 GMT"
TYPED_TEXT = b"text/plain; charset=utf-8"
PATH = ParsedPath("1", "01")
BOUNDARY = b"0" * 60


def make_request(method: str = "GET", query: bytes = b"", **headers: bytes) -> Request:
    fields = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return Request(method, b"/1,01", b"/1,01", "/1,01", query, fields, list(fields.items()), request_id=b"ID")


def needle(**changes: object) -> Needle:
    fields = {name: getattr(NEEDLE, name) for name in NEEDLE.__struct_fields__}
    return Needle(**{**fields, **changes})


def read(
    stored: Needle = NEEDLE, method: str = "GET", query: bytes = b"", path: ParsedPath = PATH, **headers: bytes
) -> tuple[ReadPlan, dict[bytes, bytes], bytes]:
    """Plan, headers and body."""
    request = make_request(method, query, **headers)
    plan, representation = plan_read(request, parse_query(query), path, stored, lambda: BOUNDARY)
    return plan, dict(plan.headers), send(plan, bytes(representation.data or b""))


def send(plan: ReadPlan, data: bytes) -> bytes:
    body = b"".join(
        part if isinstance(part, bytes) else data[part.start : part.start + part.length] for part in plan.segments
    )
    assert not plan.segments or len(body) == plan.content_length
    return body


def test_the_example_of_the_specification() -> None:
    plan, headers, body = read()
    assert (plan.status, plan.content_length, body) == (200, 16, DATA)
    assert headers == {
        b"Last-Modified": STORED_AT,
        b"Etag": b'"42d3119e"',
        b"Accept-Ranges": b"bytes",
        b"Content-Disposition": b'inline; filename="1,01"',
        b"Content-Type": TYPED_TEXT,
    }


def test_head_is_not_sniffed_and_knows_no_ranges() -> None:
    plan, headers, body = read(method="HEAD", range=b"bytes=0-1")
    assert (plan.status, plan.content_length, body) == (200, 16, b"")
    assert b"Content-Type" not in headers


def test_an_empty_needle_has_nothing_but_an_etag() -> None:
    plan, headers, _ = read(Needle())
    assert (plan.status, plan.content_length) == (200, 0)
    assert headers == {b"Etag": b'"00000000"', b"Accept-Ranges": b"bytes"}
    _, headers, _ = read(Needle(), path=parse_read_path("/1/01/na.png"))
    assert headers[b"Content-Type"] == b"image/png"
    assert headers[b"Content-Disposition"] == b"inline; filename=na.png"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if_none_match": b'"42d3119e"'}, 304),
        ({"if_none_match": b"*"}, 200),
        ({"if_modified_since": STORED_AT, "if_none_match": b'"x"', "range": b"bytes=0-"}, 304),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_not_modified(method: str, headers: dict[str, bytes], status: int) -> None:
    plan, sent, body = read(needle(flags=0x0E | FLAG_PAIRS, pairs=b'{"A":"b"}'), method, **headers)
    assert plan.status == status
    if status == 304:
        assert (sent, body) == ({b"Last-Modified": STORED_AT}, b"")


def test_not_modified_without_a_time() -> None:
    plan = not_modified_plan(make_request(if_none_match=b'"42d3119e"'), needle(last_modified=0))
    assert plan is not None
    assert plan.headers == []


LABELS = [
    # path, stored name, stored mime -> filename, type
    ("/1,01", b"a.txt", b"", b"a.txt", TYPED_TEXT),
    ("/1,01.png", b"a.txt", b"", b"a.txt", TYPED_TEXT),
    ("/1,01.png", b"", b"", b"", TYPED_TEXT),
    ("/1/01/x.css", b"a.txt", b"", b"x.css", b"text/css; charset=utf-8"),
    ("/1/01/x.CSS", b"", b"application/octet-stream; x", b"x.CSS", b"text/css; charset=utf-8"),
    ("/1/01/x.css", b"a.txt", b"x/y", b"x.css", b"x/y"),
    ("/1/01/", b"a.bin", b"", b"a.bin", b"application/octet-stream"),
    ("/1/01/na%", b"", b"", b"na%", TYPED_TEXT),
]


@pytest.mark.parametrize(("path", "name", "mime", "filename", "kind"), LABELS)
def test_name_and_type(path: str, name: bytes, mime: bytes, filename: bytes, kind: bytes) -> None:
    _, headers, _ = read(needle(name=name, mime=mime), path=parse_read_path(path))
    assert headers[b"Content-Type"] == kind
    assert headers.get(b"Content-Disposition", b"").rpartition(b"=")[2].strip(b'"') == filename


def test_pairs_replace_and_are_replaced() -> None:
    pairs = b'{"Etag":"zz","Foo":"bar","Content-Disposition":"mine","Accept-Ranges":"none","Content-Type":"t/t"}'
    _, headers, _ = read(needle(flags=0x2E, pairs=pairs))
    assert headers == {
        b"Last-Modified": STORED_AT,
        b"Etag": b"zz",
        b"Foo": b"bar",
        b"Content-Disposition": b"mine",
        b"Accept-Ranges": b"bytes",
        b"Content-Type": b"t/t",
    }
    _, headers, _ = read(needle(flags=0x2E, pairs=pairs, mime=b"x/y"))
    assert headers[b"Content-Type"] == b"x/y"


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        (b"response-cache-control=no", b"Cache-Control", b"no"),
        (b"response-content-disposition=foo", b"Content-Disposition", b"foo"),
        (b"response-content-disposition=", b"Content-Disposition", b'inline; filename="1,01"'),
        (b"response-content-language=de", b"Content-Language", b"de"),
        (b"Response-Content-Type=a/b%20c", b"Content-Type", b"a/b c"),
        (b"response-content-type=", b"Content-Type", b""),
        (b"response-content-type=a%0d%0ab:c", b"Content-Type", b"a  b:c"),
        (b"response-expires=x&response-expires=y", b"Expires", b"x"),
        (b"response-content-encoding=gzip", b"Content-Encoding", b"gzip"),
        (b"response-content-encoding=gzip", b"Content-Type", None),
        (b"response-x=1", b"X", None),
        (b"dl=true", b"Content-Disposition", b'attachment; filename="1,01"'),
        (b"dl=yes", b"Content-Disposition", b'inline; filename="1,01"'),
    ],
)
def test_query_overrides(query: bytes, name: bytes, value: bytes | None) -> None:
    assert read(query=query)[1].get(name) == value


GZIPPED = gzip.compress(b"<html>" + DATA, mtime=0)


@pytest.mark.parametrize(
    ("data", "accept", "encoding", "body"),
    [
        (GZIPPED, b"", None, b"<html>" + DATA),
        (GZIPPED, b"br, xgzipx;q=0", b"gzip", GZIPPED),
        (GZIPPED, b"GZIP", None, b"<html>" + DATA),
        (b"not gzip", b"gzip", None, b"not gzip"),
        (b"not gzip", b"", None, b"not gzip"),
        (GZIPPED[:-3], b"", None, b""),
        (GZIPPED[:-3], b"gzip", b"gzip", GZIPPED[:-3]),
    ],
)
def test_compressed_needles(data: bytes, accept: bytes, encoding: bytes | None, body: bytes) -> None:
    stored = needle(flags=0x0F, data=data)
    plan, headers, sent = read(stored, accept_encoding=accept)
    assert (headers.get(b"Content-Encoding"), sent) == (encoding, body)
    head_plan, _, _ = read(stored, "HEAD", accept_encoding=accept)
    assert head_plan.content_length == plan.content_length == len(body)
    # What is sent compressed is not sniffed.
    assert (b"Content-Type" in headers) == (bool(body) and not encoding)


def test_uncompressed_needles_ignore_what_they_look_like() -> None:
    assert stored_representation(needle(data=GZIPPED), b"gzip") == Representation(len(GZIPPED), GZIPPED)


def test_ranges_count_in_what_is_sent() -> None:
    stored = needle(flags=0x0F, data=GZIPPED)
    _, headers, body = read(stored, range=b"bytes=0-5")
    assert (headers[b"Content-Range"], body) == (b"bytes 0-5/22", b"<html>")
    _, headers, body = read(stored, range=b"bytes=0-1", accept_encoding=b"gzip")
    assert (headers[b"Content-Range"], body) == (b"bytes 0-1/%d" % len(GZIPPED), b"\x1f\x8b")


def test_single_range_is_sniffed_by_its_own_bytes() -> None:
    plan, headers, body = read(needle(data=b"\x00\x01%PDF-1.4"), range=b"bytes=2-")
    assert (plan.status, body, headers[b"Content-Type"]) == (206, b"%PDF-1.4", b"application/pdf")


def test_empty_range() -> None:
    plan, headers, body = read(range=b"bytes=-0")
    assert (plan.status, plan.content_length, body) == (206, 0, b"")
    assert headers[b"Content-Range"] == b"bytes 16-15/16"
    assert b"Content-Type" not in headers


def test_several_ranges() -> None:
    plan, headers, body = read(range=b"bytes=0-1,4-5", query=b"response-content-type=a/b")
    assert (plan.status, plan.content_length) == (206, 296)
    assert headers[b"Content-Type"] == b"multipart/byteranges; boundary=" + BOUNDARY
    assert b"Content-Range" not in headers
    assert b"Content-Type: \r\n\r\n01\r\n" in body
    _, _, body = read(needle(mime=b"x/y"), range=b"bytes=0-1,4-5")
    assert b"Content-Type: x/y\r\n\r\n45\r\n" in body


@pytest.mark.parametrize(
    ("asked", "body", "where"),
    [(b"x", b"invalid range\n", None), (b"bytes=99-", b"invalid range: failed to overlap\n", b"bytes */16")],
)
def test_refused_ranges(asked: bytes, body: bytes, where: bytes | None) -> None:
    plan, headers, sent = read(needle(mime=b"x/y"), range=asked)
    assert (plan.status, sent, headers.get(b"Content-Range")) == (416, body, where)
    assert headers[b"Content-Type"] == TYPED_TEXT
    assert headers[b"X-Content-Type-Options"] == b"nosniff"
    assert headers.keys() >= {b"Etag", b"Last-Modified", b"Content-Disposition", b"Accept-Ranges"}


@pytest.mark.parametrize("asked", [b"bytes=", b"bytes=,", b"bytes=0-10,5-15"])
def test_no_ranges_or_too_many(asked: bytes) -> None:
    plan, headers, body = read(range=asked)
    assert (plan.status, plan.content_length, body) == (200, 0, b"")
    assert b"Content-Type" not in headers


def test_an_empty_range_header_is_none() -> None:
    assert read(range=b"")[0].status == 200


def test_paged_needles_are_sniffed_later() -> None:
    plan = body_plan(make_request(), {}, PATH, NEEDLE, Representation(5 << 20), lambda: BOUNDARY)
    assert plan.sniff
    assert plan.segments == (ByteRange(0, 5 << 20),)
    with_sniffed_type(plan, b"%PDF-1.4")
    assert not plan.sniff
    assert dict(plan.headers)[b"Content-Type"] == b"application/pdf"


MANIFEST = b'{"name":"m.txt","mime":"application/octet-stream","chunks":[{"fid":"1,01","size":30}]}'


@pytest.mark.parametrize(
    ("path", "mime", "filename", "kind"),
    [
        ("/1,01", b"application/octet-stream", b"m.txt", TYPED_TEXT),
        ("/1,01", b"text/csv", b"m.txt", b"text/csv"),
        ("/1/01/x.png", b"", b"x.png", b"image/png"),
    ],
)
def test_expanded_manifests(path: str, mime: bytes, filename: bytes, kind: bytes) -> None:
    manifest = parse_manifest(MANIFEST.replace(b"application/octet-stream", mime))
    stored = needle(flags=0x8E, name=b"stored.css", mime=b"x/y")
    request = make_request(range=b"bytes=10-")
    plan = body_plan(request, {}, parse_read_path(path), stored, Representation(30), lambda: BOUNDARY, manifest)
    headers = dict(plan.headers)
    assert headers[b"X-File-Store"] == b"chunked"
    assert headers[b"Content-Disposition"] == b"inline; filename=" + filename
    assert headers[b"Content-Type"] == kind
    assert headers[b"Content-Range"] == b"bytes 10-29/30"
    assert headers[b"Etag"] == b'"42d3119e"'


@pytest.mark.parametrize(
    ("flags", "query", "expected"),
    [(0x8E, b"", True), (0x8E, b"cm=0", True), (0x8E, b"cm=false", False), (0x0E, b"", False)],
)
def test_when_manifests_are_expanded(flags: int, query: bytes, expected: bool) -> None:
    assert expands_manifest(needle(flags=flags), parse_query(query)) is expected


def long_way(request: Request, path: ParsedPath, stored: Needle) -> tuple[bytes, Iterable[bytes | ByteRange]]:
    plan, _ = plan_read(request, {}, path, stored, lambda: BOUNDARY)
    response = Response(plan.status, plan.headers, content_length=plan.content_length)
    return encode_head(response, request, 1700000000), plan.segments


NAMES = st.one_of(st.binary(max_size=20), st.sampled_from([b"a.txt", b"x.PNG", b"1,01", b"a b.c", b"x.nosuch"]))
MIME_TYPES = st.sampled_from([b"", b"application/octet-stream", b"application/octet-stream; x=y", b"text/plain"])


@given(
    data=st.one_of(st.binary(max_size=40), st.sampled_from([b"%PDF-1", b"<html>", b"GIF89a"])),
    name=NAMES,
    mime=MIME_TYPES,
    last_modified=st.integers(0, (1 << 40) - 1),
    path=st.sampled_from(["/1,01", "/1,01.jpg", "/1/01", "/1/01/", "/1/01/na\udcffme.css", "/1/01/x"]),
)
def test_the_shortcut_gives_the_head_of_the_long_way(
    data: bytes, name: bytes, mime: bytes, last_modified: int, path: str
) -> None:
    request, parsed = make_request(), parse_read_path(path)
    stored = Needle(
        data=data, flags=0x0E, name=name, mime=mime, last_modified=last_modified, checksum=crc32c(data)
    )
    assert is_plain_get(request)
    short = plain_get_head(stored, parsed, b"ID", 1700000000, server_name())
    assert short is not None
    head, segments = long_way(request, parsed, stored)
    assert short.split(b"\r\n")[0] == head.split(b"\r\n")[0]
    assert sorted(short.split(b"\r\n")) == sorted(head.split(b"\r\n"))
    assert short.endswith(b"\r\n\r\n")
    assert tuple(segments) == (ByteRange(0, len(data)),)


@pytest.mark.parametrize("flag", [FLAG_GZIP, FLAG_PAIRS, FLAG_CHUNK_MANIFEST])
def test_the_shortcut_leaves_special_needles_alone(flag: int) -> None:
    assert plain_get_head(needle(flags=0x0E | flag), PATH, b"ID", 0, server_name()) is None


@pytest.mark.parametrize(
    "request_",
    [
        make_request("HEAD"),
        make_request(query=b"dl=1"),
        make_request(range=b""),
        make_request(if_none_match=b"x"),
        make_request(if_modified_since=b"x"),
        make_request(origin=b"x"),
    ],
)
def test_the_shortcut_is_for_plain_gets(request_: Request) -> None:
    assert not is_plain_get(request_)


HEADER_VALUES = st.one_of(st.binary(max_size=12), st.sampled_from([b"bytes=0-1", b"bytes=-5,1-2", b"gzip", STORED_AT]))


@given(
    method=st.sampled_from(["GET", "HEAD"]),
    query=st.binary(max_size=30).map(lambda raw: b"response-expires=" + raw),
    headers=st.dictionaries(st.sampled_from(["range", "accept_encoding", "if_none_match"]), HEADER_VALUES),
    flags=st.integers(0, 255),
    data=st.one_of(st.binary(max_size=40), st.just(GZIPPED)),
    pairs=st.one_of(st.binary(max_size=20), st.just(b'{"A":"b"}')),
)
def test_any_read_is_decided(
    method: str, query: bytes, headers: dict[str, bytes], flags: int, data: bytes, pairs: bytes
) -> None:
    plan, sent, _ = read(Needle(data=data, flags=flags, pairs=pairs), method, query, PATH, **headers)
    assert plan.status in (200, 206, 304, 416)
    assert not plan.sniff
    assert not any(set(b"\r\n") & set(name + value) for name, value in sent.items())
