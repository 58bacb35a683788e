"""JSON, stored pairs, compression and heads (http.md 1.4, 3.5, 4.4)."""

import gzip
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumed.http.pages.status_page import status_document
from volumed.http.protocol.head import cors_headers, encode_head, new_request_id, server_name
from volumed.http.protocol.message import Request, Response
from volumed.http.protocol.responses import (
    empty_response,
    error_response,
    json_response,
    options_response,
    plain_text_error,
    redirect_response,
)
from volumed.http.text.compression import DecompressedTooLarge, gunzip, gzip_if_smaller, is_compressible, is_gzip
from volumed.http.text.headertext import canonical_name, clean_value
from volumed.http.text.jsontext import encode_json, error_body
from volumed.http.text.pairs import PAIRS_BYTES_MAX, collect_pairs, pairs_to_headers

ZIPPED = gzip.compress(b"abc", mtime=0)


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("plain", b'"plain"'),
        ("<>&", rb'"\u003c\u003e\u0026"'),
        ("\u2028\u2029", rb'"\u2028\u2029"'),
        ("\x00\x01\b\f\v\t\r\n\x1f\x7f", b'"\\u0000\\u0001\\b\\f\\u000b\\t\\r\\n\\u001f\x7f"'),
        ('"\\/', rb'"\"\\/"'),
        ("naïve😀", '"naïve😀"'.encode()),
        ("\udcf0\udc9f", "\"\ufffd\ufffd\"".encode()),
    ],
)
def test_json_strings(text: str, encoded: bytes) -> None:
    assert encode_json(text) == encoded


def test_json_layout() -> None:
    value = {"b": [1, None, True], "a": {"é": "<"}}
    assert encode_json(value) == b'{"b":[1,null,true],"a":{"\xc3\xa9":"\\u003c"}}'
    assert encode_json(value, sort_keys=True).startswith(b'{"a":')
    assert encode_json({"size": 0, "a": []}, pretty=True) == b'{\n  "size": 0,\n  "a": []\n}'
    assert error_body("wrong jwt") == b'{"error":"wrong jwt"}'
    assert error_body("x", pretty=True) == b'{\n  "error": "x"\n}'


@given(st.text())
def test_json_reads_back(text: str) -> None:
    assert json.loads(encode_json({"x": [text]})) == {"x": [text]}


def test_collected_pairs() -> None:
    headers = [
        (b"Seaweed-foo-BAR", b"v1"),
        (b"seaweed-foo-bar", b"v2"),
        (b"SEAWEED-A_b", b'x<y>"'),
        (b"Seaweed-latin", b"\xef"),
        (b"Other", b"no"),
    ]
    assert collect_pairs(headers) == '{"A_b":"x\\u003cy\\u003e\\"","Foo-Bar":"v1","Latin":"\ufffd"}'.encode()
    assert collect_pairs([(b"Other", b"no")]) == b""


def test_too_many_pairs_are_dropped_whole() -> None:
    room = PAIRS_BYTES_MAX - len('{"A":""}')
    assert len(collect_pairs([(b"Seaweed-A", b"x" * room)])) == PAIRS_BYTES_MAX
    assert collect_pairs([(b"Seaweed-A", b"x" * (room + 1)), (b"Seaweed-B", b"y")]) == b""


@pytest.mark.parametrize(
    ("pairs", "headers"),
    [
        (b"", []),
        (b'{"Foo":"bar","etag":"zz"}', [(b"Foo", b"bar"), (b"Etag", b"zz")]),
        (b'{"A":" x\\r\\ny: z "}', [(b"A", b"x  y: z")]),
        (b'{"":"x","a b":"x","a:b":"x","\xc3\xaf":"x","Ok":"1"}', [(b"Ok", b"1")]),
        (b'{"Transfer-Encoding":"chunked","content-length":"3","connection":"close"}', []),
        (b'{"A":1}', []),
        (b'{"A":null}', [(b"A", b"")]),
        (b"[]", []),
        (b"null", []),
        (b"{", []),
        (b'{"A":"\xff"}', []),
    ],
)
def test_pairs_become_headers(pairs: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    assert pairs_to_headers(pairs) == headers


@given(st.binary(max_size=60))
def test_any_pairs_are_safe_headers(pairs: bytes) -> None:
    for name, value in pairs_to_headers(pairs):
        assert name
        assert not set(b"\r\n") & set(name + value)


def test_header_texts() -> None:
    assert canonical_name(b"x-aMZ-request-ID") == b"X-Amz-Request-Id"
    assert clean_value(b" a\r\nb\t") == b"a  b"


COMPRESSIBLE = [
    ("", "text/plain", True),
    ("x.jpg", "text/html; charset=utf-8", True),
    ("", "TEXT/plain", False),
    (".svg", "image/svg+xml", True),
    (".bmp", "image/bmp", True),
    (".wav", "", True),
    ("a.svg", "image/svg+xml", False),
    (".txt", "image/png", False),
    (".zip", "", False),
    (".zip", "application/xml", False),
    (".jpeg", "application/xml", False),
    (".txt", "", True),
    (".txt", "application/zstd", True),
    (".json", "application/json", True),
    ("p.json", "application/json", False),
    (".png", "", False),
    ("", "application/xml", True),
    ("", "application/ld+xml", True),
    ("", "application/x-javascript", True),
    ("", "application/zstd", False),
    ("", "application/vnd.rar", False),
    ("", "application/xml; charset=utf-8", False),
    ("", "audio/wav", True),
    ("", "audio/wave", True),
    ("", "audio/x-wav", True),
    ("", "audio/x-pn-wav", True),
    ("", "audio/x-wav2", False),
    ("", "audio/mpeg", False),
    ("", "", False),
    ("", "x", False),
]


@pytest.mark.parametrize(("name", "mime", "expected"), COMPRESSIBLE)
def test_compression_table(name: str, mime: str, expected: bool) -> None:
    assert is_compressible(name, mime) is expected


def test_compression_must_save_a_tenth() -> None:
    data = b"text text text " * 100
    compressed = gzip_if_smaller(data)
    assert compressed is not None
    assert compressed == gzip_if_smaller(memoryview(data))
    assert gzip.decompress(compressed) == data
    assert gzip_if_smaller(b"short") is None
    assert gzip_if_smaller(b"") is None


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=3))
def test_gunzip_reads_all_members(contents: list[bytes]) -> None:
    members = b"".join(map(gzip.compress, contents))
    assert gunzip(members) == gunzip(memoryview(members)) == b"".join(contents)


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\x1f\x8b", ZIPPED[:-1], ZIPPED + b"x", b"\x1f\x8b\x08" * 9]
)
def test_what_is_not_exactly_gzip(data: bytes) -> None:
    assert gunzip(data) is None


def test_decompression_stops_at_the_limit() -> None:
    bomb = gzip.compress(bytes(1 << 20))
    assert gunzip(bomb, 1 << 20) == bytes(1 << 20)
    with pytest.raises(DecompressedTooLarge):
        gunzip(bomb, (1 << 20) - 1)
    with pytest.raises(DecompressedTooLarge):
        gunzip(bomb + bomb, (2 << 20) - 1)


def test_a_million_members_are_no_trap() -> None:
    assert gunzip(gzip.compress(b"") * 1_000_000) == b""


def test_is_gzip() -> None:
    assert is_gzip(memoryview(b"\x1f\x8b\x08"))
    assert not is_gzip(b"\x1f")


def request(method: str = "GET", version: str = "1.1", **headers: bytes) -> Request:
    lowered = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    target = b"/1,01"
    return Request(method, target, target, "/1,01", headers=lowered, http_version=version, request_id=b"ID")


DATE = b"Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
COMMON = b"Server: SeaweedFS Volume 8000GB 4.48\r\n" + DATE + b"X-Amz-Request-Id: ID\r\n"


def head(response: Response, asked: Request | None = None, connection: bytes = b"") -> bytes:
    return encode_head(response, asked or request(), 1700000000, connection=connection)


async def chunks() -> None:
    yield b""


HEADS = [
    (empty_response(400), b"HTTP/1.1 400 Bad Request\r\n" + COMMON + b"Content-Length: 0\r\n\r\n"),
    (empty_response(204), b"HTTP/1.1 204 No Content\r\n" + COMMON + b"\r\n"),
    (Response(304), b"HTTP/1.1 304 Not Modified\r\n" + COMMON + b"\r\n"),
    (Response(200, content_length=7), b"HTTP/1.1 200 OK\r\n" + COMMON + b"Content-Length: 7\r\n\r\n"),
    (Response(200, body=chunks()), b"HTTP/1.1 200 OK\r\n" + COMMON + b"Transfer-Encoding: chunked\r\n\r\n"),
    (Response(200, identified=False), b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 0\r\n\r\n"),
    (Response(499), b"HTTP/1.1 499 status code 499\r\n" + COMMON + b"Content-Length: 0\r\n\r\n"),
    (
        Response(200, [(b"Server", b"me"), (b"X-Amz-Request-Id", b"you")]),
        b"HTTP/1.1 200 OK\r\n" + DATE + b"Server: me\r\nX-Amz-Request-Id: you\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        json_response(404, {"size": 0}),
        b"HTTP/1.1 404 Not Found\r\n" + COMMON
        + b"Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 10\r\n\r\n",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("response", "expected"), HEADS, ids=[str(index) for index in range(len(HEADS))])
def test_heads(response: Response, expected: bytes) -> None:
    assert head(response) == expected


def test_head_of_old_clients() -> None:
    text = head(Response(200, body=chunks()), request(version="1.0"), b"close")
    assert text.startswith(b"HTTP/1.0 200 OK\r\n")
    assert text.endswith(b"\r\nConnection: close\r\n\r\n")
    assert b"Transfer-Encoding" not in text


def test_server_name_follows_the_offset_width() -> None:
    assert server_name(4) == b"SeaweedFS Volume 30GB 4.48"


def test_request_ids_are_unlike() -> None:
    first, second = new_request_id(), new_request_id()
    assert first != second
    assert len(first) == 24
    assert first == first.upper()
    int(first, 16)


def test_cors() -> None:
    assert cors_headers(request()) == cors_headers(request(origin=b"")) == []
    assert cors_headers(request(origin=b"http://x")) == [
        (b"Access-Control-Allow-Origin", b"*"),
        (b"Access-Control-Allow-Credentials", b"true"),
    ]


def test_plain_responses() -> None:
    assert error_response(400, "").body is None
    assert error_response(401, "wrong jwt").body == b'{"error":"wrong jwt"}'
    assert plain_text_error(500, "File Not Found").body == b"File Not Found\n"
    assert dict(options_response(public=True).headers)[b"Access-Control-Allow-Methods"] == b"GET, OPTIONS"
    admin = dict(options_response(public=False).headers)
    assert admin[b"Access-Control-Allow-Methods"] == b"PUT, POST, GET, DELETE, OPTIONS"
    assert admin[b"Access-Control-Allow-Headers"] == b"*"


@pytest.mark.parametrize(("method", "typed", "bodied"), [("GET", 1, 1), ("HEAD", 1, 0), ("PUT", 0, 0)])
def test_redirects(method: str, typed: bool, bodied: bool) -> None:
    response = redirect_response(request(method), 307, b"/a/b?x=\"&'\xff")
    headers = dict(response.headers)
    assert headers[b"Location"] == b"/a/b?x=\"&'%FF"
    assert (b"Content-Type" in headers) == typed
    body = b'<a href="/a/b?x=&#34;&amp;&#39;%FF">Temporary Redirect</a>.\n\n'
    assert response.body == (body if bodied else None)


def test_a_node_without_volumes_says_null() -> None:
    document = status_document(SimpleNamespace(disks=[], volumes=[]), 5)
    assert document == {"DiskStatuses": [], "Version": "8000GB 4.48 volumed", "Volumes": None}
