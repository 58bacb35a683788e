"""A node in memory for the HTTP handlers, and how to ask it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from volumed.bus.bodypool import BodyPool, Slab
from volumed.bus.calls import Location, Locations, LookupVolume
from volumed.bus.frames import (
    FLAG_META_ONLY,
    STORE_PUT_SHARED,
    StoreOperation,
    StoreOutcome,
    StoreResult,
    pack_store_batch,
    parse_store_batch,
)
from volumed.config.node import NodeConfig
from volumed.errors import NeedleNotFound, StaleGeneration, VolumedError
from volumed.formats.checksum import crc32c
from volumed.formats.needle import (
    PAGED_HEAD_LENGTH,
    PAGED_SIZE_MIN,
    Buffer,
    Needle,
    encode_body,
    encode_record,
)
from volumed.http.handlers.store import handle_store
from volumed.http.objects.peer import PeerError
from volumed.http.protocol.body import BodyTooLarge, ReceivedBody
from volumed.http.protocol.message import Request, Response
from volumed.metrics.front import FrontMetrics
from volumed.metrics.page import MetricsPage
from volumed.security.access import Access
from volumed.storage.map_records import NO_FLAGS, VolumeRecord
from volumed.storage.read_payload import pack_payload
from volumed.storage.view import Found, ReadNow, VolumeHandle

__all__ = [
    "COOKIE",
    "PATH",
    "BytesBody",
    "FakeAnswer",
    "FakeFiles",
    "FakeNode",
    "ask",
    "content",
    "needle",
    "request",
    "run",
    "until",
]

COOKIE = 0xAABBCCDD
PATH = "/7,01aabbccdd"


class NoShards:
    """No erasure coded volume is here."""

    def find(self, _volume_id: int) -> None:
        return None


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
        self.access = Access()
        self.healthy = True
        self.uploads = self.downloads = None
        self.view = self
        self.shards = NoShards()
        self.supervisor = self
        self.peers = self
        self.scheme = "http"
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
        self.named_long_ago: list[Location] = []
        """What a look-up gives whom an old answer is enough, if anything."""
        self.sent: list[tuple[str, str, bytes, dict[bytes, bytes], bytes]] = []
        self.answers: dict[str, FakeAnswer | PeerError] = {}
        self.metrics = FrontMetrics(MetricsPage(f"{pool.path}.metrics"))

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
        if request.max_age_s > 1 and self.named_long_ago:
            return Locations(self.named_long_ago)
        return Locations(self.locations)

    async def request(self, method: str, address: str, target: bytes, headers: Any = (), body: Any = ()) -> FakeAnswer:
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


class BytesBody:
    """A body that is at hand."""

    __slots__ = ("_data",)

    def __init__(self, data: Buffer = b"") -> None:
        self._data = data

    @property
    def length(self) -> int:
        return len(self._data)

    async def chunks(self) -> AsyncIterator[Buffer]:
        yield self._data

    async def read(self, limit_bytes: int) -> ReceivedBody:
        if len(self._data) > limit_bytes:
            raise BodyTooLarge("body too large")
        return ReceivedBody(self._data)

    async def discard(self) -> None:
        pass


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
