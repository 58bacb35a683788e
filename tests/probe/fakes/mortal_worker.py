"""The real worker, except that it can be told to die at any step that changes its disk or its needle map.

Steps are those of `MortalFiles`, and commits of the map by the most telling change in each: ``map:record`` (what
readers see of a volume), ``map:progress`` (every batch of writes), ``map:entries``, ``map:number``. What the worker's
coding process does counts too: at such a step both die.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tests.probe.fakes.fate import NODE, Fate
from tests.probe.fakes.mortal_files import MortalFiles
from volumed.storage import needle_map
from volumed.storage.needle_map import MapTransaction
from workers import __main__ as worker
from workers import io_errors
from workers.coding import process

DIRECTORY = Path(os.environ["VOLUMED_TEST_FATE"])
FATE = Fate(DIRECTORY, os.getpid())


class MortalDisk(MortalFiles, io_errors.CountingFiles):
    """All file I/O of a worker."""


CHANGES = ("nothing", "number", "entries", "progress", "record")
NOTHING, NUMBER, ENTRIES, PROGRESS, RECORD = range(len(CHANGES))


class MortalTransaction(MapTransaction):
    """Dies at commits."""

    __slots__ = ("_change",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._change = NOTHING

    def commit(self) -> None:
        with FATE.step(f"map:{CHANGES[self._change]}"):
            super().commit()


def noting(method: str, change: int) -> Any:
    """The method of a transaction, noted as a change."""
    real = getattr(MapTransaction, method)

    def changing(self: MortalTransaction, *arguments: Any) -> Any:
        self._change = max(self._change, change)
        return real(self, *arguments)

    return changing


for method, change in {
    "next_generation": NUMBER,
    "put": ENTRIES, "remove": ENTRIES, "put_entries": ENTRIES, "drop_entries": ENTRIES,
    "put_progress": PROGRESS,
    "put_record": RECORD, "remove_record": RECORD, "remove_all_records": RECORD, "forget_volume": RECORD,
}.items():  # fmt: skip
    setattr(MortalTransaction, method, noting(method, change))


if __name__ == "__main__":
    (DIRECTORY / NODE).write_text(sys.argv[1])
    MortalFiles.fate = FATE
    io_errors.CountingFiles = MortalDisk  # type: ignore[misc]
    process.COMMAND = (sys.executable, "-m", "tests.probe.fakes.mortal_coder")
    needle_map.MapTransaction = MortalTransaction  # type: ignore[misc]
    raise SystemExit(worker.main(sys.argv[1:]))
