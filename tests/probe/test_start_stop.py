"""The first minute with a standalone node: start, two requests, stop, start again; nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.cluster import Volumed
from tests.processes import HOST, session_pids, wait_until
from tests.pss import roles, total_pss_bytes
from tests.web import get

pytestmark = pytest.mark.probe

START_LIMIT_S = 30.0
"""Generous: the machine may be busy. What it took is printed."""


@pytest.fixture
def node(tmp_path: Path) -> Volumed:
    return Volumed(tmp_path / "node")


def curl(*arguments: str) -> str:
    result = subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, timeout=20, check=True)
    return result.stdout


def store_and_fetch(node: Volumed, path: Path) -> str:
    """What the node prints at its start, done: assign, upload a form, fetch. Returns the file id."""
    assigned = json.loads(curl(f"http://{node.address}/dir/assign"))
    fid: str = assigned["fid"]
    assert assigned["url"] == node.address
    stored = json.loads(curl("-F", f"file=@{path}", f"http://{node.address}/{fid}"))
    assert (stored["name"], stored["size"]) == (path.name, path.stat().st_size)
    assert curl(f"http://{node.address}/{fid}") == path.read_text()
    return fid


def assert_ports_free(node: Volumed) -> None:
    for port in (node.port, node.grpc_port):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))


def test_start_store_fetch_stop_start_again(
    node: Volumed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "note.txt"
    text.write_text("kept over a restart\n")
    began = time.monotonic()
    with node:
        started_s = time.monotonic() - began
        fid = store_and_fetch(node, text)
        wait_until(lambda: len(roles(node)["http front"]) > 1, timeout_s=START_LIMIT_S, what="all fronts")
        memory = total_pss_bytes(node)
        running = {role: len(pids) for role, pids in roles(node).items()}
        began = time.monotonic()
        node.stop()
        stopped_s = time.monotonic() - began
        assert_ports_free(node)
        assert not list(node.runtime_dir.iterdir()), "the runtime directory is not empty after a stop"

        began = time.monotonic()
        node.start()
        restarted_s = time.monotonic() - began
        assert curl(f"http://{node.address}/{fid}") == text.read_text()
        assert store_and_fetch(node, text) != fid
        node.stop()
    assert {role: count for role, count in running.items() if role != "http front"} == {
        "arbiter": 1, "grpc front": 1, "worker": 1, "supervisor": 1,
    }  # fmt: skip
    assert max(started_s, restarted_s) < START_LIMIT_S
    with capsys.disabled():
        print(  # noqa: T201
            f"\nstart to healthz {started_s:.2f} s, restart {restarted_s:.2f} s, stop {stopped_s:.2f} s, "
            f"{sum(running.values())} processes, {memory / 2**20:.0f} MiB PSS"
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_stops_it_with_open_connections(node: Volumed, number: signal.Signals) -> None:
    with node, socket.create_connection((HOST, node.port)), socket.create_connection((HOST, node.grpc_port)):
        node.signal(number)
        node.wait_exit(expected=0)
        assert node.pids() == []
        assert_ports_free(node)


def test_a_stop_while_starting_leaves_nothing(node: Volumed) -> None:
    try:
        node.launch()
        wait_until(lambda: len(node.pids()) > 2, timeout_s=START_LIMIT_S, what="first children")
        node.signal(signal.SIGTERM)
        node.wait_exit(expected=0)
        assert node.pids() == []
    finally:
        node.close()


class Lonely(Volumed):
    """Of a cluster whose master does not answer."""

    def program(self) -> list[str]:
        return [super().program()[0], "volume", f"-master={HOST}:1.2"]


def test_a_stop_while_no_master_answers(tmp_path: Path) -> None:
    """All processes wait for the ports to be opened."""
    node = Lonely(tmp_path / "node")
    try:
        node.launch()
        wait_until(lambda: len(roles(node)["grpc front"]) == 1, timeout_s=START_LIMIT_S, what="a gRPC front")
        wait_until(lambda: f"master {HOST}:1.2: " in node.log_tail(), timeout_s=START_LIMIT_S, what="an attempt")
        node.stop()
    finally:
        node.close()


def test_kill_of_the_supervisor_leaves_no_process(node: Volumed) -> None:
    with node:
        session = node.pid
        os.kill(session, signal.SIGKILL)
        wait_until(lambda: session_pids(session) == [], timeout_s=30, what="no process of the killed node")
        node.wait_exit(expected=-signal.SIGKILL)
        assert_ports_free(node)
        node.start()
        assert get(node.address, "/healthz").status == 200


def test_a_second_node_on_the_same_directory_or_port_is_refused(node: Volumed, tmp_path: Path) -> None:
    with node:
        other = Volumed(tmp_path / "other")
        other.port = node.port
        try:
            other.launch()
            assert other.wait_exit() == 255
            assert "address already in use" in other.log_tail()
        finally:
            other.close()
        assert get(node.address, "/healthz").status == 200
