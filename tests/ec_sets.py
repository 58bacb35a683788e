"""Encoded volumes in the directories of a server, in all the states that a mount may find them in."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.erasure_kit import RATIO, SmallVolume
from volumed.erasure.names import INDEX, SIDECAR, shard_extension

__all__ = ["SHARDS", "SIDECARS", "EncodedSet"]

SHARDS = range(RATIO.total)
SIDECARS = (INDEX, ".vif", SIDECAR)


class EncodedSet:
    """The files of one small volume, encoded 3+2; a copy of them is a volume of any id. Another number of needles gives
    other contents."""

    def __init__(self, home: Path, needles: int = 12) -> None:
        self.volume = SmallVolume(home, needles=needles, needle_bytes=20_000)
        self.volume.encode()

    def content(self, extension: str) -> bytes:
        return (self.volume.directory / f"9{extension}").read_bytes()

    def place(
        self, directory: Path, name: str | int, shards: Iterable[int] = SHARDS, sidecars: Sequence[str] = SIDECARS
    ) -> None:
        """As ``name``, which is the id with the collection in front of it."""
        directory.mkdir(parents=True, exist_ok=True)
        for extension in (*map(shard_extension, shards), *sidecars):
            shutil.copy(self.volume.directory / f"9{extension}", directory / f"{name}{extension}")

    def place_source(self, directory: Path, name: str | int) -> None:
        """The volume that was encoded."""
        directory.mkdir(parents=True, exist_ok=True)
        for extension in (".dat", ".idx"):
            shutil.copy(self.volume.directory / f"9{extension}", directory / f"{name}{extension}")
