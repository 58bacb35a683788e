"""Random processes of a working node are killed; whatever was acknowledged must still hold.

``VOLUMED_KILL_SEED`` repeats a run, ``VOLUMED_KILL_ROUNDS`` makes it longer.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from tests.cluster import Volumed
from tests.journal import Journal, run_clients
from tests.kills import await_acknowledged, check, kill

pytestmark = [pytest.mark.probe, pytest.mark.timeout(600)]

ROUNDS = int(os.environ.get("VOLUMED_KILL_ROUNDS", "10"))
CLIENTS = 8
VICTIMS = ["http front", "arbiter", "worker", "grpc front", "supervisor", "everything"]


def test_acknowledged_operations_survive_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("VOLUMED_KILL_SEED", "0")) or random.randrange(1, 1 << 32)
    choice = random.Random(seed)
    victims = [*VICTIMS, *choice.choices(VICTIMS, k=max(0, ROUNDS - len(VICTIMS)))]
    choice.shuffle(victims)
    report = [f"\nseed {seed}"]
    journal, owned = Journal(), [[] for _ in range(CLIENTS)]
    with Volumed(tmp_path / "node", dirs=[tmp_path / "d0", tmp_path / "d1"], volumes_max=40) as node:
        for number, victim in enumerate(victims[:ROUNDS]):
            with run_clients(node.address, journal, owned, choice.randrange(1 << 32)):
                await_acknowledged(journal, f"work before the kill of {victim}")
                killed_at = time.monotonic()
                kill(node, victim, choice)
                back_s = time.monotonic() - killed_at
                await_acknowledged(journal, f"work after the kill of {victim}")
            report.append(
                f"round {number}: {victim} killed, back after {back_s:.2f} s; {journal.acknowledged_count} "
                f"acknowledged, {journal.unanswered_count} unanswered, {len(journal.entries)} objects"
            )
            check(journal, node, f"seed {seed}, after the kill of {victim}")
        node.stop()
        shutil.rmtree(node.home / "map")
        node.start()
        check(journal, node, f"seed {seed}, after the needle maps were thrown away")
    with capsys.disabled():
        print("\n".join(report))  # noqa: T201
