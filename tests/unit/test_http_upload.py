"""From requests to needles (http.md 4.1 to 4.6)."""

import base64
import gzip
import hashlib
import json

import pytest

from volumed.errors import FormatError, SizeLimitExceeded
from volumed.formats.checksum import crc32c
from volumed.formats.needle import (
    FLAG_CHUNK_MANIFEST,
    FLAG_GZIP,
    FLAG_LAST_MODIFIED,
    FLAG_MIME,
    FLAG_NAME,
    FLAG_PAIRS,
    FLAG_TTL,
)
from volumed.formats.ttl import NO_TTL, Ttl
from volumed.http.protocol.message import Request
from volumed.http.rules.upload import ParsedUpload, UploadForm, parse_upload, parse_upload_form, upload_result

NOW = 1_800_000_000
LIMIT = 1 << 20
URLENCODED = b"application/x-www-form-urlencoded"
FORM_TYPE = b"multipart/form-data; boundary=XX"
TEXT = b"text text text " * 40


def make_request(
    method: str = "PUT", query: bytes = b"", path: str = "/1,0111111111", **headers: bytes | None
) -> Request:
    raw = [(name.replace("_", "-").encode(), value) for name, value in headers.items() if value is not None]
    first: dict[bytes, bytes] = {}
    for name, value in raw:
        first.setdefault(name.lower(), value)
    target = path.encode()
    return Request(method, target + b"?" + query, target, path, query, first, raw)


def upload(body: bytes, request: Request, limit: int = LIMIT) -> ParsedUpload:
    return parse_upload(request, parse_upload_form(request, body), body, now_s=NOW, size_limit_bytes=limit)


def raw(body: bytes = b"hello", **headers: bytes | None) -> ParsedUpload:
    return upload(body, make_request(**headers))


def form(*part_headers: bytes, body: bytes = b"hello", query: bytes = b"", **headers: bytes) -> ParsedUpload:
    part = b"--XX\r\n" + b"".join(line + b"\r\n" for line in part_headers) + b"\r\n" + body + b"\r\n--XX--\r\n"
    return upload(part, make_request("POST", query, Content_Type=FORM_TYPE, **headers))


def named(filename: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="f"; filename="' + filename + b'"'


def test_raw_defaults() -> None:
    parsed = raw()
    assert parsed == ParsedUpload(b"hello", b"1,0111111111", b"", b"", NOW, NO_TTL, False, False, 5)


@pytest.mark.parametrize(
    ("method", "content_type"),
    [
        ("PUT", FORM_TYPE),
        ("POST", b"multipart/mixed; boundary=XX"),
        ("POST", b"text/x"),
        ("POST", b"Multipart/Form-Data; boundary=XX"),
    ],
)
def test_raw_keeps_its_content_type(method: str, content_type: bytes) -> None:
    body = b"--XX\r\n\r\nhello\r\n--XX--\r\n"
    parsed = upload(body, make_request(method, Content_Type=content_type))
    assert (parsed.mime, parsed.original_size) == (content_type, len(body))


@pytest.mark.parametrize("content_type", [None, b"", b"form-data"])
def test_post_without_a_type_is_a_broken_form(content_type: bytes | None) -> None:
    with pytest.raises(FormatError) as caught:
        upload(b"hello", make_request("POST", Content_Type=content_type))
    assert caught.value.text == "request Content-Type isn't multipart/form-data"


@pytest.mark.parametrize(
    ("content_type", "query", "body", "text"),
    [
        (b"foo bar", b"", b"", "mime: expected slash after first token"),
        (b"a/b; x", b"", b"", "mime: invalid media parameter"),
        (b"foo bar", b"x=y;z", b"", "mime: expected slash after first token"),
        (URLENCODED, b"", b"a=%zz", 'invalid URL escape "%zz"'),
        (URLENCODED, b"x=y;z", b"a=%zz", 'invalid URL escape "%zz"'),
        (URLENCODED, b"", b"a" * (10 << 20) + b"a", "http: POST too large"),
        (URLENCODED, b"", b"&" * 10_000, "number of URL query parameters exceeded limit"),
        (b"a/b", b"x=%yy", b"a=%zz", 'invalid URL escape "%yy"'),
        (b"a/b", b"x=y;z", b"", "invalid semicolon separator in query"),
    ],
)
def test_form_errors(content_type: bytes, query: bytes, body: bytes, text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_upload_form(make_request(query=query, Content_Type=content_type), body)
    assert caught.value.text == text


def test_an_urlencoded_body_is_a_form_and_nothing_is_stored() -> None:
    request = make_request(query=b"ts=7&ttl=1h", Content_Type=URLENCODED)
    parsed_form = parse_upload_form(request, b"ts=5&type=replicate")
    assert parsed_form == UploadForm(
        {"ts": "7", "ttl": "1h"}, {"ts": "5", "ttl": "1h", "type": "replicate"}, body_consumed=True
    )
    parsed = upload(b"ts=5", request)
    assert (parsed.data, parsed.last_modified, parsed.ttl, parsed.mime) == (b"", 5, Ttl(1, 2), URLENCODED)


@pytest.mark.parametrize(
    ("query", "replicate", "fsync", "pretty"),
    [
        (b"", False, False, False),
        (b"type=replicate&fsync=true&pretty=y", True, True, True),
        (b"type=Replicate&fsync=1&pretty=", False, False, False),
    ],
)
def test_form_flags(query: bytes, replicate: bool, fsync: bool, pretty: bool) -> None:
    parsed = parse_upload_form(make_request(query=query), b"")
    assert (parsed.is_replicate, parsed.fsync, parsed.pretty) == (replicate, fsync, pretty)


@pytest.mark.parametrize(
    ("disposition", "path", "name"),
    [
        (None, "/1,0111111111.png", b"1,0111111111.png"),
        (b'attachment; filename="C:\\dir\\n.txt"', "/1,01", b"n.txt"),
        (b'attachment; filename="a/b/c.txt"', "/1,01", b"c.txt"),
        (b'attachment; filename="' + "naïve".encode() + b'\xff"', "/1,01", "naïve".encode() + b"\xff"),
        (b'attachment; filename="' + b"n" * 255 + b'"', "/1,01", b"n" * 255),
        (b'attachment; filename="' + b"n" * 256 + b'"', "/1,01", None),
    ],
)
def test_raw_names(disposition: bytes | None, path: str, name: bytes | None) -> None:
    assert upload(b"x", make_request(path=path, Content_Disposition=disposition)).name == name


MIMES = [
    # part name, declared type, stored
    (b"a.bin", b"", b""),
    (b"a.bin", b"application/octet-stream", b""),
    (b"a.txt", b"", b"text/plain; charset=utf-8"),
    (b"a.txt", b"application/octet-stream", b"text/plain; charset=utf-8"),
    (b"a.txt", b"text/plain; charset=utf-8", b"text/plain; charset=utf-8"),
    (b"a.txt", b"text/plain", b"text/plain"),
    (b"p.PNG", b"application/octet-stream", b"image/png"),
    (b"a.png", b"x/y", b"x/y"),
    (b".png", b"", b""),
    (b"noext", b"", b""),
    (b"", b"a/b", b"a/b"),
]


@pytest.mark.parametrize(("name", "declared", "stored"), MIMES)
def test_mime_of_a_form_file(name: bytes, declared: bytes, stored: bytes) -> None:
    headers = [named(name)] + ([b"Content-Type: " + declared] if declared else [])
    assert form(*headers).mime == stored


@pytest.mark.parametrize(
    ("declared", "stored"),
    [
        (b"application/octet-stream", b"application/octet-stream"),
        (b"text/css", b"text/css"),
        (b"image/png", b"image/png"),
        (b"", b"image/png"),
        (b"x/" + b"y" * 254, None),
    ],
)
def test_mime_of_raw_data(declared: bytes, stored: bytes | None) -> None:
    assert upload(b"x", make_request(path="/1,01.png", Content_Type=declared)).mime == stored


def test_manifests_do_not_get_a_type() -> None:
    parsed = form(named(b"a.txt"), b"Content-Type: text/x", query=b"cm=true")
    assert (parsed.is_manifest, parsed.mime) == (True, b"")
    request = make_request(query=b"cm=T", path="/1,01.png", Content_Type=b"text/x")
    assert upload(b"{}", request).mime == b"text/x"
    assert not upload(b"{}", make_request(query=b"cm=yes")).is_manifest


@pytest.mark.parametrize(
    ("ts", "stored"),
    [
        (b"5", 5), (b"", NOW), (b"0", NOW), (b"x", NOW), (b"-5", NOW), (b"%2B5", NOW), (b"1.5", NOW), (b"007", 7),
        (b"18446744073709551616", (1 << 64) - 1), (b"9" * 5000, (1 << 64) - 1), (b"%D9%A1", NOW),
    ],
)  # fmt: skip
def test_timestamps(ts: bytes, stored: int) -> None:
    assert upload(b"x", make_request(query=b"ts=" + ts)).last_modified == stored


@pytest.mark.parametrize(
    ("ttl", "stored"), [(b"3d", Ttl(3, 3)), (b"7d", Ttl(1, 4)), (b"90", Ttl(90, 1)), (b"x", NO_TTL), (b"xm", NO_TTL)]
)
def test_ttls(ttl: bytes, stored: Ttl) -> None:
    assert upload(b"x", make_request(query=b"ttl=" + ttl)).ttl == stored


def test_form_fields_stand_behind_the_query() -> None:
    fields = b"".join(
        b'--XX\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % pair
        for pair in ((b"ts", b"5"), (b"ttl", b"7d"), (b"cm", b"true"))
    )
    body = fields + b"--XX\r\n" + named(b"a.bin") + b"\r\n\r\nhello\r\n--XX--\r\n"
    parsed = upload(body, make_request("POST", b"ts=9", Content_Type=FORM_TYPE))
    assert (parsed.last_modified, parsed.ttl, parsed.is_manifest) == (9, Ttl(1, 4), True)
    assert bytes(parsed.data) == b"hello"


def test_size_limit() -> None:
    assert raw(b"x" * 10).original_size == 10
    with pytest.raises(SizeLimitExceeded) as caught:
        upload(b"x" * 11, make_request(), limit=10)
    assert caught.value.text == "file over the limited 10 bytes"


@pytest.mark.parametrize(
    ("query", "headers", "compressed"),
    [
        (b"", {"Content_Type": b"text/plain"}, True),
        (b"", {}, True),
        (b"", {"Content_Type": b"application/octet-stream"}, False),
        (b"", {"Content_Type": b"image/svg+xml"}, False),
        (b"type=replicate", {"Content_Type": b"text/plain"}, False),
    ],
)
def test_compression(query: bytes, headers: dict[str, bytes], compressed: bool) -> None:
    parsed = upload(TEXT, make_request(query=query, **headers))
    assert parsed.is_gzipped is compressed
    assert (gzip.decompress(parsed.data) if compressed else parsed.data) == TEXT
    assert parsed.original_size == len(TEXT)


def test_octet_stream_parts_are_sniffed_and_compressed() -> None:
    assert form(named(b"a.bin"), b"Content-Type: application/octet-stream", body=TEXT).is_gzipped


def test_a_form_value_does_not_stop_compression() -> None:
    body = b"type=replicate"
    request = make_request(Content_Type=URLENCODED)
    assert parse_upload_form(request, body).is_replicate
    assert not upload(TEXT, make_request(query=b"type=replicate")).is_gzipped


def test_data_that_come_compressed() -> None:
    zipped = gzip.compress(TEXT)
    parsed = raw(zipped, Content_Type=b"text/plain", Content_Encoding=b"gzip")
    assert (parsed.data, parsed.is_gzipped, parsed.original_size) == (zipped, True, len(TEXT))
    assert not raw(zipped, Content_Type=b"x/y", Content_Encoding=b"GZIP").is_gzipped
    assert form(named(b"a"), b"Content-Encoding: gzip", body=zipped).original_size == len(TEXT)
    assert not form(named(b"a"), body=zipped, Content_Encoding=b"gzip").is_gzipped
    broken = raw(zipped[:-3], Content_Encoding=b"gzip")
    assert (broken.is_gzipped, broken.original_size) == (True, len(zipped) - 3)
    assert raw(gzip.compress(b""), Content_Encoding=b"gzip").original_size == 0


def md5(data: bytes) -> bytes:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest())


def test_md5_is_that_of_the_uncompressed_data() -> None:
    assert raw(TEXT, Content_Type=b"text/plain", Content_MD5=md5(TEXT)).content_md5 == md5(TEXT).decode()
    zipped = gzip.compress(TEXT)
    assert raw(zipped, Content_Encoding=b"gzip", Content_MD5=md5(TEXT)).content_md5
    assert form(named(b"a"), b"Content-MD5: " + md5(b"hello")).content_md5 == md5(b"hello").decode()
    assert form(named(b"a"), b"Content-MD5: zz", Content_MD5=md5(b"hello")).content_md5


@pytest.mark.parametrize(
    ("body", "encoding", "size"),
    [
        (b"hello", None, 5),
        (gzip.compress(b"hello" * 100, mtime=0), b"gzip", 500),
        (b"", None, 0),
        (b"nogz", b"gzip", 4),
    ],
)
def test_wrong_md5(body: bytes, encoding: bytes | None, size: int) -> None:
    with pytest.raises(FormatError) as caught:
        raw(body, Content_MD5=b"zz", Content_Encoding=encoding)
    plain = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
    assert caught.value.text == (
        "Content-MD5 did not match md5 of file data expected [zz] "
        f"received [{md5(plain).decode()}] size {size}"
    )


def test_needle_of_a_plain_upload() -> None:
    needle = raw(b"\x00\x01").to_needle(0x77, 0x11111111)
    assert needle.flags == FLAG_NAME | FLAG_MIME | FLAG_LAST_MODIFIED == 0x0E
    assert (needle.key, needle.cookie, needle.checksum) == (0x77, 0x11111111, crc32c(b"\x00\x01"))
    assert (needle.name, needle.mime, needle.last_modified) == (b"1,0111111111", b"", NOW)


def test_needle_of_an_upload_with_everything() -> None:
    request = make_request(query=b"cm=1&ttl=3d&ts=5", Content_Type=b"text/plain", Seaweed_Foo=b"bar")
    needle = upload(TEXT, request).to_needle(1, 2)
    assert needle.flags == 0x0E | FLAG_GZIP | FLAG_TTL | FLAG_PAIRS | FLAG_CHUNK_MANIFEST
    assert needle.checksum == crc32c(needle.data)
    assert (needle.pairs, needle.ttl, needle.last_modified) == (b'{"Foo":"bar"}', Ttl(3, 3), 5)


def test_needle_without_what_is_too_long() -> None:
    long = raw(Content_Disposition=b"filename=" + b"n" * 256, Content_Type=b"x/" + b"y" * 254)
    assert long.to_needle(1, 2).flags == FLAG_LAST_MODIFIED


def test_result() -> None:
    parsed = raw(Content_Type=b"application/octet-stream")
    assert upload_result(parsed, "9a71bb4c") == (
        b'{"name":"1,0111111111","size":5,"eTag":"9a71bb4c","mime":"application/octet-stream"}'
    )
    with_md5 = raw(Content_Type=b"text/html", Content_MD5=md5(b"hello"))
    assert json.loads(upload_result(with_md5, "x"))["contentMd5"] == md5(b"hello").decode()
    empty = raw(b"", Content_Disposition=b"filename=" + b"n" * 256)
    assert upload_result(empty, "00000000") == b'{"eTag":"00000000"}'
    assert upload_result(empty, "00000000", pretty=True) == b'{\n  "eTag": "00000000"\n}'
