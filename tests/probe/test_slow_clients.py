"""Hundreds of slow clients: others do not notice them, memory stays bounded, and the idle time-out ends them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cluster import Volumed
from tests.processes import wait_until
from tests.slow_clients import Client, connect
from tests.web import assign, get, stored

pytestmark = pytest.mark.probe

IDLE_S = 5
LIMIT_S = 60.0
PAUSE_S = 0.2
OF_EACH_KIND = 40
OTHERS = 100
"""Requests of clients that are in a hurry, while the slow ones are there."""
GROWTH_BYTES_MAX = 200 << 20
PIPELINED = 200

LARGE = b"\x01" * (12 << 20)
MIDDLE = b"\x02" * (200 << 10)
HEAD = b"PUT /1,01aabbccdd HTTP/1.1\r\nHost: test\r\nX-Long: "


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Volumed]:
    with Volumed(tmp_path / "n", flags=["-fronts=2", f"-idleTimeout={IDLE_S}"]) as started:
        yield started


def front_bytes(node: Volumed) -> int:
    """Memory that belongs to the fronts alone."""
    total = 0
    for pid in node.pids():
        with suppress(OSError):
            if "volumed: http front" in Path(f"/proc/{pid}/cmdline").read_text():
                status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
                total += int(status["RssAnon"].split()[0]) << 10
    return total


@contextmanager
def trickling(clients: list[Client]) -> Iterator[None]:
    """Have each send a byte from time to time."""
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(PAUSE_S):
            for client in clients:
                client.send(b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def ended(client: Client) -> bool:
    """Read whatever still comes; whether the connection is over then."""
    try:
        while client.hears(0):
            if not client.socket.recv(1 << 20):
                return True
    except OSError:
        return True
    return False


def test_slow_clients_are_a_burden_to_nobody(node: Volumed) -> None:
    large, middle, target = stored(node.address, LARGE), stored(node.address, MIDDLE), assign(node.address).fid
    before = front_bytes(node)
    with connect(node.address, 5 * OF_EACH_KIND) as clients:
        kinds = [clients[i::5] for i in range(5)]
        for heads, bodies, readers, askers, _silent in zip(*kinds, strict=True):
            heads.send(HEAD)
            bodies.ask("PUT", target, body=b"x", length=300 << 10)
            readers.ask("GET", large)
            askers.send(f"GET /{middle} HTTP/1.1\r\nHost: test\r\n\r\n".encode() * PIPELINED)
        with trickling(kinds[0] + kinds[1]):
            for number in range(OTHERS):
                data = b"%d" % number
                fid = stored(node.address, data)
                assert get(node.address, f"/{fid}").body == data
            growth = front_bytes(node) - before
        assert growth < GROWTH_BYTES_MAX
        wait_until(lambda: all(map(ended, clients)), timeout_s=LIMIT_S, what="slow clients are dropped")
    assert get(node.address, f"/{large}").body == LARGE


def test_who_moves_bytes_is_not_idle(node: Volumed) -> None:
    """However slowly: longer than the time-out for a head, and for a body."""
    fid = assign(node.address).fid
    steps = int(1.5 * IDLE_S / PAUSE_S)
    with connect(node.address, 2) as (head, body):
        head.send(f"PUT /{fid} HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nX-Long: ".encode())
        body.ask("PUT", fid, length=1 + steps)
        for _ in range(steps):
            body.send(b"y")
            head.send(b"x")
            assert not head.hears(PAUSE_S)
        body.send(b"z")
        assert body.answer().status == 201
        head.send(b"\r\n\r\n!")
        assert head.answer().status == 201
    assert get(node.address, f"/{fid}").body == b"!"
