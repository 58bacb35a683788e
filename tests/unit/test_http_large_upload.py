"""An upload that is read while it arrives is the one that arrives whole: same fields, same data, same errors."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.spool_kit import SpoolNode, receive_whole
from tests.unit.test_http_multipart import ACCEPTED, END, FILE, REFUSED, field
from tests.unit.test_http_upload import make_request
from volumed.bus.spool_calls import AppendSpool, OpenSpool
from volumed.errors import DiskError, VolumedError
from volumed.http.protocol.message import Request
from volumed.http.rules.upload import ParsedUpload, parse_upload, parse_upload_form
from volumed.http.text import compression
from volumed.http.text.compression import gunzip

LIMIT = 1 << 20
FORM_TYPE = b"multipart/form-data; boundary=XX"
TEXT = b"text and more text, " * 100
ZIPPED = gzip.compress(TEXT, mtime=0)
NOISE = random.Random(1).randbytes(3000)
FORMS = [case[0] for case in [*ACCEPTED, *REFUSED]]
QUOTED = b"Content-Transfer-Encoding: quoted-printable\r\n"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpoolNode]:
    fake = SpoolNode(tmp_path_factory.mktemp("spools"))
    yield fake
    fake.pool.close()


def outcome(upload: ParsedUpload) -> tuple[object, ...]:
    """Everything about it; compressed data as what they were before, since the two ways compress differently, so that
    data that hardly compress may stay as they are in one of them."""
    data = bytes(upload.data)
    plain = gunzip(data) if upload.is_gzipped else None
    clear = len(data if plain is None else plain) > 1000
    return (
        data if plain is None else plain,
        upload.name,
        upload.mime,
        upload.pairs,
        upload.ttl,
        upload.is_manifest,
        upload.is_gzipped and clear,
        upload.original_size,
        upload.content_md5,
    )


def whole(request: Request, body: bytes, limit: int) -> tuple[object, ...]:
    try:
        form = parse_upload_form(request, b"")
        return outcome(parse_upload(request, form, body, now_s=1, size_limit_bytes=limit))
    except VolumedError as error:
        return type(error).__name__, error.text


def in_pieces(node: SpoolNode, request: Request, body: bytes, cuts: list[int], limit: int) -> tuple[object, ...]:
    ends = sorted(cut % (len(body) + 1) for cut in cuts)
    pieces = [body[a:b] for a, b in zip([0, *ends], [*ends, len(body)], strict=True)]
    try:
        return outcome(asyncio.run(receive_whole(node, request, pieces, limit)))
    except VolumedError as error:
        return type(error).__name__.removeprefix("_"), error.text


def same(node: SpoolNode, request: Request, body: bytes, cuts: list[int], limit: int = LIMIT) -> None:
    assert in_pieces(node, request, body, cuts, limit) == whole(request, body, limit)


def post(**headers: bytes) -> Request:
    return make_request("POST", Content_Type=FORM_TYPE, **headers)


@pytest.mark.parametrize("case", range(len(FORMS)))
def test_forms_byte_by_byte(node: SpoolNode, case: int) -> None:
    body = FORMS[case]
    same(node, post(), body, list(range(len(body))) if len(body) < 500 else [3, 77, 4095, 4096])
    same(node, post(), body, [])


PARTS = st.sampled_from(
    [
        FILE + b"\r\n",
        FILE.replace(b"a.bin", b"b.txt") + QUOTED + b"\r\n",
        FILE + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"inside", mtime=0) + b"\r\n",
        field(b"ts", b"1700000000"),
        field(b"cm", b"true"),
        field(b"ttl", b"3d"),
        field(b"other", b"x" * 1025),
        b"--XX\r\nbroken\r\n\r\n",
        b"--XX\r\n\r\n",
        b"--XX--\r\n",
        b"--XX--",
        b"\r\n--XX",
        b"\r\n--XXY",
        b"\r\n--XX-",
        b"\r\n",
        b"\n",
        b"=41=\r\n=4",
        b"= \r\n=\r=zz \t\r\n",
        b"=",
        b"\x01",
        b"data",
        TEXT,
        NOISE,
        b"x" * 4097,
    ]
)


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(PARTS, max_size=8), cuts=st.lists(st.integers(0, 1 << 16), max_size=6), limit=st.just(LIMIT))
def test_any_form_in_any_pieces(node: SpoolNode, parts: list[bytes], cuts: list[int], limit: int) -> None:
    same(node, post(), b"".join(parts), cuts, limit)


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(PARTS, max_size=5), cuts=st.lists(st.integers(0, 1 << 16), max_size=4), limit=st.integers(0, 4000)
)
def test_any_form_against_a_limit(node: SpoolNode, parts: list[bytes], cuts: list[int], limit: int) -> None:
    same(node, post(), b"".join([FILE, b"\r\n", *parts, b"\r\n", END]), cuts, limit)


def md5(data: bytes) -> bytes:
    return base64.b64encode(hashlib.md5(data).digest())


RAW = [
    (TEXT, {}),
    (TEXT, {"Content_Type": b"text/plain"}),
    (TEXT, {"Content_Type": b"application/octet-stream"}),
    (NOISE, {"Content_Type": b"text/plain"}),
    (NOISE, {}),
    (b"", {}),
    (b"short", {"Content_Type": b"text/plain"}),
    (ZIPPED, {"Content_Encoding": b"gzip"}),
    (ZIPPED + bytes(40) + gzip.compress(NOISE, mtime=0) + bytes(3), {"Content_Encoding": b"gzip"}),
    (ZIPPED + b"behind", {"Content_Encoding": b"gzip"}),
    (ZIPPED[:-3], {"Content_Encoding": b"gzip"}),
    (bytes(4) + ZIPPED, {"Content_Encoding": b"gzip"}),
    (gzip.compress(b"", mtime=0) * 500, {"Content_Encoding": b"gzip"}),
    (b"no gzip", {"Content_Encoding": b"gzip"}),
    (ZIPPED, {"Content_Encoding": b"gzip", "Content_MD5": md5(TEXT)}),
    (ZIPPED, {"Content_Encoding": b"gzip", "Content_MD5": b"wrong"}),
    (b"no gzip", {"Content_Encoding": b"gzip", "Content_MD5": md5(b"no gzip")}),
    (TEXT, {"Content_MD5": md5(TEXT), "Content_Type": b"text/plain", "Seaweed_One": b"1"}),
    (TEXT, {"Content_MD5": b"wrong"}),
]


@pytest.mark.parametrize(("body", "headers"), RAW, ids=map(str, range(len(RAW))))
@pytest.mark.parametrize("query", [b"", b"type=replicate", b"cm=true&ttl=7d"])
def test_raw_bodies(node: SpoolNode, body: bytes, headers: dict[str, bytes], query: bytes) -> None:
    request = make_request("PUT", query, **headers)
    same(node, request, body, [])
    same(node, request, body, [1, 2, 100, 511, 512, 513, 1999])
    if len(body) < 500:
        same(node, request, body, list(range(len(body))))


def test_the_limit_is_exact(node: SpoolNode) -> None:
    same(node, make_request(), b"x" * 1000, [10, 999], limit=1000)
    same(node, make_request(), b"x" * 1001, [10, 999], limit=1000)


def test_gzip_data_that_grow_too_much(node: SpoolNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression.GunzipStream.__init__, "__defaults__", (10_000,))
    monkeypatch.setattr(gunzip, "__defaults__", (10_000,))
    same(node, make_request(Content_Encoding=b"gzip"), gzip.compress(bytes(10_000), mtime=0), [5])
    bomb = gzip.compress(bytes(10_001), mtime=0)
    assert whole(make_request(Content_Encoding=b"gzip"), bomb, LIMIT)[0] == "DecompressedTooLarge"
    same(node, make_request(Content_Encoding=b"gzip"), bomb, [5])


@pytest.mark.parametrize("line", [b"x" * 4095, b"x" * 4096, b"=41" * 1365, b" " * 5000, b"x" * 9000 + b"\x01"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"=\r\n", b""])
def test_long_lines_of_quoted_printable(node: SpoolNode, line: bytes, end: bytes) -> None:
    body = FILE + QUOTED + b"\r\nfirst\n" + line + end
    same(node, post(), body + b"last\r\n" + END, [1000, 4150, 4200, 4201, 4300])
    same(node, post(), body + b"\r\n" + END, [])


def test_a_disk_that_fails_is_not_the_clients_fault(node: SpoolNode) -> None:
    for call in (OpenSpool, AppendSpool):
        node.failures[call] = [DiskError("no space left on device")]
        with pytest.raises(VolumedError, match="failed to write to local disk: no space left on device"):
            asyncio.run(receive_whole(node, make_request(), [bytes(1 << 20)] * 3, 4 << 20))


def test_many_pieces_cross_in_order(node: SpoolNode) -> None:
    data = random.Random(2).randbytes((5 << 20) + 123)
    request = make_request()
    pieces = [data[at : at + 77_777] for at in range(0, len(data), 77_777)]
    upload = asyncio.run(receive_whole(node, request, pieces, 8 << 20))
    assert upload.data == data
