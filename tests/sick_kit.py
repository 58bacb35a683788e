"""A node whose disks have dying sectors: reads of certain bytes end in EIO, in its fronts, workers and coding processes
alike (``tests.probe.fakes.sick_files``).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec

from tests.cluster import Volumed
from tests.ec_files_kit import ALL_SHARDS, EcFiles
from tests.metrics_kit import Scrape, scrape
from tests.probe.fakes.sick_files import DIRECTORY, PAUSE, SECTORS, BadSectors
from tests.processes import free_port
from volumed.erasure.names import SIDECAR, shard_extension

__all__ = ["LIMIT_S", "SickNode", "laid"]

ROOT = Path(__file__).parents[1]
LIMIT_S = 60.0
WHOLE = 1 << 62


class SickNode(Volumed):
    """All its disks are on the filesystem of ``home``."""

    name = "volumed with dying sectors"

    def __init__(self, home: Path, *, pause_s: float | None = None, lane: bool = True, **options: Any) -> None:
        """``pause_s``: how long fronts leave a shard aside; ``lane``: whether there is a needle lane."""
        super().__init__(home, **options)
        self._metrics_port = free_port()
        self.flags.append(f"-metricsPort={self._metrics_port}")
        self._sick = home / "sick"
        self._sick.mkdir()
        self._sectors: list[BadSectors] = []
        self._extra = {"PYTHONPATH": str(ROOT), DIRECTORY: str(self._sick)}
        if pause_s is not None:
            self._extra[PAUSE] = str(pause_s)
        if not lane:
            self._extra["VOLUMED_NEEDLE_LANE"] = "0"
        self.heal()

    def command(self) -> list[str]:
        _, *arguments = super().command()
        return [sys.executable, "-m", "tests.probe.fakes.sick_node", *arguments]

    def environment(self) -> dict[str, str]:
        return super().environment() | self._extra

    def lay(self, files: EcFiles) -> None:
        """Put all shards of a volume on the disks in turn, and their checksums on the first one."""
        for disk, directory in enumerate(self.dirs):
            files.lay(directory, ALL_SHARDS[disk :: len(self.dirs)])
        shutil.copy(files.path(SIDECAR), self.dirs[0])

    def shard_path(self, files: EcFiles, shard: int) -> Path:
        """Where `lay` has put a shard."""
        return files.path(shard_extension(shard), self.dirs[shard % len(self.dirs)])

    def metrics(self) -> Scrape:
        """As of now."""
        return scrape(self._metrics_port)

    def spoil(self, *paths: Path, start: int = 0, end: int = WHOLE) -> None:
        """Bytes ``[start, end)`` of some files cannot be read any more."""
        for path in paths:
            inode = path.stat().st_ino
            # Its number is not given to another file while this name is there.
            if not (grave := self._sick / str(inode)).exists():
                os.link(path, grave)
            self._sectors.append(BadSectors(inode, start, end))
        self._write()

    def heal(self) -> None:
        """Everything can be read again, from the disk."""
        self._sectors = [BadSectors(bad.inode, 0, 0) for bad in self._sectors]
        self._write()

    def _write(self) -> None:
        fresh = self._sick / "fresh"
        fresh.write_bytes(msgspec.json.encode(self._sectors))
        fresh.rename(self._sick / SECTORS)


def laid(files: EcFiles, home: Path, **options: Any) -> SickNode:
    """A node with a volume on three disks; it is to be started."""
    node = SickNode(home / "node", dirs=[home / f"d{disk}" for disk in range(3)], **options)
    node.lay(files)
    return node
