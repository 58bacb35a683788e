"""The two sides of a comparison: each has a master of its own, and a fresh server for every workload."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.processes import wait_until
from tests.web import get_json

__all__ = ["COOKIE", "SIDES", "Side", "Target"]

COOKIE = 0x5EED1234
VOLUMES = 4
VOLUMES_MAX = 64
VOLUME_SIZE_LIMIT_MB = 30_000
GROW_TIMEOUT_S = 10.0
KEYS_PER_ROUND = 100_000_000

SIDES: dict[str, Callable[..., VolumeServer]] = {"weed": WeedVolume, "volumed": Volumed}
"""Name of a side → its server, in the order in which they are measured."""


class Target:
    """One server under test with empty volumes in it."""

    def __init__(self, server: VolumeServer, master: Master) -> None:
        """``server`` runs and is known to ``master``. Volumes are grown."""
        self.server = server
        self.master = master
        self.address = server.address
        self.volume_ids = self._grow()
        self._first_keys = itertools.count(1, KEYS_PER_ROUND)

    def fresh_keys(self) -> int:
        """First of a range of `KEYS_PER_ROUND` needle ids that nothing has used yet."""
        return next(self._first_keys)

    def path(self, key: int) -> str:
        """Path of the needle ``key``: all loads spread keys over the volumes in this way."""
        return f"/{self.volume_ids[key % len(self.volume_ids)]},{key:x}{COOKIE:08x}"

    def _grow(self) -> list[int]:
        get_json(self.master.address, f"/vol/grow?count={VOLUMES}&replication=000")
        wait_until(
            lambda: len(self._mounted()) >= VOLUMES, timeout_s=GROW_TIMEOUT_S, what=f"{VOLUMES} volumes to write to"
        )
        return self._mounted()

    def _mounted(self) -> list[int]:
        return [volume["Id"] for volume in get_json(self.address, "/status")["Volumes"] or ()]


class Side:
    """One kind of server and its master."""

    def __init__(self, name: str, home: Path) -> None:
        """``home``: directory for everything of this side. `master` is to be started by the caller."""
        self.name = name
        self.master = Master(home / "master", volume_size_limit_mb=VOLUME_SIZE_LIMIT_MB)
        self._home = home
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def fresh_target(self) -> Iterator[Target]:
        """A new server on an empty directory; the directory is removed afterwards."""
        home = self._home / f"server{next(self._numbers)}"
        try:
            with SIDES[self.name](home, master=self.master, volumes_max=VOLUMES_MAX) as server:
                yield Target(server, self.master)
        finally:
            shutil.rmtree(home, ignore_errors=True)
