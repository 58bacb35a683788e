"""The worker is killed again and again while its volumes are compacted and committed; what was acknowledged holds."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from pathlib import Path

import grpc
import pytest

from tests.cluster import Volumed
from tests.journal import Journal, run_clients
from tests.kills import await_acknowledged, check, kill
from tests.processes import wait_until
from tests.web import get_json
from volumed.wire import volume_server_pb2 as pb
from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

pytestmark = [pytest.mark.probe, pytest.mark.timeout(600)]

KILLS = int(os.environ.get("VOLUMED_KILL_ROUNDS", "4"))
LONGEST_LIFE_S = 0.3
LIMIT_S = 60.0


class Vacuums(threading.Thread):
    """Vacuums all volumes in turn, until `stop`; whatever a kill makes of one is no matter."""

    def __init__(self, node: Volumed) -> None:
        super().__init__(daemon=True)
        self._node = node
        self._stopping = threading.Event()
        self.rounds = 0
        """Over all volumes, none of which failed."""

    def stop(self) -> None:
        self._stopping.set()
        self.join(LIMIT_S)

    def await_rounds(self, count: int) -> None:
        goal = self.rounds + count
        wait_until(lambda: self.rounds >= goal, timeout_s=LIMIT_S, what="vacuums of all volumes")

    def run(self) -> None:
        with grpc.insecure_channel(self._node.grpc_address) as channel:
            stub = VolumeServerStub(channel)
            while not self._stopping.is_set():
                with contextlib.suppress(grpc.RpcError, OSError):
                    for volume in get_json(self._node.address, "/status")["Volumes"] or ():
                        self._vacuum(stub, volume["Id"])
                    self.rounds += 1

    def _vacuum(self, stub: VolumeServerStub, volume_id: int) -> None:
        list(stub.VacuumVolumeCompact(pb.VacuumVolumeCompactRequest(volume_id=volume_id), timeout=LIMIT_S))
        stub.VacuumVolumeCommit(pb.VacuumVolumeCommitRequest(volume_id=volume_id), timeout=LIMIT_S)


def test_a_worker_that_is_killed_in_vacuums_loses_nothing(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    choice = random.Random(seed)
    journal, owned = Journal(), [[] for _ in range(4)]
    with Volumed(tmp_path / "node", dirs=[tmp_path / "d0", tmp_path / "d1"], volumes_max=2) as node:
        vacuums = Vacuums(node)
        vacuums.start()
        for number in range(KILLS):
            with run_clients(node.address, journal, owned, choice.randrange(1 << 32)):
                await_acknowledged(journal, "work")
                time.sleep(choice.uniform(0, LONGEST_LIFE_S))
                kill(node, "worker", choice)
                vacuums.await_rounds(2)
            check(journal, node, f"seed {seed}, after kill {number}")
        vacuums.stop()
        node.stop()
        node.start()
        check(journal, node, f"seed {seed}, after a restart")
        assert not any(volume["ReadOnly"] for volume in get_json(node.address, "/status")["Volumes"])
        assert not list(tmp_path.glob("d?/*.cp?"))
