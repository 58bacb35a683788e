"""Vacuums that a real master and ``weed shell`` ask for, while clients write, read and delete."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume, weed_shell
from tests.grpc_kit import Call, Node, Put, allocate, batch_delete
from tests.processes import wait_until
from tests.records import masked_dat
from tests.web import delete, get, get_json, request
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

LIMIT_S = 60.0


class Client(threading.Thread):
    """Writes, overwrites, deletes and reads keys of its own, and notes every answer that is wrong."""

    def __init__(self, address: str, volume_id: int, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.wrong: list[str] = []
        self.contents: dict[str, bytes | None] = {}
        self.requests = 0
        self._address = address
        self._fids = [f"{volume_id},{number * 1000 + key:x}{number:08x}" for key in range(1, 60)]
        self._random = random.Random(number)
        self._stopping = stop

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._act(self._random.choice(self._fids))
                self.requests += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the test must see it
            self.wrong.append(repr(error))

    def _act(self, fid: str) -> None:
        kind = self._random.random()
        if kind < 0.4:
            data = self._random.randbytes(self._random.choice([0, 10, 1000, 30_000]))
            self._expect(request("PUT", self._address, f"/{fid}", body=data).status, (201, 204), f"PUT {fid}")
            self.contents[fid] = data
        elif kind < 0.55:
            self._expect(delete(self._address, fid).status, (202, 404), f"DELETE {fid}")
            self.contents[fid] = None
        else:
            self.check(fid)

    def check(self, fid: str) -> None:
        answer = get(self._address, f"/{fid}")
        expected = self.contents.get(fid)
        if expected is None:
            self._expect(answer.status, (404,), f"GET {fid}")
        elif answer.status != 200 or answer.body != expected:
            self.wrong.append(f"GET {fid}: {answer.status}, {len(answer.body)} bytes of {len(expected)}")

    def check_all(self) -> None:
        for fid in self._fids:
            self.check(fid)

    def _expect(self, status: int, allowed: tuple[int, ...], what: str) -> None:
        if status not in allowed:
            self.wrong.append(f"{what}: {status}")


def vacuum(node: Node, volume_id: int) -> None:
    for message in node.stub.VacuumVolumeCompact(pb.VacuumVolumeCompactRequest(volume_id=volume_id), timeout=LIMIT_S):
        assert message.processed_bytes
    node.stub.VacuumVolumeCommit(pb.VacuumVolumeCommitRequest(volume_id=volume_id), timeout=LIMIT_S)


def test_clients_do_not_notice_vacuums(tmp_path: Path) -> None:
    with (
        Master(tmp_path / "m") as master,
        Volumed(tmp_path / "v", master=master) as server,
        Node(server) as node,
    ):
        node.run(allocate(7))
        stop = threading.Event()
        clients = [Client(server.address, 7, number, stop) for number in range(1, 4)]
        for client in clients:
            client.start()
        for _ in range(12):
            vacuum(node, 7)
        stop.set()
        for client in clients:
            client.join()
        for client in clients:
            client.check_all()
        server.stop()
        server.start()
        for client in clients:
            client.check_all()
            assert client.wrong == []
            assert client.requests > 20
