"""Balanced accept with real sockets and a node table."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from volumed.http.protocol.accept import Acceptor
from volumed.nodetable import NodeTable, create_node_table


class Counting(asyncio.Protocol):
    """Counts itself in a front's row."""

    def __init__(self, table: NodeTable) -> None:
        self._row = table.fronts[0]
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._row.add_connections(1)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._row.add_connections(-1)


@contextlib.asynccontextmanager
async def accepting(table: NodeTable, connections_max: int = 100) -> AsyncIterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        adopt = partial(loop.connect_accepted_socket, lambda: Counting(table))
        acceptor = Acceptor(loop, listener, table, table.fronts[0], connections_max, adopt)
        yield listener.getsockname()
        acceptor.close()
        acceptor.close()


async def connect(stack: contextlib.AsyncExitStack, address: tuple[str, int], count: int) -> None:
    for _ in range(count):
        _, writer = await asyncio.open_connection(*address)
        stack.callback(writer.close)


async def until_connections(table: NodeTable, count: int) -> None:
    async with asyncio.timeout(60):
        while table.fronts[0].connections != count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def node_table(tmp_path: Path) -> NodeTable:
    table = create_node_table(str(tmp_path / "table"), 1, 2)
    table.fronts[0].claim(1)
    return table


def test_alone_it_takes_everything(tmp_path: Path) -> None:
    async def test() -> None:
        table = node_table(tmp_path)
        async with accepting(table) as address, contextlib.AsyncExitStack() as stack:
            await connect(stack, address, 40)
            await until_connections(table, 40)

    asyncio.run(test())


def test_it_leaves_connections_to_a_sibling_with_fewer_but_not_for_ever(tmp_path: Path) -> None:
    async def test() -> None:
        table = node_table(tmp_path)
        table.fronts[1].claim(2)
        async with accepting(table) as address, contextlib.AsyncExitStack() as stack:
            await connect(stack, address, 1)
            await until_connections(table, 1)
            started = asyncio.get_running_loop().time()
            await connect(stack, address, 1)
            await until_connections(table, 2)
            assert asyncio.get_running_loop().time() - started > 0.003

    asyncio.run(test())


def test_no_more_than_the_limit(tmp_path: Path) -> None:
    async def test() -> None:
        table = node_table(tmp_path)
        async with accepting(table, connections_max=3) as address:
            async with contextlib.AsyncExitStack() as stack:
                await connect(stack, address, 5)
                await until_connections(table, 3)
                await asyncio.sleep(0.05)
                assert table.fronts[0].connections == 3
            await until_connections(table, 0)

    asyncio.run(test())
