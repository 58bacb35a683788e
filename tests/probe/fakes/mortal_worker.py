"""The real worker, except that it can be told to die at any step that changes its disk or its needle map.

A step is named ``<operation>:<extension>``: ``create``, ``write``, ``copy``, ``truncate``, ``flush``, ``rename`` (by
the old name) and ``remove`` of a file, ``flush:directory``, and commits of the map by the most telling change in each:
``map:record`` (what readers see of a volume), ``map:progress`` (every batch of writes), ``map:entries``,
``map:number``. Files with hidden names are left out: those of the disk's probe.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from tests.probe.fakes.fate import NODE, Fate
from volumed.storage import needle_map
from volumed.storage.fileio import Buffer, File, FileIO
from volumed.storage.needle_map import MapTransaction
from workers import __main__ as worker
from workers import io_errors

DIRECTORY = Path(os.environ["VOLUMED_TEST_FATE"])
FATE = Fate(DIRECTORY)


def step(operation: str, path: str, **options: Any) -> AbstractContextManager[None]:
    name, dot, extension = os.path.basename(path).partition(".")
    if not name:
        return nullcontext()
    return FATE.step(f"{operation}:{dot}{extension}", **options)


class MortalFiles(io_errors.CountingFiles):
    """Dies at steps that change files."""

    def open(self, path: str, *, writable: bool = True, create: bool = False) -> File:
        if not create or self.exists(path):
            return super().open(path, writable=writable, create=create)
        with step("create", path):
            return super().open(path, writable=writable, create=create)

    def write_at(self, file: File, offset: int, pieces: Sequence[Buffer]) -> int:
        def half() -> None:
            content = b"".join(pieces)
            FileIO.write_at(self, file, offset, [content[: len(content) // 2]])

        with step("write", file.path, half=half):
            return super().write_at(file, offset, pieces)

    def copy(self, source: File, target: File, target_offset: int, length: int, *, source_offset: int = 0) -> None:
        def half() -> None:
            FileIO.copy(self, source, target, target_offset, length // 2, source_offset=source_offset)

        with step("copy", target.path, half=half):
            super().copy(source, target, target_offset, length, source_offset=source_offset)

    def truncate(self, file: File, length: int) -> None:
        with step("truncate", file.path):
            super().truncate(file, length)

    def sync(self, file: File) -> None:
        with step("flush", file.path):
            super().sync(file)

    def sync_directory(self, path: str) -> None:
        with FATE.step("flush:directory"):
            super().sync_directory(path)

    def rename(self, source: str, target: str) -> None:
        with step("rename", source):
            super().rename(source, target)

    def remove(self, path: str) -> bool:
        if not self.exists(path):
            return False
        with step("remove", path):
            return super().remove(path)


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
    io_errors.CountingFiles = MortalFiles  # type: ignore[misc]
    needle_map.MapTransaction = MortalTransaction  # type: ignore[misc]
    raise SystemExit(worker.main(sys.argv[1:]))
