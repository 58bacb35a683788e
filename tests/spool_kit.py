"""Spools in memory, and large uploads received into them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from tests.node_kit import FakeAnswer, FakeNode
from volumed.bus.bodypool import BodyPool, Slab
from volumed.bus.frames import StoreOutcome
from volumed.bus.spool_calls import (
    AppendSpool,
    CloseSpool,
    OpenSpool,
    ReadSpool,
    SpoolBlock,
    SpoolStored,
    StoreSpool,
)
from volumed.errors import VolumedError
from volumed.http.objects.large_upload import receive_upload
from volumed.http.protocol.body import BodyStream
from volumed.http.protocol.message import Request
from volumed.http.rules.upload import ParsedUpload, parse_upload_form

__all__ = ["SpoolNode", "receive_whole"]


class SpoolNode(FakeNode):
    """A node whose one disk keeps spools; what it stored is in ``needles``."""

    def __init__(self, directory: Path) -> None:
        super().__init__(BodyPool(str(directory / "pool"), 16 << 20, 1 << 20))
        self.all_free = self.pool.free_bytes
        self.spools: dict[int, bytearray] = {}
        self.opened = 0
        self.failures: dict[type[Any], list[VolumedError]] = {}
        """Errors of the next calls of a kind."""
        self.needles: list[tuple[StoreSpool, bytes]] = []

    def call(self, request: Any, timeout_s: float, slab: Slab | None = None) -> asyncio.Future[Any]:  # type: ignore[override]
        if slab is not None:
            slab.retain()
        future = asyncio.ensure_future(self._answer(request, timeout_s, slab))
        future.add_done_callback(lambda _: slab and slab.release())
        return future

    async def _answer(self, request: Any, timeout_s: float, slab: Slab | None) -> Any:
        if failures := self.failures.get(type(request)):
            raise failures.pop(0)
        match request:
            case OpenSpool():
                self.opened += 1
                assert request.spool_id not in self.spools
                self.spools[request.spool_id] = bytearray()
                return None
            case AppendSpool():
                assert slab is not None
                assert slab.offset == request.shared_at
                self.spools[request.spool_id] += slab.view[: request.length]
                return None
            case ReadSpool():
                return SpoolBlock(bytes(self.spools[request.spool_id][request.offset :][: request.length]))
            case StoreSpool():
                data = bytes(self.spools[request.spool_id])
                self.needles.append((request, data))
                size = len(request.prefix) + len(data) + len(request.suffix)
                return SpoolStored(StoreOutcome.STORED, size)
            case CloseSpool():
                self.spools.pop(request.spool_id, None)
                return None
        return await super().call(request, timeout_s)

    async def request(
        self, method: str, address: str, target: bytes, headers: Any = (), body: Any = ()
    ) -> FakeAnswer:
        parts = []
        for part in body:
            pieces = [part] if isinstance(part, bytes | memoryview) else [bytes(piece) async for piece in part]
            assert sum(map(len, pieces)) == len(part)
            parts += pieces
        return await super().request(method, address, target, headers, parts)

    async def settled(self) -> None:
        """All spools are closed and all slabs released."""
        async with asyncio.timeout(60):
            while self.spools or self.pool.free_bytes != self.all_free:  # noqa: ASYNC110
                await asyncio.sleep(0)


async def receive_whole(node: SpoolNode, request: Request, pieces: Sequence[bytes], limit: int) -> ParsedUpload:
    """Receive an upload that comes in these pieces; ``data`` is what its spool holds."""

    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    try:
        form = parse_upload_form(request, b"")
        upload, spool = await receive_upload(node, request, form, 7, BodyStream(chunks(), None), limit)
        assert spool is not None
        upload.data = b"".join([bytes(block) async for block in spool])
        assert len(spool) == len(upload.data)
        spool.release()
        return upload
    finally:
        await node.settled()
