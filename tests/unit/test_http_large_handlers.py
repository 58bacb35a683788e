"""POST and PUT of long bodies: answers, what reaches the disk and the replicas, and that nothing stays behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.connection_kit import Client, FakeHost
from tests.node_kit import COOKIE, PATH, BytesBody, FakeAnswer, ask, content, request, run
from tests.spool_kit import SpoolNode
from volumed.bus.bodypool import BodyPool
from volumed.bus.calls import Location
from volumed.bus.frames import FLAG_FSYNC
from volumed.bus.spool_calls import AppendSpool, OpenSpool, StoreSpool
from volumed.config.node import DiskConfig
from volumed.errors import DiskError, DiskUnavailable, ReadOnlyVolume, StaleGeneration
from volumed.formats.checksum import crc32c
from volumed.formats.needle import decode_body
from volumed.http.handlers.store import handle_store
from volumed.http.protocol.body import BodyStream, IncomingBody, receive
from volumed.http.server import NodeHandler

DATA = random.Random(4).randbytes(2_500_000)
WHOLE_MAX = 100_000


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SpoolNode]:
    fake = SpoolNode(tmp_path)
    disks = tuple(DiskConfig(disk_id=at, directory="", idx_directory="") for at in range(2))
    fake.config = msgspec.structs.replace(
        fake.config, whole_body_bytes_max=WHOLE_MAX, file_size_limit_bytes=3_000_000, disks=disks
    )
    yield fake
    asyncio.run(fake.settled())
    fake.pool.close()


def stored(node: SpoolNode) -> tuple[StoreSpool, bytes]:
    (needle,) = node.needles
    return needle


def test_the_answer_is_that_of_a_short_upload(node: SpoolNode) -> None:
    long = ask(node, "PUT", PATH + "?ts=1700000000&fsync=true", DATA, content_type="a/b")
    call, data = stored(node)
    assert data == DATA
    assert (call.volume_id, call.key, call.cookie, call.checksum) == (7, 1, COOKIE, crc32c(DATA))
    assert (call.generation, call.flags) == (1, FLAG_FSYNC)
    needle = decode_body(call.prefix + data + call.suffix, 3)
    assert (needle.mime, needle.name, needle.last_modified) == (b"a/b", b"7,01aabbccdd", 1700000000)
    node.config = msgspec.structs.replace(node.config, whole_body_bytes_max=1 << 30)
    assert ask(node, "PUT", PATH + "?ts=1700000000&fsync=true", DATA, content_type="a/b") == long
    assert node.bodies == [call.prefix + data + call.suffix]
    assert long[0] == 201


@pytest.mark.parametrize(
    ("method", "target", "headers", "status", "text"),
    [
        ("PUT", PATH, {"content_md5": "x"}, 400, b"Content-MD5 did not match"),
        ("PUT", "/7,zz", {}, 400, b"Invalid fid: zz"),
        ("PUT", "/x,01aabbccdd", {}, 400, b"strconv.ParseUint"),
        ("POST", PATH, {"content_type": "multipart/form-data; boundary=X"}, 400, b"multipart: NextPart"),
        ("PUT", "/9,01aabbccdd", {}, 500, b"volume 9 not found on node:80"),
        ("PUT", "/9,01aabbccdd?type=replicate", {}, 500, b"volume 9 not found on node:80"),
    ],
)
def test_refusals(node: SpoolNode, method: str, target: str, headers: dict[str, str], status: int, text: bytes) -> None:
    answer = ask(node, method, target, DATA, **headers)
    assert (answer[0], text in answer[1]) == (status, True), answer
    assert node.needles == []
    node.config = msgspec.structs.replace(node.config, whole_body_bytes_max=1 << 30)
    assert ask(node, method, target, DATA, **headers) == answer


def test_long_form_values(node: SpoolNode) -> None:
    form = {"content_type": "application/x-www-form-urlencoded"}
    assert ask(node, "POST", PATH, DATA, **form) == (400, b'{"error":"http: POST too large"}')


def test_over_the_limit(node: SpoolNode) -> None:
    error = b'{"error":"file over the limited 3000000 bytes"}'
    for length in (3_000_001, 3_000_000 + (1 << 20), 3_000_001 + (1 << 20)):
        assert ask(node, "PUT", PATH, bytes(length)) == (400, error)
    assert ask(node, "PUT", PATH, bytes(3_000_000))[0] == 201


@pytest.mark.parametrize("call", [OpenSpool, AppendSpool, StoreSpool])
def test_a_disk_that_fails(node: SpoolNode, call: type[object]) -> None:
    node.failures[call] = [DiskError("no space left on device")]
    error = b'{"error":"failed to write to local disk: no space left on device"}'
    assert ask(node, "PUT", PATH, DATA) == (500, error)


def test_refused_by_the_volume(node: SpoolNode) -> None:
    node.failures[StoreSpool] = [ReadOnlyVolume.of(7)]
    assert ask(node, "PUT", PATH, DATA) == (500, b'{"error":"failed to write to local disk: volume 7 is read only"}')


def test_decided_again_for_another_generation(node: SpoolNode) -> None:
    node.failures[StoreSpool] = [StaleGeneration("generation")] * 3
    assert ask(node, "PUT", PATH, DATA)[0] == 201
    node.failures[StoreSpool] = [StaleGeneration("generation")] * 4
    assert ask(node, "PUT", PATH, DATA)[0] == 500


def test_copies_get_the_data_from_the_spool(node: SpoolNode) -> None:
    node.record = node.new_record(1, placement=1)
    node.locations = [Location("node:80", ""), Location("b:81", "")]
    assert ask(node, "PUT", PATH, DATA, content_type="a/b")[0] == 201
    ((method, address, target, headers, body),) = node.sent
    assert (method, address) == ("POST", "b:81")
    assert target.startswith(b"/7,01aabbccdd?ts=")
    head, _, rest = body.partition(b"\r\n\r\n")
    assert rest == DATA + b"\r\n--" + headers[b"Content-Type"].partition(b"boundary=")[2] + b"--\r\n"
    assert b"Content-Type: a/b" in head
    node.answers["b:81"] = FakeAnswer(500, b'{"error":"full"}')
    status, text = ask(node, "PUT", PATH, DATA)
    assert (status, b"failed to write to replicas for volume 7: [b:81]" in text) == (500, True)


def test_a_volume_that_only_others_have(node: SpoolNode) -> None:
    """The data are kept on any disk that can, until the others have them."""
    node.mounted = False
    node.locations = [Location("b:81", ""), Location("c:82", "")]
    node.failures[OpenSpool] = [DiskUnavailable("disk 0 is failed")]
    assert ask(node, "PUT", PATH, DATA)[0] == 201
    assert node.needles == []
    assert [DATA in body for *_, body in node.sent] == [True, True]


def test_a_volume_that_appears_after_its_data_were_dropped(node: SpoolNode) -> None:
    node.mounted = False

    class LateBody(BytesBody):
        async def chunks(self):  # type: ignore[no-untyped-def,override]
            async for chunk in super().chunks():
                yield chunk
            node.mounted = True

    async def test() -> None:
        response = await handle_store(request("PUT", PATH), LateBody(DATA), node, public=False)
        assert response.status == 500
        assert b"volume 7 not found" in await content(response)

    run(test())


def test_a_client_that_goes_leaves_nothing(node: SpoolNode) -> None:
    async def test() -> None:
        host = FakeHost(pool=node.pool)
        host.handler = NodeHandler(node)  # type: ignore[assignment]
        client = Client(host)
        client.send(b"PUT /7,01aabbccdd HTTP/1.1\r\nHost: x\r\nContent-Length: 2500000\r\n\r\n" + DATA[:1_500_000])
        async with asyncio.timeout(60):
            while not any(node.spools.values()):  # noqa: ASYNC110
                await asyncio.sleep(0)
        client.connection.connection_lost(None)
        await node.settled()

    run(test())
    assert node.needles == []


@pytest.mark.parametrize("limit", [DATA, None], ids=["announced", "chunked"])
def test_bodies_whole_and_in_pieces(tmp_path: Path, limit: bytes | None) -> None:
    pool = BodyPool(str(tmp_path / "bodies"), 16 << 20, 1 << 20)

    async def taken(data: bytes, whole_max: int) -> bytes | BodyStream:
        body = IncomingBody(len(data) if limit else None, pool, lambda: None, lambda: None)
        work = asyncio.ensure_future(receive(body, whole_max, 3_000_000))
        for at in range(0, len(data), 60_000):
            body.feed(data[at : at + 60_000])
            await asyncio.sleep(0)
        body.finish()
        found = await work
        if isinstance(found, BodyStream):
            assert b"".join([bytes(chunk) async for chunk in found.chunks]) == data
            return found
        whole = bytes(found.data)
        found.release()
        return whole

    async def test() -> None:
        assert await taken(DATA, len(DATA)) == DATA
        assert isinstance(await taken(DATA, len(DATA) - 1), BodyStream)
        assert await taken(DATA[:10], 10) == DATA[:10]

    run(test())
    pool.close()
