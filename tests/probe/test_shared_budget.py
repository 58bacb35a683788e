"""One budget of bytes in flight for all fronts (http.md 7), and what is left of it when a front is killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.cluster import Volumed
from tests.https_kit import Authority, HttpsVolumed, secure_request
from tests.processes import wait_until
from tests.slow_clients import Client, connect
from tests.web import assign, get, stored
from volumed.nodetable import NodeTable

pytestmark = pytest.mark.probe

LARGE = b"\x01" * (12 << 20)
MIDDLE = b"\x02" * (200 << 10)
LIMIT_S = 60.0
FRONTS = 2
PIPELINED = 50


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Volumed]:
    """Far more patient than the tests: who goes on was woken."""
    flags = [f"-fronts={FRONTS}", "-concurrentUploadLimitMB=1", "-concurrentDownloadLimitMB=1", "-idleTimeout=200"]
    flags += ["-inflightUploadDataTimeout=200s", "-inflightDownloadDataTimeout=200s"]
    with Volumed(tmp_path_factory.mktemp("budget"), flags=flags) as started:
        yield started


@pytest.fixture
def table(node: Volumed) -> Iterator[NodeTable]:
    """While all fronts serve."""
    with table_of(node) as found:
        wait_until(lambda: len(waiters(found)) == FRONTS, timeout_s=LIMIT_S, what="all fronts")
        yield found


@contextmanager
def table_of(node: Volumed) -> Iterator[NodeTable]:
    """The node's table, which its processes map."""
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in node.pids())
    found = NodeTable(next(line.split()[-1] for line in maps.splitlines() if line.endswith("/node.table")))
    yield found
    found.close()


def holder(table: NodeTable) -> int:
    """Process id of the only front with bytes in flight."""
    (pid,) = [row.pid for row in table.live_fronts() if row.upload_bytes or row.download_bytes]
    return pid


def waiters(table: NodeTable) -> list[int]:
    return [row.waiters for row in table.live_fronts()]


def await_waiters(table: NodeTable, count: int) -> None:
    wait_until(lambda: sum(waiters(table)) == count, timeout_s=LIMIT_S, what=f"{count} clients wait")


def await_nothing_in_flight(table: NodeTable) -> None:
    """A client may have an answer before the front has counted it as sent."""
    wait_until(lambda: table.upload_bytes() == table.download_bytes() == 0, timeout_s=LIMIT_S, what="nothing in flight")


@contextmanager
def waiting_in_both_fronts(node: Volumed, table: NodeTable, ask: Callable[[Client], None]) -> Iterator[list[Client]]:
    """Clients that wait for room, at least one in each front."""
    clients: list[Client] = []
    with ExitStack() as stack:
        while not all(waiters(table)):
            clients += stack.enter_context(connect(node.address))
            ask(clients[-1])
            await_waiters(table, len(clients))
        yield clients


def start_download(client: Client, fid: str) -> None:
    client.ask("GET", fid)
    client.receive_head()


def start_upload(client: Client, node: Volumed) -> None:
    client.ask("PUT", assign(node.address).fid, "Expect: 100-continue", length=2 << 20)
    client.receive_head()


def test_room_in_one_front_wakes_all(node: Volumed, table: NodeTable) -> None:
    large, small = stored(node.address, LARGE), stored(node.address, b"small")
    with connect(node.address) as (busy,):
        start_download(busy, large)
        with waiting_in_both_fronts(node, table, lambda client: client.ask("GET", small)) as waiting:
            busy.close()
            assert {client.answer().body for client in waiting} == {b"small"}
    await_nothing_in_flight(table)


@pytest.mark.parametrize("kind", ["download", "upload"])
def test_a_killed_front_gives_back_what_it_had(node: Volumed, table: NodeTable, kind: str) -> None:
    large, small = stored(node.address, LARGE), stored(node.address, b"small")

    def ask(client: Client) -> None:
        if kind == "download":
            client.ask("GET", small)
        else:
            client.ask("PUT", small, body=b"small", length=5)

    with connect(node.address) as (busy,):
        if kind == "download":
            start_download(busy, large)
        else:
            start_upload(busy, node)
        with waiting_in_both_fronts(node, table, ask) as waiting:
            os.kill(holder(table), signal.SIGKILL)
            assert {outcome(client) for client in waiting} == {"killed", "answered"}
    wait_until(lambda: len(waiters(table)) == FRONTS, timeout_s=LIMIT_S, what="another front")
    await_nothing_in_flight(table)
    assert get(node.address, f"/{small}").body == b"small"


def outcome(client: Client) -> str:
    try:
        return "answered" if client.answer().status in (200, 201, 204) else "refused"
    except OSError:
        return "killed"


def test_pipelined_answers_wait_for_each_other(node: Volumed, table: NodeTable) -> None:
    """A client that asks for much and reads nothing has one answer in flight, and only one is made."""
    fid = stored(node.address, MIDDLE)
    assert get(node.address, f"/{fid}").body == MIDDLE
    with connect(node.address) as (client,):
        for _ in range(PIPELINED):
            client.ask("GET", fid)
        seen = set()

        def kernel_is_full() -> bool:
            """Between two answers nothing is in flight."""
            seen.add(table.download_bytes())
            return max(seen) > len(MIDDLE)

        wait_until(kernel_is_full, timeout_s=LIMIT_S, what="an answer in flight")
        seen.update(table.download_bytes() for _ in range(1000))
        assert max(seen) < 2 * len(MIDDLE)
        assert client.bodies(PIPELINED) == [MIDDLE] * PIPELINED
    await_nothing_in_flight(table)


def test_a_waiting_client_that_leaves_waits_no_more(node: Volumed, table: NodeTable) -> None:
    large = stored(node.address, LARGE)
    with connect(node.address) as (busy,):
        start_download(busy, large)
        with waiting_in_both_fronts(node, table, lambda client: client.ask("GET", large)) as waiting:
            for client in waiting:
                client.close()
            await_waiters(table, 0)


def test_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    flags = ["-fronts=2", "-concurrentDownloadLimitMB=1", "-inflightDownloadDataTimeout=200s", "-idleTimeout=200"]
    with HttpsVolumed(tmp_path / "n", authority.toml(), master=None, flags=flags) as node, table_of(node) as table:
        fid = json.loads(secure_request(authority, "GET", node.address, "/dir/assign").body)["fid"]
        assert secure_request(authority, "PUT", node.address, f"/{fid}", body=LARGE * 2).status == 201
        with authority.connect(node) as busy, authority.connect(node) as waiter:
            busy.sendall(f"GET /{fid} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            wait_until(lambda: table.download_bytes() > len(LARGE), timeout_s=LIMIT_S, what="the download is in flight")
            waiter.sendall(b"HEAD /4000000,0101020304 HTTP/1.1\r\nHost: test\r\n\r\n")
            await_waiters(table, 1)
            busy.close()
            assert waiter.recv(100).startswith(b"HTTP/1.1 404 ")
        await_nothing_in_flight(table)
