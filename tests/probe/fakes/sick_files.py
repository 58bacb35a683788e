"""File operations on disks with dying sectors: reads of certain bytes end in EIO, in every process that installs this.

``sectors`` in the directory ``VOLUMED_TEST_SECTORS`` says which bytes; `tests.sick_kit` writes it. A sector belongs to
a file's inode, not to its name: what is written anew under the same name is well.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from volumed.shards import unreadable
from volumed.storage.fileio import File, FileIO

__all__ = ["DIRECTORY", "PAUSE", "SECTORS", "BadSectors", "install"]

DIRECTORY = "VOLUMED_TEST_SECTORS"
SECTORS = "sectors"
PAUSE = "VOLUMED_TEST_PAUSE_S"
"""For how long a front leaves a shard aside, if it is not to be the real time."""


class BadSectors(msgspec.Struct):
    """Bytes ``[start, end)`` of a file cannot be read, and nothing of it is in the page cache."""

    inode: int
    start: int
    end: int

    def meets(self, offset: int, length: int) -> bool:
        """Whether a read does."""
        return offset < self.end and self.start < offset + length


_decoder = msgspec.json.Decoder(list[BadSectors])
_real: dict[str, Callable[..., Any]] = {
    name: getattr(FileIO, name) for name in ("read_at", "read_into", "read_cached", "copy")
}


def _of_file(file: File) -> list[BadSectors]:
    known = _decoder.decode(Path(os.environ[DIRECTORY], SECTORS).read_bytes())
    return [bad for bad in known if bad.inode == file.inode]


def _require_good(file: File, offset: int, length: int) -> None:
    if any(bad.meets(offset, length) for bad in _of_file(file)):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def _read_at(self: FileIO, file: File, offset: int, length: int) -> Any:
    _require_good(file, offset, length)
    return _real["read_at"](self, file, offset, length)


def _read_into(self: FileIO, file: File, offset: int, buffer: memoryview) -> Any:
    _require_good(file, offset, len(buffer))
    return _real["read_into"](self, file, offset, buffer)


def _read_cached(self: FileIO, file: File, offset: int, length: int) -> Any:
    return None if _of_file(file) else _real["read_cached"](self, file, offset, length)


def _copy(self: FileIO, source: File, target: File, target_offset: int, length: int, *, source_offset: int = 0) -> None:
    _require_good(source, source_offset, length)
    _real["copy"](self, source, target, target_offset, length, source_offset=source_offset)


def install() -> None:
    """For the rest of this process, and of those that it forks."""
    for name, sick in {
        "read_at": _read_at, "read_into": _read_into, "read_cached": _read_cached, "copy": _copy
    }.items():  # fmt: skip
        setattr(FileIO, name, sick)
    if PAUSE in os.environ:
        unreadable._FIRST_PAUSE_S = float(os.environ[PAUSE])
