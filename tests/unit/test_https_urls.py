"""What a node whose peers speak HTTPS says about them (docs/spec/http.md 1.6, 3.2, 4.7)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.node_kit import PATH, BytesBody, FakeAnswer, FakeNode, ask, request
from volumed.bus.bodypool import BodyPool
from volumed.bus.calls import Location
from volumed.http.handlers.store import handle_store
from volumed.http.objects.peer import PeerError


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    pool = BodyPool(str(tmp_path / "pool"), 16 << 20, 1 << 20)
    fake = FakeNode(pool)
    fake.scheme = "https"
    fake.locations = [Location("node:80", ""), Location("a:80", "")]
    yield fake
    pool.close()


def test_redirects_to_other_servers(node: FakeNode) -> None:
    node.mounted = False
    node.config = msgspec.structs.replace(node.config, read_mode="redirect")
    response = asyncio.run(handle_store(request("GET", PATH), BytesBody(), node, public=False))
    assert response.status == 301
    assert dict(response.headers)[b"Location"] == f"https://a:80{PATH}?proxied=true".encode()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (PeerError("certificate verify failed"), "upload 7,01aabbccdd 3 bytes to https://a:80/7,01aabbccdd?"),
        (FakeAnswer(500, b'{"error":"no room"}'), "unmarshalled error https://a:80/7,01aabbccdd?"),
    ],
)
def test_errors_of_replicas(node: FakeNode, answer: FakeAnswer | PeerError, text: str) -> None:
    node.record = node.new_record(1, placement=1)
    node.answers["a:80"] = answer
    status, body = ask(node, "PUT", PATH, b"abc")
    assert (status, text.encode() in body) == (500, True)
