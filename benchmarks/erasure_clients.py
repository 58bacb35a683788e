"""``python -m benchmarks.erasure_clients``: what clients see of a disk on which a volume is encoded and rebuilt.

One client reads and one writes small objects of another volume of the same disk, paced. The jobs run through the RPCs,
on each server in turns, after a time of quiet and one beside a process that only keeps a processor busy when nobody
else wants it: nothing that computes can disturb less.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bulk import Connection
from benchmarks.clients import DATA_BYTES, Clients, Figures
from benchmarks.servers import COOKIE, SIDES
from benchmarks.shards import LOST, SHARDS, Served, make_volume, started
from tests.cluster import VolumeServer
from tests.processes import wait_until
from tests.web import get_json

__all__ = ["main"]

OBJECTS = 1000
"""That are read."""
QUIET_S = 3.0
TIMEOUT_S = 30.0
COUNTING = f"""
import os, time
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
end = time.monotonic() + {QUIET_S}
while time.monotonic() < end:
    for _ in range(10_000):
        pass
"""
"""Program of a process that touches neither memory nor disks."""

Seen = tuple[Figures, Figures]
"""Reads and writes."""


class Side:
    """A server with a volume to encode and another one for clients."""

    def __init__(self, served: Served) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.seen: dict[str, list[Seen]] = {}
        """What clients saw in each round."""
        self._address = served.server.address
        self._served = served
        served.freeze()
        self._volume_id = _grow(served.server)
        self._fresh = itertools.count(1)
        connection = Connection(self._address)
        for _ in range(OBJECTS):
            connection.put(self._path(next(self._fresh)), bytes(DATA_BYTES))
        connection.close()

    def round(self) -> None:
        """Every job once."""
        self._served.lose(SHARDS)
        self._during("nothing", lambda: time.sleep(QUIET_S))
        self._during("idle process", _count)
        self._during("encode", self._served.encode)
        self._served.lose(LOST["four lost"])
        self._during("rebuild, four lost", self._served.rebuild)

    def _during(self, what: str, job: Callable[[], None]) -> None:
        os.sync()
        source = random.Random(1)
        reads = (self._path(source.randint(1, OBJECTS)) for _ in itertools.repeat(None))
        clients = Clients(self._address, reads, map(self._path, self._fresh))
        began = time.perf_counter()
        try:
            job()
        finally:
            ended = time.perf_counter()
            clients.stop()
        self.seconds.setdefault(what, []).append(ended - began)
        self.seen.setdefault(what, []).append(
            (Figures.of(clients.reads, began, ended), Figures.of(clients.writes, began, ended))
        )

    def _path(self, key: int) -> str:
        return f"/{self._volume_id},{key:x}{COOKIE:08x}"


def _count() -> None:
    subprocess.run([sys.executable, "-S", "-c", COUNTING], check=True)


def _grow(server: VolumeServer) -> int:
    """Id of a new volume."""
    assert server.master is not None

    def mounted() -> set[int]:
        return {volume["Id"] for volume in get_json(server.address, "/status")["Volumes"] or ()}

    before = mounted()
    get_json(server.master.address, "/vol/grow?count=1&replication=000")
    wait_until(lambda: bool(mounted() - before), timeout_s=TIMEOUT_S, what="a volume to write to")
    return min(mounted() - before)


def compare(
    home: Path, needles: int, rounds: int, kinds: dict[str, Callable[..., VolumeServer]]
) -> tuple[int, dict[str, Side]]:
    """Length of the `.dat`, and what was measured."""
    size = make_volume(home / "source", needles)
    with started(home, home / "source", kinds) as servers:
        sides = {name: Side(served) for name, served in servers.items()}
        for _ in range(rounds):
            for side in sides.values():
                side.round()
    return size, sides


def table(sides: dict[str, Side]) -> list[str]:
    """Medians of the rounds."""
    lines = ["| During | Server | s | GET | PUT |", "|---|---|--:|--:|--:|"]
    for what in next(iter(sides.values())).seen:
        for name, side in sides.items():
            reads, writes = (_median(list(figures)) for figures in zip(*side.seen[what], strict=True))
            lines.append(f"| {what} | {name} | {statistics.median(side.seconds[what]):.2f} | {reads} | {writes} |")
    return lines


def _median(rounds: list[Figures]) -> Figures:
    requests, *latencies = (statistics.median(column) for column in zip(*rounds, strict=True))
    return Figures(int(requests), *latencies)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Measure what clients see of erasure coding.")
    parser.add_argument("--needles", type=int, default=1_000_000, help="of 1 KB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--home", help="where to work")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="volumed-ec-", dir=options.home) as home:
        size, sides = compare(Path(home), options.needles, options.rounds, SIDES)
    load = os.getloadavg()[0]
    sys.stdout.write("\n".join([f"{size / 1e6:.0f} MB, load {load:.0f}", *table(sides)]) + "\n")


if __name__ == "__main__":
    main()
