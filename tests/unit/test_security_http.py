"""Tokens and white list in front of both lanes; the tokens that other servers get (docs/spec/http.md 1.7, 8.2)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.connection_kit import Client, FakeHost, get, put
from tests.node_kit import PATH, FakeAnswer, FakeNode, ask, needle, request, run, until
from tests.tokens import token
from volumed.bus.bodypool import BodyPool
from volumed.bus.calls import Location
from volumed.formats.needle import FLAG_CHUNK_MANIFEST
from volumed.http.rules.authorization import passed_on
from volumed.http.server import NodeHandler
from volumed.security.access import Access
from volumed.security.guard import WhiteList
from volumed.security.tokens import TokenKey

FID = PATH[1:]
WRITE = TokenKey("w", 10)
READ = TokenKey("r", 10)
WRONG = (401, b'{"error":"wrong jwt"}')


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    pool = BodyPool(str(tmp_path / "pool"), 16 << 20, 1 << 20)
    fake = FakeNode(pool)
    fake.put(needle(b"abc"))
    free = pool.free_bytes
    yield fake
    assert pool.free_bytes == free, "a slab was not released"
    pool.close()


@pytest.fixture(params=["lane", "framework"])
def lanes(request: pytest.FixtureRequest, node: FakeNode) -> FakeNode:
    node.config = msgspec.structs.replace(node.config, needle_lane=request.param == "lane")
    return node


def statuses(node: FakeNode, *requests: bytes, public: bool = False) -> list[int]:
    found: list[int] = []

    async def test() -> None:
        host = FakeHost(pool=node.pool)
        host.handler = NodeHandler(node)  # type: ignore[assignment, arg-type]
        client = Client(host, public=public)
        client.send(*requests)
        await until(lambda: len(client.statuses()) == len(requests))
        found.extend(client.statuses())

    run(test())
    return found


def bearer(text: str) -> bytes:
    return b"Authorization: Bearer " + text.encode()


def test_reads_and_writes_need_tokens_of_their_own_kind(lanes: FakeNode) -> None:
    lanes.access = Access(READ, WRITE)
    path = PATH.encode()
    reading, writing = bearer(token(FID, "r")), bearer(token(FID, "w"))
    assert statuses(lanes, get(path), get(path, writing), get(path, reading)) == [401, 401, 200]
    assert statuses(lanes, put(path, b"x"), put(path, b"x", reading), put(path, b"x", writing)) == [401, 401, 201]
    assert len(lanes.stored) == 1


def test_only_configured_keys_are_asked_for(lanes: FakeNode) -> None:
    path = PATH.encode()
    lanes.access = Access(read_key=READ)
    assert statuses(lanes, get(path), put(path, b"x")) == [401, 201]
    lanes.access = Access(write_key=WRITE)
    assert statuses(lanes, get(path), put(path, b"x")) == [200, 401]


def test_settings_count_from_the_next_request_on(lanes: FakeNode) -> None:
    path = PATH.encode()
    assert statuses(lanes, get(path), put(path, b"x")) == [200, 201]
    lanes.access = Access(READ, WRITE, WhiteList(["10.0.0.9"]))
    assert statuses(lanes, get(path), put(path, b"x")) == [401, 401]


@pytest.mark.parametrize(("entry", "status"), [("10.0.0.9", 201), ("10.0.0.8", 401), ("10.0.0.0/24", 201)])
def test_the_white_list_is_for_writes(lanes: FakeNode, entry: str, status: int) -> None:
    """The peer of these connections is 10.0.0.9, whatever headers say."""
    lanes.access = Access(white_list=WhiteList([entry]))
    path = PATH.encode()
    assert statuses(lanes, put(path, b"x", b"X-Forwarded-For: 10.0.0.8"), get(path)) == [status, 200]


@pytest.mark.parametrize(
    "access", [Access(READ, WRITE), Access(white_list=WhiteList(["10.0.0.8"]))], ids=["token", "list"]
)
def test_large_bodies_are_refused_before_they_come(lanes: FakeNode, access: Access) -> None:
    lanes.access = access
    head = b"PUT %b HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n\r\n"
    assert statuses(lanes, head % PATH.encode()) == [401]


def test_pages_ask_for_nothing(lanes: FakeNode) -> None:
    lanes.access = Access(READ, WRITE, WhiteList(["10.0.0.8"]))
    assert statuses(lanes, get(b"/healthz"), get(b"/favicon.ico")) == [200, 200]


def test_the_public_port_asks_for_read_tokens_alone(lanes: FakeNode) -> None:
    lanes.access = Access(READ, WRITE, WhiteList(["10.0.0.8"]))
    path, reading = PATH.encode(), bearer(token(FID, "r"))
    assert statuses(lanes, get(path), get(path, reading), get(b"/status"), put(path, b"x"), public=True) == [
        401, 200, 401, 200,
    ]  # fmt: skip
    assert lanes.stored == []


def test_the_white_list_comes_before_everything_else(node: FakeNode) -> None:
    node.access = Access(READ, WRITE, WhiteList(["10.0.0.8"]))
    for method in ("PUT", "POST", "DELETE"):
        for target in (PATH, "/x", PATH + "?a=%zz"):
            assert ask(node, method, target) == (401, b"")


def test_order_of_writes_and_deletes(node: FakeNode) -> None:
    node.access = Access(READ, WRITE)
    assert ask(node, "POST", PATH + "?a=%zz")[0] == 400
    assert ask(node, "POST", "/x,01aabbccdd")[0] == 400
    assert ask(node, "POST", "/7,zz") == WRONG
    assert ask(node, "DELETE", "/7,zz")[0] == 400
    assert ask(node, "DELETE", "/x,01aabbccdd") == WRONG
    assert ask(node, "GET", "/a.b,c") == ask(node, "GET", "/") == WRONG
    assert ask(node, "GET", "/?pretty=y")[1] == b'{\n  "error": "wrong jwt"\n}'


@pytest.mark.parametrize(
    ("target", "headers", "passed"),
    [
        (PATH, {}, b""),
        (PATH + "?jwt=q", {"authorization": "Bearer h", "cookie": "AT=c"}, b"q"),
        (PATH, {"authorization": "bearer h", "cookie": "AT=c"}, b"h"),
        (PATH, {"authorization": "Basic h", "cookie": "x=y; AT=c"}, b"c"),
        (PATH + "?jwt=a%0d%0aX:%20y", {}, b"a  X: y"),
    ],
)
def test_the_token_that_is_passed_on(target, headers, passed):
    expected = [(b"Authorization", b"Bearer " + passed)] if passed else []
    assert passed_on(request("PUT", target, **headers)) == expected


def manifest_with_a_chunk_elsewhere(node: FakeNode) -> None:
    chunks = {"size": 3, "chunks": [{"fid": "9,02aabbccdd", "offset": 0, "size": 3}]}
    node.put(needle(json.dumps(chunks).encode(), flags=FLAG_CHUNK_MANIFEST))
    node.locations = [Location("a:80", "a:80")]


def sent_token(node: FakeNode) -> bytes:
    return node.sent[0][3][b"Authorization"].removeprefix(b"Bearer ")


def test_chunks_elsewhere_are_read_with_a_token_of_our_own(node: FakeNode) -> None:
    manifest_with_a_chunk_elsewhere(node)
    node.access = Access(read_key=READ)
    node.answers["a:80"] = FakeAnswer(200, b"abc")
    assert ask(node, "GET", PATH, authorization="Bearer " + token(FID, "r")) == (200, b"abc")
    assert READ.allows(sent_token(node), "9,02aabbccdd")


def test_without_keys_no_tokens_are_made(node: FakeNode) -> None:
    manifest_with_a_chunk_elsewhere(node)
    node.answers["a:80"] = FakeAnswer(200, b"abc")
    assert ask(node, "GET", PATH, authorization="Bearer x") == (200, b"abc")
    assert node.sent[0][3] == {}
