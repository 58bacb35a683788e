"""File operations at which a process can be told to die.

A step is named ``<operation>:<extension>``: ``create``, ``write``, ``copy``, ``truncate``, ``flush``, ``rename`` (by
the old name) and ``remove`` of a file, and ``flush:directory``. Files with hidden names are left out: those of the
disk's probe.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from tests.probe.fakes.fate import Fate
from volumed.storage.fileio import Buffer, File, FileIO

__all__ = ["MortalFiles"]


class MortalFiles(FileIO):
    """Dies at steps that change files."""

    fate: ClassVar[Fate]
    """Of the process."""

    def open(self, path: str, *, writable: bool = True, create: bool = False) -> File:
        if not create or self.exists(path):
            return super().open(path, writable=writable, create=create)
        with self._step("create", path):
            return super().open(path, writable=writable, create=create)

    def write_at(self, file: File, offset: int, pieces: Sequence[Buffer]) -> int:
        def half() -> None:
            content = b"".join(pieces)
            FileIO.write_at(self, file, offset, [content[: len(content) // 2]])

        with self._step("write", file.path, half=half):
            return super().write_at(file, offset, pieces)

    def copy(self, source: File, target: File, target_offset: int, length: int, *, source_offset: int = 0) -> None:
        def half() -> None:
            FileIO.copy(self, source, target, target_offset, length // 2, source_offset=source_offset)

        with self._step("copy", target.path, half=half):
            super().copy(source, target, target_offset, length, source_offset=source_offset)

    def truncate(self, file: File, length: int) -> None:
        with self._step("truncate", file.path):
            super().truncate(file, length)

    def sync(self, file: File) -> None:
        with self._step("flush", file.path):
            super().sync(file)

    def sync_directory(self, path: str) -> None:
        with self.fate.step("flush:directory"):
            super().sync_directory(path)

    def rename(self, source: str, target: str) -> None:
        with self._step("rename", source):
            super().rename(source, target)

    def remove(self, path: str) -> bool:
        if not self.exists(path):
            return False
        with self._step("remove", path):
            return super().remove(path)

    def _step(self, operation: str, path: str, **options: Any) -> AbstractContextManager[None]:
        name, dot, extension = os.path.basename(path).partition(".")
        if not name:
            return nullcontext()
        return self.fate.step(f"{operation}:{dot}{extension}", **options)
