"""The handlers against a node in memory: where bytes come from, what is sent to the disk, who is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.test_http_shell_connection import Client, FakeHost, get, put
from volumed.bus.bodypool import BodyPool, Slab
from volumed.bus.calls import Location, Locations, LookupVolume
from volumed.bus.frames import (
    FLAG_FSYNC,
    FLAG_META_ONLY,
    STORE_DELETE,
    STORE_PUT,
    STORE_PUT_SHARED,
    StoreOperation,
    StoreOutcome,
    StoreResult,
    pack_store_batch,
    parse_store_batch,
)
from volumed.config.node import NodeConfig
from volumed.errors import ClientError, CorruptNeedle, NeedleNotFound, ReadOnlyVolume, StaleGeneration, VolumedError
from volumed.formats.checksum import crc32c
from volumed.formats.needle import (
    FLAG_LAST_MODIFIED,
    FLAG_TTL,
    PAGED_HEAD_LENGTH,
    PAGED_SIZE_MIN,
    Needle,
    encode_body,
    encode_record,
)
from volumed.formats.ttl import Ttl
from volumed.http.body import BytesBody, IncomingBody
from volumed.http.message import Request, Response
from volumed.http.needle_source import PAGE_BYTES
from volumed.http.peer import PeerError
from volumed.http.server import NodeHandler
from volumed.http.store_handlers import handle_store
from volumed.storage.map_records import NO_FLAGS, VolumeRecord
from volumed.storage.read_payload import pack_payload
from volumed.storage.view import Found, ReadNow, VolumeHandle

COOKIE = 0xAABBCCDD
PATH = "/7,01aabbccdd"


class FakeFiles:
    """The page cache: everything or nothing."""

    def __init__(self, node: FakeNode) -> None:
        self._node = node

    def read(self, _handle: VolumeHandle, offset: int, length: int) -> bytes | None:
        return self._node.dat[offset : offset + length] if self._node.cached else None


class FakeNode:
    """One disk with volume 7, which holds at most one needle, key 1."""

    def __init__(self, pool: BodyPool) -> None:
        self.config = NodeConfig(runtime_dir="", map_dir="", state_dir="", disks=(), ip="node", port=80)
        self.pool = pool
        self.healthy = True
        self.view = self
        self.supervisor = self
        self.peers = self
        self.cached = True
        self.record = self.new_record(1)
        self.mounted = True
        self.dat = b""
        self.offset = 0
        self.size = 0
        self.forwarded: list[tuple[str, int]] = []
        self.stored: list[StoreOperation] = []
        self.bodies: list[bytes] = []
        self.results: list[StoreResult] = []
        self.hold: asyncio.Event | None = None
        self.locations: list[Location] | VolumedError = []
        self.sent: list[tuple[str, str, bytes, dict[bytes, bytes], bytes]] = []
        self.answers: dict[str, FakeAnswer | PeerError] = {}

    @staticmethod
    def new_record(generation: int, placement: int = 0, ttl: int = 0) -> VolumeRecord:
        return VolumeRecord(generation, 3, placement, ttl, NO_FLAGS, 0, 5, "/d/7.dat", "")

    def put(self, needle: Needle, *, offset: int = 64, damage: int = -1) -> None:
        """Have this needle at this place; ``damage`` is the position of a byte that is changed."""
        raw = bytearray(encode_record(needle, 3))
        if damage >= 0:
            raw[damage] ^= 1
        self.dat = bytes(offset) + bytes(raw)
        self.offset = offset
        self.size = sum(map(len, encode_body(needle, 3)))

    # View

    def locate(self, volume_id: int) -> VolumeHandle | None:
        if volume_id != 7 or not self.mounted:
            return None
        return VolumeHandle(7, 0, self.record, b"", None, FakeFiles(self))  # type: ignore[arg-type]

    def read_now(self, volume_id: int, key: int, read_deleted: bool = False) -> ReadNow:
        del read_deleted
        handle = self.locate(volume_id)
        if handle is None:
            return ReadNow(Found.NO_VOLUME, None)
        if key != 1 or not self.dat:
            return ReadNow(Found.MISSING, handle)
        if not self.size:
            return ReadNow(Found.EMPTY, handle)
        if not self.cached or self.size > 256 << 10:
            return ReadNow(Found.FORWARD, handle, self.offset, self.size)
        return ReadNow(Found.RECORD, handle, self.offset, self.size, self.dat[self.offset :])

    # Link

    def link(self, _disk_id: int) -> FakeNode:
        return self

    async def read(self, volume_id: int, key: int, flags: int = 0) -> bytes:
        self.forwarded.append(("read", key))
        if volume_id != 7 or key != 1:
            raise NeedleNotFound
        record = self.dat[self.offset :]
        if self.size > PAGED_SIZE_MIN and flags & FLAG_META_ONLY:
            data_size = int.from_bytes(record[16:20], "big")
            record = record[:PAGED_HEAD_LENGTH] + record[PAGED_HEAD_LENGTH + data_size :]
        return pack_payload(3, self.record.generation, self.offset, self.size, record)

    async def read_range(self, _volume_id: int, generation: int, offset: int, length: int) -> bytes:
        self.forwarded.append(("range", offset))
        if generation != self.record.generation:
            raise StaleGeneration("generation")
        return self.dat[offset : offset + length]

    def store(self, operation: bytes, done: Callable[[StoreResult], None], slab: Slab | None = None) -> None:
        _, [parsed] = parse_store_batch(memoryview(pack_store_batch(1, [operation])))
        self.stored.append(parsed)
        if parsed.kind == STORE_PUT_SHARED:
            assert slab is not None
            start = parsed.shared_at - slab.offset
            self.bodies.append(bytes(slab.view[start : start + parsed.size]))
        else:
            self.bodies.append(bytes(parsed.body))
        result = self.results.pop(0) if self.results else StoreResult(StoreOutcome.STORED, parsed.size)

        async def later() -> None:
            if self.hold is not None:
                await self.hold.wait()
            done(result)

        self.task = asyncio.ensure_future(later())

    # Supervisor and peers

    async def call(self, request: Any, _timeout_s: float) -> Any:
        assert isinstance(request, LookupVolume)
        if isinstance(self.locations, VolumedError):
            raise self.locations
        return Locations(self.locations)

    async def request(
        self, method: str, address: str, target: bytes, headers: Any = (), body: Any = ()
    ) -> FakeAnswer:
        self.sent.append((method, address, target, dict(headers), b"".join(bytes(part) for part in body)))
        answer = self.answers.get(address, FakeAnswer(201, b"{}"))
        if isinstance(answer, PeerError):
            raise answer
        return answer


class FakeAnswer:
    """A `PeerResponse`."""

    def __init__(self, status: int, content: bytes, *headers: tuple[bytes, bytes]) -> None:
        self.status = status
        self.headers = list(headers)
        self.content_length = len(content)
        self._content = content

    async def read(self, _limit_bytes: int) -> bytes:
        return self._content

    async def chunks(self):  # type: ignore[no-untyped-def]
        yield self._content

    def close(self) -> None:
        pass


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    pool = BodyPool(str(tmp_path / "pool"), 16 << 20, 1 << 20)
    fake = FakeNode(pool)
    free = pool.free_bytes
    yield fake
    assert pool.free_bytes == free, "a slab was not released"
    pool.close()


def needle(data: bytes, **fields: Any) -> Needle:
    return Needle(COOKIE, 1, data=data, checksum=crc32c(data), append_at_ns=1, **fields)


def request(method: str, target: str, **headers: str) -> Request:
    path, _, query = target.partition("?")
    fields = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Request(
        method, target.encode(), path.encode(), path, query.encode(), fields, list(fields.items()), request_id=b"ID"
    )


async def content(response: Response) -> bytes:
    body = response.body
    if body is None or isinstance(body, bytes | memoryview):
        return bytes(body or b"")
    return b"".join([bytes(piece) async for piece in body])


def ask(node: FakeNode, method: str, target: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    """Status and body of one request."""

    async def run() -> tuple[int, bytes]:
        response = await handle_store(request(method, target, **headers), BytesBody(body), node, public=False)
        return response.status, await content(response)

    return asyncio.run(run())


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until it holds."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


class TestReads:
    def test_cached_records_cost_no_message(self, node: FakeNode) -> None:
        node.put(needle(b"abc"))
        assert ask(node, "GET", PATH) == (200, b"abc")
        assert node.forwarded == []

    def test_others_are_read_by_the_worker(self, node: FakeNode) -> None:
        node.put(needle(b"abc"))
        node.cached = False
        assert ask(node, "GET", PATH) == (200, b"abc")
        assert node.forwarded == [("read", 1)]

    def test_a_record_that_is_not_sound_is_read_again(self, node: FakeNode) -> None:
        node.put(needle(b"abc"), damage=20)
        assert ask(node, "GET", PATH) == (500, b"")
        assert node.forwarded == [("read", 1)]

    def test_absent(self, node: FakeNode) -> None:
        assert ask(node, "GET", PATH) == (404, b"")
        node.put(needle(b"abc"))
        assert ask(node, "GET", "/7,01aabbccde") == (404, b"")
        assert ask(node, "GET", "/7,02aabbccdd") == (404, b"")

    def test_any_cookie_fits_an_empty_needle(self, node: FakeNode) -> None:
        node.put(needle(b""))
        assert ask(node, "GET", "/7,0112345678") == (200, b"")

    def test_expired(self, node: FakeNode) -> None:
        node.put(needle(b"abc", flags=FLAG_TTL | FLAG_LAST_MODIFIED, ttl=Ttl(1, 1), last_modified=1))
        assert ask(node, "GET", PATH) == (404, b"")

    @pytest.mark.parametrize("cached", [True, False])
    def test_large_needles_are_read_in_pages(self, node: FakeNode, cached: bool) -> None:
        data = bytes(range(256)) * 8192
        node.put(needle(data))
        node.cached = cached
        assert ask(node, "GET", PATH) == (200, data)
        assert node.forwarded[0] == ("read", 1)
        assert len(node.forwarded) == (1 if cached else 1 + len(data) // PAGE_BYTES)
        assert ask(node, "GET", PATH, range="bytes=1000000-1000002") == (206, data[1000000:1000003])
        assert ask(node, "HEAD", PATH) == (200, b"")

    def test_a_large_needle_with_a_wrong_checksum_does_not_end(self, node: FakeNode) -> None:
        data = bytes(2 << 20)
        node.put(needle(data), damage=2_000_000)

        async def test() -> None:
            response = await handle_store(request("GET", PATH), BytesBody(), node, public=False)
            pieces = response.body
            assert pieces is not None
            sizes = [len(await anext(pieces)) for _ in range(len(data) // PAGE_BYTES - 1)]  # type: ignore[arg-type]
            assert sizes == [PAGE_BYTES] * 3
            with pytest.raises(CorruptNeedle):
                await anext(pieces)  # type: ignore[arg-type]

        run(test())
        assert ask(node, "GET", PATH, range="bytes=0-1") == (206, b"\0\0")

    @pytest.mark.parametrize("same", [True, False])
    def test_the_volume_is_compacted_while_pages_are_read(self, node: FakeNode, same: bool) -> None:
        data = bytes(range(256)) * 8192
        node.put(needle(data))
        node.cached = False

        async def test() -> None:
            response = await handle_store(request("GET", PATH), BytesBody(), node, public=False)
            pieces = response.body
            assert pieces is not None
            first = await anext(pieces)  # type: ignore[arg-type]
            node.record = node.new_record(2)
            node.put(needle(data if same else data[:-1] + b"\1"), offset=8)
            if same:
                rest = [bytes(piece) async for piece in pieces]  # type: ignore[union-attr]
                assert bytes(first) + b"".join(rest) == data
            else:
                with pytest.raises(ClientError, match="already deleted"):
                    await anext(pieces)  # type: ignore[arg-type]

        run(test())

    def test_elsewhere(self, node: FakeNode) -> None:
        node.locations = [Location("node:80", ""), Location("peer:80", "")]
        node.answers["peer:80"] = FakeAnswer(206, b"abc", (b"Etag", b"x"), (b"Server", b"y"))
        assert ask(node, "GET", "/9,01aabbccdd?b=1&a=x", range="bytes=1-3") == (206, b"abc")
        (method, address, target, headers, _) = node.sent[0]
        assert (method, address, target) == ("GET", "peer:80", b"/9,01aabbccdd?a=x&b=1&proxied=true")
        assert headers == {b"range": b"bytes=1-3"}
        assert ask(node, "GET", "/9,01aabbccdd?proxied=true") == (404, b"")
        node.answers["peer:80"] = PeerError("gone")
        assert ask(node, "GET", "/9,01aabbccdd") == (500, b"")
        node.locations = [Location("node:80", "")]
        assert ask(node, "GET", "/9,01aabbccdd") == (404, b"")


class TestWrites:
    def test_small_bodies_go_inline(self, node: FakeNode) -> None:
        assert ask(node, "PUT", PATH + "?fsync=true", b"abc")[0] == 201
        [operation] = node.stored
        assert (operation.kind, operation.flags) == (STORE_PUT, FLAG_FSYNC)
        assert (operation.volume_id, operation.generation, operation.key) == (7, 1, 1)
        assert (operation.cookie, operation.checksum) == (COOKIE, crc32c(b"abc"))
        assert node.bodies[0].startswith(b"\0\0\0\3abc")

    @pytest.mark.parametrize("form", [False, True])
    def test_large_bodies_are_completed_where_they_lie(self, node: FakeNode, form: bool) -> None:
        data = bytes(range(256)) * 1000
        sent = data
        headers = {"content_type": "image/png"}
        if form:
            headers = {"content_type": "multipart/form-data; boundary=b"}
            sent = b'--b\r\nContent-Disposition: form-data; filename="a.png"\r\n\r\n' + data + b"\r\n--b--\r\n"

        async def test() -> None:
            body = IncomingBody(len(sent), node.pool, lambda: None, lambda: None)
            body.feed(sent[:1000])
            asked = asyncio.ensure_future(handle_store(request("POST", PATH, **headers), body, node, public=False))
            await asyncio.sleep(0)
            body.feed(sent[1000:])
            body.finish()
            assert (await asked).status == 201

        run(test())
        [operation] = node.stored
        assert operation.kind == STORE_PUT_SHARED
        assert node.bodies[0][4 : 4 + len(data)] == data
        assert int.from_bytes(node.bodies[0][:4], "big") == len(data)
        assert b"image/png" in node.bodies[0][4 + len(data) :]

    def test_large_bodies_that_are_changed_are_copied(self, node: FakeNode) -> None:
        data = b"%06d" * 50_000
        assert ask(node, "PUT", PATH, data, content_encoding="gzip")[0] == 201
        assert node.stored[0].kind == STORE_PUT_SHARED
        assert node.bodies[0][4 : 4 + len(data)] == data

    def test_the_volume_lends_its_ttl(self, node: FakeNode) -> None:
        node.record = node.new_record(1, ttl=Ttl(3, 3).to_u32())
        ask(node, "PUT", PATH, b"abc")
        assert node.bodies[0].endswith(bytes((3, 3)))

    def test_unchanged(self, node: FakeNode) -> None:
        node.results = [StoreResult(StoreOutcome.UNCHANGED, 3)]
        assert ask(node, "PUT", PATH, b"abc") == (204, b"")

    def test_refused(self, node: FakeNode) -> None:
        node.results = [StoreResult(StoreOutcome.ERROR, 0, ReadOnlyVolume.of(7))]
        expected = b'{"error":"failed to write to local disk: volume 7 is read only"}'
        assert ask(node, "PUT", PATH, b"abc") == (500, expected)
        assert ask(node, "PUT", "/9,01aabbccdd?type=replicate", b"abc") == (
            500, b'{"error":"volume 9 not found on node:80"}',
        )

    def test_a_new_generation_is_decided_again(self, node: FakeNode) -> None:
        node.results = [StoreResult(StoreOutcome.ERROR, 0, StaleGeneration("old"))]
        assert ask(node, "PUT", PATH, b"abc")[0] == 201
        assert len(node.stored) == 2

    def test_a_client_that_goes_does_not_stop_the_write(self, node: FakeNode) -> None:
        async def test() -> None:
            node.hold = asyncio.Event()
            node.record = node.new_record(1, placement=1)
            node.locations = [Location("node:80", ""), Location("peer:80", "")]
            asked = asyncio.ensure_future(handle_store(request("PUT", PATH), BytesBody(b"abc"), node, public=False))
            await until(lambda: bool(node.stored))
            asked.cancel()
            node.hold.set()
            await until(lambda: bool(node.sent))
            assert asked.cancelled()

        run(test())

    def test_over_the_limit(self, node: FakeNode) -> None:
        limit = node.config.file_size_limit_bytes

        async def test() -> None:
            body = IncomingBody(limit * 2, node.pool, lambda: None, lambda: None)
            asked = asyncio.ensure_future(handle_store(request("PUT", PATH), body, node, public=False))
            await asyncio.sleep(0)
            body.feed(bytes(1 << 20))
            assert not body.is_full
            body.finish()
            assert await content(await asked) == b'{"error":"file over the limited %d bytes"}' % limit

        run(test())


class TestReplicas:
    def test_written_to_all(self, node: FakeNode) -> None:
        node.record = node.new_record(1, placement=2)
        node.locations = [Location("node:80", ""), Location("a:80", ""), Location("b:80", "")]
        headers = {"authorization": "bearer tok", "Seaweed-x": "1"}
        status, _ = ask(node, "PUT", PATH + "?fsync=true&ts=5", b"abc", **headers)
        assert status == 201
        assert {address for _, address, *_ in node.sent} == {"a:80", "b:80"}
        method, _, target, sent, body = node.sent[0]
        assert (method, target) == ("POST", PATH.encode() + b"?fsync=true&ts=5&ttl=&type=replicate")
        assert sent[b"Authorization"] == b"Bearer tok"
        assert sent[b"Seaweed-X"] == b"1"
        assert sent[b"X-Amz-Request-Id"] == b"ID"
        assert b"\r\n\r\nabc\r\n--" in body

    def test_failures(self, node: FakeNode) -> None:
        node.record = node.new_record(1, placement=1)
        node.locations = [Location("node:80", ""), Location("a:80", "")]
        url = b"http://a:80/7,01aabbccdd?ts=5&ttl=&type=replicate"
        node.answers["a:80"] = FakeAnswer(500, b'{"error":"no room"}')
        prefix = b'{"error":"failed to write to replicas for volume 7: [a:80]: '
        amp = rb"\u0026"
        assert ask(node, "PUT", PATH + "?ts=5", b"abc") == (
            500, prefix + b"unmarshalled error " + url.replace(b"&", amp) + b': no room"}',
        )
        node.answers["a:80"] = PeerError("dial tcp a:80: connect: connection refused")
        status, text = ask(node, "PUT", PATH + "?ts=5", b"abc")
        assert status == 500
        assert text.startswith(prefix + b"upload 7,01aabbccdd 3 bytes to http://a:80")
        assert text.endswith(b'connection refused"}')

    def test_too_few(self, node: FakeNode) -> None:
        node.record = node.new_record(1, placement=1)
        node.locations = [Location("node:80", ""), Location("a:80", "", read_only=True)]
        text = b"locations [1] is less than volume 7 replication copy count [2]"
        assert ask(node, "PUT", PATH, b"abc") == (500, b'{"error":"writable replication ' + text + b'"}')
        node.locations = ClientError("no leader")
        assert ask(node, "PUT", PATH, b"abc") == (500, b'{"error":"replicating lookup failed for 7: no leader"}')
        assert node.stored == []

    def test_forwarded(self, node: FakeNode) -> None:
        node.mounted = False
        node.locations = [Location("a:80", "")]
        assert ask(node, "PUT", PATH, b"abc")[0] == 201
        assert node.stored == []
        assert len(node.sent) == 1

    def test_deleted_on_all(self, node: FakeNode) -> None:
        node.put(needle(b"abc"))
        node.record = node.new_record(1, placement=1)
        node.locations = [Location("node:80", ""), Location("a:80", "")]
        node.results = [StoreResult(StoreOutcome.DELETED, 8)]
        node.answers["a:80"] = FakeAnswer(404, b"")
        assert ask(node, "DELETE", PATH) == (202, b'{"size":8}')
        assert node.stored[0].kind == STORE_DELETE
        assert node.sent[0][:3] == ("DELETE", "a:80", PATH.encode() + b"?type=replicate")
        node.answers["a:80"] = FakeAnswer(500, b'{"error":"no"}')
        node.results = [StoreResult(StoreOutcome.DELETED, 8)]
        assert ask(node, "DELETE", PATH) == (500, b'{"error":"Deletion Failed: [a:80]: no"}')


class TestLane:
    """The lane and the framework behind real connections."""

    @pytest.mark.parametrize("lane", [True, False])
    def test_both_answer_alike(self, node: FakeNode, lane: bool) -> None:
        node.config = msgspec.structs.replace(node.config, needle_lane=lane)
        node.put(needle(b"abc"))

        async def test() -> None:
            client = served(node)
            client.send(get(PATH.encode()) + put(PATH.encode(), b"abc") + get(b"/healthz") + get(b"/7,zz"))
            await until(lambda: len(client.statuses()) == 4)
            assert client.statuses() == [200, 201, 200, 400]
            assert client.bodies()[0] == b"abc"

        run(test())

    def test_a_new_generation_is_decided_again(self, node: FakeNode) -> None:
        node.results = [StoreResult(StoreOutcome.ERROR, 0, StaleGeneration("old"))]

        async def test() -> None:
            client = served(node)
            client.send(put(PATH.encode(), b"abc"))
            await until(lambda: bool(client.statuses()))
            assert client.statuses() == [201]
            assert len(node.stored) == 2
            assert node.bodies[0] == node.bodies[1]

        run(test())

    def test_a_client_that_goes_before_its_write_is_done(self, node: FakeNode) -> None:
        async def test() -> None:
            node.hold = asyncio.Event()
            client = served(node)
            client.send(put(PATH.encode(), b"abc"))
            client.connection.connection_lost(None)
            node.hold.set()
            await node.task
            assert client.sent == b""

        run(test())


def served(node: FakeNode) -> Client:
    """A client of a front with this node."""
    host = FakeHost(pool=node.pool)
    host.handler = NodeHandler(node)  # type: ignore[assignment, arg-type]
    return Client(host)
