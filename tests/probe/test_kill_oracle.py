"""``kill -9`` of any process, or all, under concurrent writers: nothing acknowledged is lost, deletes stay deleted."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.cluster import Volumed
from tests.journal import Client, violations
from tests.processes import wait_until
from tests.web import assign, get

pytestmark = pytest.mark.probe

ROUNDS = int(os.environ.get("VOLUMED_KILL_ROUNDS", "10"))
CLIENTS = 8
WRITE_S = 0.6
RESTART_LIMIT_S = 15.0
VICTIMS = ("volumed: disk", "volumed: http front", "volumed: http arbiter", "volumed: grpc front", "supervisor", "all")


@pytest.mark.timeout(60 + 15 * ROUNDS)
def test_nothing_acknowledged_is_lost(tmp_path, record_property):
    seed = int(os.environ.get("VOLUMED_SEED", str(random.getrandbits(32))))
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)
    with Volumed(tmp_path / "n", dirs=[tmp_path / "d0", tmp_path / "d1"]) as node:
        volume_ids = sorted({int(assign(node.address).fid.split(",")[0]) for _ in range(20)})
        clients = [Client(node.address, number, volume_ids, seed) for number in range(1, CLIENTS + 1)]
        for client in clients:
            client.start()
        down_s = []
        for number in range(ROUNDS):
            victim = VICTIMS[number % len(VICTIMS)]
            time.sleep(WRITE_S * chance.random() + 0.1)
            down_s.append(kill(node, victim, chance))
            print(f"round {number}: {victim}, serving again after {down_s[-1]:.2f} s")  # noqa: T201
        time.sleep(WRITE_S)
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join(RESTART_LIMIT_S)
        acknowledged = sum(record.acknowledged for client in clients for record in client.records.values())
        unanswered = sum(client.unanswered for client in clients)
        print(f"{acknowledged} acknowledged, {unanswered} unanswered, longest outage {max(down_s):.2f} s")  # noqa: T201
        record_property("longest_outage_s", max(down_s))
        assert acknowledged > 10 * ROUNDS, "the clients hardly wrote anything"
        assert violations(clients, lambda: serving(node)) == []
        # Once more from the files alone: neither the map nor any memory of a process may have covered for them.
        node.kill()
        for entry in (tmp_path / "n" / "map").rglob("*.mdb"):
            entry.unlink()
        node.start()
        assert violations(clients, lambda: serving(node)) == []
        node.stop()


def serving(node: Volumed) -> bool:
    """Whether every disk serves."""
    status = get(node.address, "/status", timeout_s=1)
    return status.status == 200 and not any(disk.get("error") for disk in status.json()["DiskStatuses"])


def kill(node: Volumed, victim: str, chance: random.Random) -> float:
    """Kill and, if it was the supervisor, start the node again; seconds until all disks serve."""
    if victim in ("supervisor", "all"):
        pids = [node.pid] if victim == "supervisor" else node.pids()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        node.kill()
        began = time.monotonic()
        node.start()
    else:
        killed = chance.choice([pid for pid in node.pids() if pid != node.pid and victim in title(pid)])
        began = time.monotonic()
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not is_alive(killed), timeout_s=RESTART_LIMIT_S, what=f"the end of {victim}")
    wait_until(lambda: serving(node), timeout_s=RESTART_LIMIT_S, what="all disks serving")
    return time.monotonic() - began


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
