"""A node that may open few files, in a shell with a low `ulimit -n`."""

from __future__ import annotations

import http.client
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster import Volumed
from tests.grpc_kit import Node, allocate
from tests.web import upload

pytestmark = pytest.mark.probe

LIMIT, CLIENTS, VOLUMES = 256, 600, 40
LIMIT_S = 60.0


class Limited(Volumed):
    """May open ``soft`` files, and raise that to ``hard``."""

    soft = hard = LIMIT

    def program(self) -> list[str]:
        return ["prlimit", f"--nofile={self.soft}:{self.hard}", *super().program()]


class Raising(Limited):
    hard = 2048


def test_every_process_raises_the_limit(tmp_path: Path) -> None:
    with Raising(tmp_path / "v") as node:
        limits = [Path(f"/proc/{pid}/limits").read_text() for pid in node.pids()]
        found = [tuple(line.split()[3:5]) for text in limits for line in text.splitlines() if "open files" in line]
        assert len(found) > 3
        assert set(found) == {("2048", "2048")}


def test_many_clients_and_volumes_share_a_low_limit(tmp_path: Path) -> None:
    """More of either than may be open: clients wait for their turn, files are opened again."""
    fids = [f"{volume},01637037d6" for volume in range(1, VOLUMES + 1)]
    with Limited(tmp_path / "v", volumes_max=VOLUMES) as server, ExitStack() as stack, Node(server) as node:
        for volume, fid in enumerate(fids, 1):
            node.run(allocate(volume))
            assert upload(server.address, fid, b"some bytes").status == 201
        first = http.client.HTTPConnection(server.address, timeout=LIMIT_S)
        stack.callback(first.close)
        first.connect()
        host, _, port = server.address.partition(":")
        for _ in range(CLIENTS):
            stack.enter_context(socket.create_connection((host, int(port)), LIMIT_S))
        for fid in fids * 3:
            first.request("GET", f"/{fid}")
            answer = first.getresponse()
            assert (answer.status, answer.read()) == (200, b"some bytes")
        assert "Too many open files" not in server.log_path.read_text()
