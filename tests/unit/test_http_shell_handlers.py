"""The handlers against a node in memory: where bytes come from, what is sent to the disk, who is asked."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest

from tests.connection_kit import Client, FakeHost, get, put
from tests.node_kit import COOKIE, PATH, BytesBody, FakeAnswer, FakeNode, ask, content, needle, request, run, until
from volumed.bus.bodypool import BodyPool
from volumed.bus.calls import Location
from volumed.bus.frames import (
    FLAG_FSYNC,
    SHARED_BODY_BYTES_MIN,
    STORE_DELETE,
    STORE_PUT,
    STORE_PUT_SHARED,
    StoreOutcome,
    StoreResult,
)
from volumed.erasure.errors import NoSuchEcNeedle
from volumed.errors import ClientError, CorruptNeedle, DiskUnavailable, ReadOnlyVolume, RetryError, StaleGeneration
from volumed.formats.checksum import crc32c
from volumed.formats.needle import (
    FLAG_LAST_MODIFIED,
    FLAG_TTL,
    Needle,
)
from volumed.formats.ttl import Ttl
from volumed.http.handlers.store import handle_store
from volumed.http.handlers.write import INLINE_PLAIN_BYTES_MAX
from volumed.http.objects.peer import PeerError
from volumed.http.protocol.body import IncomingBody
from volumed.http.rules import upload
from volumed.http.server import NodeHandler
from volumed.http.text.compression import measure_gzip


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    pool = BodyPool(str(tmp_path / "pool"), 16 << 20, 1 << 20)
    fake = FakeNode(pool)
    free = pool.free_bytes
    yield fake
    assert pool.free_bytes == free, "a slab was not released"
    pool.close()


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
        assert len(node.forwarded) == (1 if cached else 1 + len(data) // node.config.read_block_bytes)
        assert ask(node, "GET", PATH, range="bytes=1000000-1000002") == (206, data[1000000:1000003])
        assert ask(node, "HEAD", PATH) == (200, b"")

    def test_a_large_needle_with_a_wrong_checksum_does_not_end(self, node: FakeNode) -> None:
        data = bytes(2 << 20)
        node.put(needle(data), damage=2_000_000)

        async def test() -> None:
            response = await handle_store(request("GET", PATH), BytesBody(), node, public=False)
            pieces = response.body
            assert pieces is not None
            block = node.config.read_block_bytes
            sizes = [len(await anext(pieces)) for _ in range(len(data) // block - 1)]  # type: ignore[arg-type]
            assert sizes == [block] * 3
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
                with pytest.raises(StaleGeneration, match="volume 7: needle 01aabbccdd was replaced"):
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

    @pytest.mark.parametrize("former", [FakeAnswer(404, b""), PeerError("gone")], ids=["without it", "away"])
    def test_moved_from_where_the_master_named_it(self, node: FakeNode, former: FakeAnswer | PeerError) -> None:
        node.named_long_ago = [Location("former:80", "")]
        node.locations = [Location("node:80", ""), Location("peer:80", "")]
        node.answers = {"former:80": former, "peer:80": FakeAnswer(200, b"abc")}
        assert ask(node, "GET", "/9,01aabbccdd") == (200, b"abc")
        assert [address for _, address, *_ in node.sent] == ["former:80", "peer:80"]

    def test_moved_from_here(self, node: FakeNode) -> None:
        node.named_long_ago = [Location("node:80", "")]
        node.locations = [Location("peer:80", "")]
        node.answers["peer:80"] = FakeAnswer(200, b"abc")
        assert ask(node, "GET", "/9,01aabbccdd") == (200, b"abc")

    def test_absent_where_the_master_still_names_it(self, node: FakeNode) -> None:
        node.named_long_ago = [Location("peer:80", "")]
        node.locations = [Location("peer:80", ""), Location("another:80", "")]
        node.answers["peer:80"] = FakeAnswer(404, b"")
        assert ask(node, "GET", "/9,01aabbccdd") == (404, b"")
        assert len(node.sent) == 1

    @pytest.mark.parametrize("status", [200, 404])
    def test_only_what_nobody_has_while_a_disk_is_away_is_logged(
        self, node: FakeNode, status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(node, "read_now", Mock(side_effect=DiskUnavailable("disk 1 is failed")))
        node.locations = [Location("peer:80", "")]
        node.answers["peer:80"] = FakeAnswer(status, b"")
        assert ask(node, "GET", "/9,01aabbccdd")[0] == (200 if status == 200 else 500)
        said = [record.message for record in caplog.records]
        assert [line.endswith("/9,01aabbccdd: disk 1 is failed") for line in said] == [True] * (status == 404)


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
            500,
            b'{"error":"volume 9 not found on node:80"}',
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
            500,
            prefix + b"unmarshalled error " + url.replace(b"&", amp) + b': no room"}',
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


class CachedShards:
    """One needle in an erasure coded volume, read without waiting."""

    def find(self, volume_id: int) -> object:
        return volume_id

    def read_now(self, _volume: object, key: int) -> Needle:
        if key != 1:
            raise NoSuchEcNeedle
        return needle(b"abc")


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

    def test_what_is_cached_of_shards_is_answered_at_once(self, node: FakeNode) -> None:
        node.mounted = False
        node.shards = CachedShards()  # type: ignore[assignment]

        async def test() -> None:
            client = served(node)
            client.send(get(PATH.encode()))
            assert client.statuses() == [200]
            assert client.bodies() == [b"abc"]
            client.send(get(PATH.encode().replace(b",01", b",02")))
            await until(lambda: client.statuses() == [200, 404])

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

    @pytest.mark.parametrize("lane", [True, False])
    def test_a_disk_that_takes_no_more_costs_no_memory(
        self, node: FakeNode, lane: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node.config = msgspec.structs.replace(node.config, needle_lane=lane)

        def refuse(*_: object) -> None:
            raise RetryError("too many writes wait for disk 0")

        async def test() -> None:
            monkeypatch.setattr(node, "store", refuse)
            client = served(node)
            # Its record is just long enough to be handed over in a slab, which the fixture looks for.
            client.send(put(PATH.encode(), bytes(SHARED_BODY_BYTES_MIN - 10)))
            await until(lambda: bool(client.statuses()))
            assert client.statuses() == [500]

        run(test())

    @pytest.mark.parametrize("lane", [True, False])
    def test_what_grows_large_is_measured_aside(
        self, node: FakeNode, lane: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node.config = msgspec.structs.replace(node.config, needle_lane=lane)
        on_loop: list[bool] = []

        def watched(data: bytes, digest: object, limit: int) -> int | None:
            on_loop.append(limit <= INLINE_PLAIN_BYTES_MAX)
            return measure_gzip(data, digest, limit)  # type: ignore[arg-type]

        async def test() -> None:
            monkeypatch.setattr(upload, "measure_gzip", watched)
            client = served(node)
            client.send(put(PATH.encode(), gzip.compress(bytes(INLINE_PLAIN_BYTES_MAX + 1)), b"Content-Encoding: gzip"))
            await until(lambda: bool(client.statuses()))
            assert client.statuses() == [201]
            assert msgspec.json.decode(client.bodies()[0])["size"] == INLINE_PLAIN_BYTES_MAX + 1
            assert on_loop[-1] is False

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
