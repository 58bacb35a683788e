"""Processes of a working node are killed; what was acknowledged must still hold."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable

from tests.cluster import Volumed
from tests.journal import Journal, fingerprint
from tests.processes import wait_until
from tests.pss import roles
from tests.web import get

__all__ = ["await_acknowledged", "check", "kill"]

ACKNOWLEDGED_PER_PHASE = 150
RECOVERY_S = 60.0


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
