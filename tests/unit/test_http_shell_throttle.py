"""Bytes in flight: the budget of a node, who is woken when, and when an answer counts as sent (http.md 7)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.connection_kit import Client, FakeHost, get, put, run
from volumed.config.node import NodeConfig
from volumed.http.objects.throttle import Budget, Room, Throttle, announced_bytes, make_bells, ring_bells
from volumed.http.protocol.message import Request
from volumed.nodetable import NodeTable, create_node_table

LIMIT = 1000
REQUEST = Request("GET", b"/1", b"/1", "/1")


@pytest.fixture
def table(tmp_path: Path) -> Iterator[NodeTable]:
    created = create_node_table(str(tmp_path / "table"), 1, 3)
    yield created
    created.close()


@pytest.fixture
def bells() -> Iterator[list[int]]:
    made = make_bells(3)
    yield made
    for bell in made:
        os.close(bell)


class Front:
    """One front of several that share a table, all on one loop."""

    def __init__(self, table: NodeTable, slot: int, bells: list[int], wait_s: float = 60.0) -> None:
        config = NodeConfig(
            runtime_dir="", map_dir="", state_dir="", disks=(), download_limit_bytes=LIMIT, download_wait_s=wait_s
        )
        self.row = table.fronts[slot]
        self.throttle = Throttle(config, table, slot, bells, asyncio.get_running_loop())
        assert self.throttle.downloads is not None
        self.downloads: Budget = self.throttle.downloads

    async def waiter(self) -> asyncio.Task[Room]:
        """A request that waits for room."""
        task = asyncio.create_task(self.downloads.wait(Request("GET", b"/1", b"/1", "/1")))
        await asyncio.sleep(0)
        return task


def test_no_limit_no_budget(table: NodeTable, bells: list[int]) -> None:
    async def test() -> None:
        front = Front(table, 0, bells)
        assert front.throttle.uploads is None
        front.throttle.close()

    run(test)


def test_over_is_more_than_the_limit_in_all_fronts(table: NodeTable, bells: list[int]) -> None:
    async def test() -> None:
        one, two = Front(table, 0, bells), Front(table, 1, bells)
        assert not one.downloads.is_over
        give_back = one.downloads.take(LIMIT)
        assert not two.downloads.is_over
        also = two.downloads.take(1)
        assert one.downloads.is_over
        assert two.downloads.is_over
        assert one.downloads.in_flight == LIMIT + 1
        give_back()
        also()
        assert table.download_bytes() == table.upload_bytes() == 0

    run(test)


def test_a_release_wakes_waiters_of_all_fronts(table: NodeTable, bells: list[int]) -> None:
    async def test() -> None:
        one, two = Front(table, 0, bells), Front(table, 1, bells)
        give_back, rest = one.downloads.take(2 * LIMIT), one.downloads.take(LIMIT + 1)
        waiting = [await front.waiter() for front in (one, two, two)]
        assert (one.row.waiters, two.row.waiters) == (1, 2)
        give_back()
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting), "there is no room yet"
        rest()
        assert await asyncio.gather(*waiting) == [Room.FREE] * 3
        assert (one.row.waiters, two.row.waiters) == (0, 0)

    run(test)


def test_nobody_is_rung_who_does_not_wait(table: NodeTable, bells: list[int]) -> None:
    async def test() -> None:
        one = Front(table, 0, bells)
        one.downloads.take(1)()
        for bell in bells:
            with pytest.raises(BlockingIOError):
                os.eventfd_read(bell)

    run(test)


def test_room_left_by_a_killed_front(table: NodeTable, bells: list[int]) -> None:
    async def test() -> None:
        killed, other = Front(table, 0, bells), Front(table, 1, bells)
        killed.downloads.take(2 * LIMIT)
        task = await other.waiter()
        table.fronts[0].clear()
        ring_bells(table, bells)
        assert await task is Room.FREE

    run(test)


def test_a_bell_that_nobody_heard(table: NodeTable, bells: list[int]) -> None:
    async def test() -> None:
        front = Front(table, 0, bells)
        front.downloads.take(2 * LIMIT)
        task = await front.waiter()
        table.fronts[0].add_download(-2 * LIMIT)
        assert await task is Room.FREE

    run(test)


def test_waiting_ends(table: NodeTable, bells: list[int]) -> None:
    async def test() -> None:
        front = Front(table, 0, bells, wait_s=0.01)
        front.downloads.take(2 * LIMIT)
        assert await front.downloads.wait(REQUEST) is Room.TIMED_OUT
        assert front.row.waiters == 0
        assert REQUEST.room is None

    run(test)


def test_a_client_that_leaves(table: NodeTable, bells: list[int]) -> None:
    async def test() -> None:
        front = Front(table, 0, bells)
        front.downloads.take(2 * LIMIT)
        request = Request("GET", b"/1", b"/1", "/1")
        task = asyncio.create_task(front.downloads.wait(request))
        await asyncio.sleep(0)
        assert request.room is not None
        request.room.set_result(False)
        assert await task is Room.CLIENT_LEFT
        gone = await front.waiter()
        gone.cancel()
        await asyncio.wait([gone])
        assert front.row.waiters == 0

    run(test)


@pytest.mark.parametrize(("length", "announced"), [(None, 0), (b"0", 0), (b"17", 17)])
def test_what_an_upload_counts(length: bytes | None, announced: int) -> None:
    headers = {} if length is None else {b"content-length": length}
    assert announced_bytes(Request("PUT", b"/1", b"/1", "/1", headers=headers)) == announced


class TestAccounting:
    """`Request.on_sent`: once per request, when the kernel has the answer or the client is gone."""

    @staticmethod
    def counted(client: Client, path: bytes) -> list[str]:
        """Have a request that reports when it was sent wait for its answer."""
        sent: list[str] = []
        client.send(get(path))
        client.host.handler.seen[-1].request.on_sent = lambda: sent.append(path.decode())
        return sent

    def test_an_answer_that_went_out_at_once(self) -> None:
        async def test() -> None:
            client = Client()
            sent = self.counted(client, b"/slow")
            client.host.handler.release.set()
            await client.settle()
            assert sent == ["/slow"]

        run(test)

    @pytest.mark.parametrize("end", ["taken", "lost"])
    def test_an_answer_that_waits_in_the_process(self, end: str) -> None:
        async def test() -> None:
            client = Client()
            sent = self.counted(client, b"/slow")
            client.transport.stuck = 1000
            client.host.handler.release.set()
            client.send(get(b"/2"))
            await client.settle()
            assert sent == []
            assert len(client.bodies()) == 1, "the next answer waits"
            client.transport.stuck = 0
            if end == "taken":
                client.connection.resume_writing()
            else:
                client.connection.connection_lost(None)
            assert sent == ["/slow"]
            await client.settle()
            assert len(client.bodies()) == (2 if end == "taken" else 1)

        run(test)

    def test_a_client_that_leaves_before_the_answer(self) -> None:
        async def test() -> None:
            client = Client()
            sent = self.counted(client, b"/slow")
            client.connection.connection_lost(None)
            await client.settle()
            assert sent == ["/slow"]

        run(test)

    @pytest.mark.parametrize("how", ["half closed", "idle"])
    def test_a_client_that_may_be_gone_does_not_wait_for_room(self, how: str) -> None:
        async def test() -> None:
            client = Client(FakeHost(idle_timeout_s=3))
            client.send(get(b"/slow"))
            room = client.host.handler.seen[-1].request.room = client.host.loop.create_future()
            client.connection.sweep(client.host.time + 2.9)
            assert not room.done()
            if how == "idle":
                client.connection.sweep(client.host.time + 3)
            else:
                client.connection.eof_received()
            assert room.result() is False
            assert not client.transport.closed
            client.connection.connection_lost(None)

        run(test)

    def test_uploads_start_with_their_heads_where_they_are_counted(self) -> None:
        async def test() -> None:
            client = Client()
            client.host.limits_uploads = True
            started = client.host.handler.seen
            client.send(put(b"/1", b"abc")[:-1])
            await client.settle()
            client.send(b"c", put(b"/2", b"abc")[:-1])
            await client.settle()
            client.send(b"c", put(b"/3", b"abc"))
            await client.settle()
            assert client.bodies() == [b"PUT /1 abc", b"PUT /2 abc", b"PUT /3 abc"]
            assert [exchange.request.path for exchange in started] == ["/3"], "the others did not arrive whole"

        run(test)
