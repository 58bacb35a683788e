"""How many files a process may have open, and what a front does with them: nothing may run into `EMFILE`, where reads
and connections would fail that have nothing to do with each other."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import NamedTuple

__all__ = ["OpenFiles", "allow_all_open_files", "open_files_limit"]

_OWN = 64
"""Libraries, logs, pipes, the bus."""
_OWN_PER_DISK = 16
"""A map, a connection to the worker, and what the threads of a disk have just opened."""
_CONNECTIONS_MAX = 16_384
_PER_KIND_MAX = 512
_PER_DISK_MIN = 16


class OpenFiles(NamedTuple):
    """What one front may have open for a long time."""

    connections: int
    """Of HTTP clients."""
    volumes_per_disk: int
    """`.dat` files that are kept open."""
    shards_per_disk: int
    """Likewise shards and their indexes."""

    @classmethod
    def within(cls, limit: int, disks: int) -> OpenFiles:
        """Half of what the process does not need for itself is for clients, a quarter for files, and a quarter stays
        free: for connections to other servers, images, files on their way in and out."""
        free = max(limit - _OWN - _OWN_PER_DISK * disks, limit // 4)
        files = min(max(_PER_DISK_MIN, _PER_KIND_MAX // disks), free // 8 // disks)
        return cls(min(_CONNECTIONS_MAX, free // 2), max(1, files), max(1, files))


def allow_all_open_files() -> None:
    """Raise the limit of this process, and of those that it starts, to the highest one that it may have, as every
    program does that is written in the reference's language."""
    _, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The highest one may itself be above what the kernel grants now.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))


def open_files_limit() -> int:
    """How many files this process may have open at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (1 << 31) if soft == resource.RLIM_INFINITY else soft
