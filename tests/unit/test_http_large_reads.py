"""Compressed needles that grow large: what is sent is what would be sent at once, piece by piece."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node_kit import PATH, BytesBody, FakeNode, ask, content, needle, request, run
from volumed.bus.bodypool import BodyPool
from volumed.formats.needle import FLAG_CHUNK_MANIFEST, FLAG_GZIP
from volumed.http.handlers import read as handlers_read
from volumed.http.handlers.store import handle_store
from volumed.http.rules import manifest
from volumed.http.text import compression
from volumed.http.text.compression import GunzipStream, NotGzip

NOISE = random.Random(3).randbytes(3 << 20)
PLAIN = NOISE + bytes(3 << 20) + b"end"
ZIPPED = gzip.compress(PLAIN, 1, mtime=0)


@pytest.fixture(params=["stored long", "growing"])
def node(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    """Either the stored data are too long to be read whole, or what becomes of them is."""
    if request.param == "stored long":
        monkeypatch.setattr(handlers_read, "_LOADED_BYTES_MAX", 1 << 20)
    else:
        monkeypatch.setattr(handlers_read, "_PLAIN_BYTES_MAX", 1 << 20)
    pool = BodyPool(str(tmp_path / "pool"), 16 << 20, 1 << 20)
    yield FakeNode(pool)
    pool.close()


def put(node: FakeNode, data: bytes, flags: int = FLAG_GZIP) -> None:
    node.put(needle(data, flags=flags))


def headers(node: FakeNode, method: str, **fields: str) -> tuple[int, int | None, dict[bytes, bytes]]:
    found: list[tuple[int, int | None, dict[bytes, bytes]]] = []

    async def test() -> None:
        response = await handle_store(request(method, PATH, **fields), BytesBody(), node, public=False)
        await content(response)
        found.append((response.status, response.content_length, dict(response.headers)))

    run(test())
    return found[0]


def test_the_whole(node: FakeNode) -> None:
    put(node, ZIPPED)
    assert ask(node, "GET", PATH) == (200, PLAIN)
    status, length, fields = headers(node, "HEAD")
    assert (status, length) == (200, len(PLAIN))
    assert b"Content-Encoding" not in fields
    assert headers(node, "GET")[1:] == (len(PLAIN), {**fields, b"Content-Type": b"application/octet-stream"})


def test_ranges(node: FakeNode) -> None:
    put(node, ZIPPED)
    assert ask(node, "GET", PATH, range="bytes=3145700-3145800") == (206, PLAIN[3145700:3145801])
    assert ask(node, "GET", PATH, range="bytes=-4") == (206, PLAIN[-4:])
    status, body = ask(node, "GET", PATH, range="bytes=0-9,6000000-6000009")
    assert status == 206
    assert PLAIN[:10] in body
    assert ask(node, "GET", PATH, range=f"bytes={len(PLAIN)}-")[0] == 416


def test_a_client_that_takes_gzip(node: FakeNode) -> None:
    put(node, ZIPPED)
    assert ask(node, "GET", PATH, accept_encoding="gzip") == (200, ZIPPED)
    assert headers(node, "HEAD", accept_encoding="gzip")[1:][0] == len(ZIPPED)
    assert headers(node, "GET", accept_encoding="gzip")[2][b"Content-Encoding"] == b"gzip"


def test_data_that_are_no_gzip(node: FakeNode) -> None:
    put(node, NOISE)
    assert ask(node, "GET", PATH) == (200, NOISE)
    put(node, b"\x1f\x8b" + NOISE)
    assert ask(node, "GET", PATH) == (200, b"")
    put(node, ZIPPED[:-1])
    assert ask(node, "GET", PATH) == (200, b"")


def test_data_that_grow_over_the_limit(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GunzipStream.__init__, "__defaults__", (len(PLAIN) - 1,))
    put(node, ZIPPED)
    assert ask(node, "GET", PATH) == (413, b"")


def test_a_long_manifest_is_none(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers_read, "MANIFEST_BYTES_MAX", 100)
    text = b'{"chunks":[]}' + b" " * 100
    put(node, text, FLAG_CHUNK_MANIFEST)
    assert ask(node, "GET", PATH) == (200, text)
    assert manifest.MANIFEST_BYTES_MAX > 100


@pytest.mark.parametrize("step", [1, 7, 100, 1 << 20])
def test_gzip_streams(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_PIECE_BYTES", 64)
    plain = NOISE[:3000] + bytes(3000)
    members = gzip.compress(plain, mtime=0) + bytes(5) + gzip.compress(b"", mtime=0) + gzip.compress(b"x", mtime=0)
    for data in (members, members + b"\0"):
        stream = GunzipStream()
        pieces = [piece for at in range(0, len(data), step) for piece in stream.feed(data[at : at + step])]
        assert b"".join(pieces) == plain + b"x"
        assert max(map(len, pieces)) <= 64
        assert stream.complete
    with pytest.raises(NotGzip):
        list(GunzipStream().feed(zlib.compress(plain)))
