"""The client for other servers, against scripted servers on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from volumed.http.objects.peer import PeerClient, PeerError

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(script: Script) -> AsyncIterator[str]:
    """A server whose connections are handled by ``script``."""
    handlers: set[asyncio.Task[None] | None] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await script(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*(task for task in handlers if task is not None))


def answering(*answers: bytes) -> Script:
    """Answer one request after the other on each connection, then close it."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)

    return script


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc"),
        (b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n", 201, b"abc"),
        (b"HTTP/1.0 500 No\r\n\r\nabc", 500, b"abc"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n", 204, b""),
    ],
)
def test_answers(answer: bytes, status: int, body: bytes) -> None:
    async def test() -> None:
        client = PeerClient()
        async with serving(answering(answer)) as address:
            response = await client.request("POST", address, b"/", [(b"A", b"b")], (b"x",))
            assert (response.status, await response.read(100)) == (status, body)
        client.close()

    asyncio.run(test())


def test_a_connection_is_used_again_and_replaced_when_it_is_gone() -> None:
    async def test() -> None:
        connections = 0

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await answering(*[b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"] * 2)(reader, writer)

        client = PeerClient()
        async with serving(script) as address:
            for _ in range(5):
                response = await client.request("GET", address, b"/")
                assert await response.read(10) == b"x"
            client.close()
        assert connections == 3

    asyncio.run(test())


class Pieces:
    """A long body, which counts how often it was begun."""

    begun = 0

    def __len__(self) -> int:
        return 3_000_000

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun += 1
        for letter in (b"a", b"b", b"c"):
            yield letter * 1_000_000


def test_a_long_body_is_sent_in_pieces_and_again_on_a_new_connection() -> None:
    async def test() -> None:
        received: list[bytes] = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(2):
                head = await reader.readuntil(b"\r\n\r\n")
                if b"Content-Length: 3000002\r\n" in head:
                    if not received:
                        received.append(b"lost")
                        return
                    received.append(await reader.readexactly(3_000_002))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")

        client, body = PeerClient(), Pieces()
        async with serving(script) as address:
            await (await client.request("GET", address, b"/")).read(10)
            response = await client.request("POST", address, b"/", [], (b"<", body, b">"))
            assert await response.read(10) == b"x"
            client.close()
        assert received == [b"lost", b"<" + b"a" * 1_000_000 + b"b" * 1_000_000 + b"c" * 1_000_000 + b">"]
        assert body.begun == 2

    asyncio.run(test())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b"x" * 500,
    ],
)
def test_bad_answers(answer: bytes) -> None:
    async def test() -> None:
        client = PeerClient()
        async with serving(answering(answer)) as address:
            with pytest.raises(PeerError):
                await (await client.request("GET", address, b"/")).read(100)
        client.close()

    asyncio.run(test())


def test_nobody_listens() -> None:
    async def test() -> None:
        async with serving(answering()) as address:
            pass
        with pytest.raises(PeerError, match=f"dial tcp {address}: connect: connection refused"):
            await PeerClient().request("GET", address, b"/")

    asyncio.run(test())
