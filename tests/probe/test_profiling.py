"""Profiling pages, the listeners of metrics and debugging, and profiles written at the stop (docs/spec/http.md 6.5)."""

from __future__ import annotations

import contextlib
import os
import pstats
import select
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster import Volumed
from tests.metrics_kit import scrape
from tests.processes import HOST, free_port, wait_until
from tests.pss import roles
from tests.web import get, request

pytestmark = pytest.mark.probe

LIMIT_S = 60.0
CONNECTIONS_MAX = 8


class Node(NamedTuple):
    server: Volumed
    metrics_port: int
    debug_port: int

    @property
    def metrics(self) -> str:
        return f"{HOST}:{self.metrics_port}"

    @property
    def debug(self) -> str:
        return f"{HOST}:{self.debug_port}"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    metrics_port, debug_port = free_port(), free_port()
    flags = [f"-metricsPort={metrics_port}", "-debug", f"-debug.port={debug_port}", "-pprof", "-fronts=1"]
    with Volumed(tmp_path_factory.mktemp("profiling") / "node", flags=flags) as server:
        yield Node(server, metrics_port, debug_port)


@pytest.fixture(params=["a front", "the supervisor"])
def address(request: pytest.FixtureRequest, node: Node) -> str:
    return node.server.address if request.param == "a front" else node.debug


def test_profiling_pages(address: str) -> None:
    index = get(address, "/debug/pprof/")
    assert (index.status, index.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert index.headers["Server"] is None
    arguments = get(address, "/debug/pprof/cmdline").body.split(b"\0")
    assert len(arguments) > 2
    assert get(address, "/debug/pprof/symbol").body == b"num_symbols: 1\n"
    missing = request("POST", address, "/debug/pprof/nope")
    assert (missing.status, missing.body) == (404, b"Unknown profile\n")
    assert get(address, "/debug/pprof").body == index.body


@pytest.mark.parametrize("name", ["profile", "trace"])
def test_profiles_show_what_runs(address: str, name: str) -> None:
    answer = get(address, f"/debug/pprof/{name}?seconds=0.2")
    assert answer.status == 200
    heading, *lines = answer.body.decode().splitlines()
    assert heading.startswith("# process ")
    main = [line for line in lines if "MainThread;" in line]
    assert main, lines
    assert all(";" in line and " " in line for line in lines)


def test_one_profile_at_a_time_and_requests_meanwhile(node: Node) -> None:
    """The long one ends with its front: nobody waits for it."""

    def profile(seconds: float) -> int:
        return get(node.server.address, f"/debug/pprof/profile?seconds={seconds}", timeout_s=LIMIT_S).status

    def long_profile() -> None:
        while profile(LIMIT_S) == 503:
            pass

    (front,) = roles(node.server)["http front"]
    with ThreadPoolExecutor(1) as pool:
        going_on = pool.submit(long_profile)
        wait_until(lambda: profile(0.001) == 503, timeout_s=LIMIT_S, what="the profile is being taken")
        assert get(node.server.address, "/healthz").status == 200
        assert not going_on.done()
        os.kill(front, signal.SIGKILL)
        assert isinstance(going_on.exception(), ConnectionError)
    wait_until(lambda: profile(0.001) == 200, timeout_s=LIMIT_S, what="a profile of the next front")


def test_the_metrics_listener_has_one_page(node: Node) -> None:
    assert "volumed_processes" in scrape(node.metrics_port).types
    assert "volumed_processes" in scrape(node.debug_port).types
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert request(method, node.metrics, "/metrics").status == 200, method
    head = request("HEAD", node.metrics, "/metrics?x=y")
    assert (head.status, head.body) == (200, b"")
    for path in ("/", "/metrics/", "/status", "/debug/pprof/"):
        missing = get(node.metrics, path)
        assert (missing.status, missing.body) == (404, b"404 page not found\n"), path
    assert get(node.server.address, "/metrics").status == 400


def test_connections_to_the_metrics_listener_are_few(node: Node) -> None:
    silent: set[socket.socket] = set()
    with contextlib.ExitStack() as held:

        def is_full() -> bool:
            """Earlier connections may be cleaned up only now, and those that keep silent for long are closed."""
            silent.add(held.enter_context(socket.create_connection((HOST, node.metrics_port))))
            refused, _, _ = select.select(silent, (), (), 0)
            silent.difference_update(refused)
            return bool(refused) and len(silent) == CONNECTIONS_MAX

        wait_until(is_full, timeout_s=LIMIT_S, what="a further connection is refused")
        assert get(node.server.address, "/status").status == 200
        silent.pop().close()
        wait_until(lambda: bool(scrape(node.metrics_port).types), timeout_s=LIMIT_S, what="room again")


@pytest.mark.parametrize("also", [[], ["-pprof"]], ids=["alone", "with pprof"])
def test_profiles_are_written_at_the_stop(tmp_path: Path, also: list[str]) -> None:
    cpu, memory = tmp_path / "cpu", tmp_path / "memory"
    flags = [f"-cpuprofile={cpu}", f"-memprofile={memory}", "-fronts=1", *also]
    with Volumed(tmp_path / "node", flags=flags) as server:
        assert get(server.address, "/debug/pprof/").status == (200 if also else 400)
        server.stop()
    if also:
        assert not cpu.exists()
        assert not memory.exists()
    else:
        functions = {name for _, _, name in pstats.Stats(str(cpu)).stats}  # type: ignore[attr-defined]
        assert "_run_timers" in functions
        assert ".py:" in memory.read_text()


def test_a_metrics_port_that_is_taken_ends_the_start(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        server = Volumed(tmp_path / "node", flags=[f"-metricsPort={port}"])
        with contextlib.closing(server):
            server.launch()
            assert server.wait_exit() == 255
            assert f"listen tcp {HOST}:{port}: bind: address already in use" in server.log_tail()
