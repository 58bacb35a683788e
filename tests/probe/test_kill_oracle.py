"""Random processes of a working node are killed; whatever was acknowledged must still hold.

``VOLUMED_KILL_SEED`` repeats a run, ``VOLUMED_KILL_ROUNDS`` makes it longer.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import Volumed
from tests.journal import Journal, fingerprint, run_clients
from tests.processes import wait_until
from tests.pss import roles
from tests.web import get

pytestmark = [pytest.mark.probe, pytest.mark.timeout(600)]

ROUNDS = int(os.environ.get("VOLUMED_KILL_ROUNDS", "10"))
CLIENTS = 8
VICTIMS = ["http front", "arbiter", "worker", "grpc front", "supervisor", "everything"]
ACKNOWLEDGED_PER_PHASE = 150
RECOVERY_S = 60.0


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


def await_acknowledged(journal: Journal, what: str) -> None:
    goal = journal.acknowledged_count + ACKNOWLEDGED_PER_PHASE
    wait_until(lambda: journal.acknowledged_count >= goal, timeout_s=RECOVERY_S, what=what)


def kill(node: Volumed, victim: str, choice: random.Random) -> None:
    """SIGKILL; returns when the node is whole again."""
    before = roles(node)
    if victim in ("supervisor", "everything"):
        for pid in node.pids() if victim == "everything" else [node.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.kill()
        node.start()
    else:
        os.kill(choice.choice(before[victim]), signal.SIGKILL)
    wait_until(is_whole(node, before), timeout_s=RECOVERY_S, what=f"a new {victim} and a healthy node")


def is_whole(node: Volumed, before: dict[str, list[int]]) -> Callable[[], bool]:
    """As many processes of every role as before, not all the same ones, and health."""

    def whole() -> bool:
        now = roles(node)
        return (
            {role: len(pids) for role, pids in now.items()} == {role: len(pids) for role, pids in before.items()}
            and now != before
            and get(node.address, "/healthz", timeout_s=1).status == 200
        )

    return whole


def check(journal: Journal, node: Volumed, when: str) -> None:
    """Every object, each over a connection of its own so that all fronts answer some."""

    def read(fid: str) -> str:
        answer = get(node.address, f"/{fid}")
        return fingerprint(answer.status, answer.body)

    violations = journal.settle(read)
    assert not violations, f"{when}:\n" + "\n".join(violations[:20])
