"""The runtime directory: sockets, node table, body pools. Private, in memory, gone with the node."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["RuntimeDir"]

_SHARED_MEMORY = "/dev/shm"
_LOCK = "lock"


class RuntimeDir:
    """A fresh directory that lives as long as this process holds its lock.

    What a killed supervisor left behind is recognised by its lock being free, and removed at the next start.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        parent = _parent(environ)
        prefix = f"volumed-{os.getuid()}-"
        _remove_stale(parent, prefix)
        # It gets a name that others look for only once it is locked.
        unlocked = tempfile.mkdtemp(prefix=".volumed-", dir=parent)
        self._lock_fd = os.open(os.path.join(unlocked, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path = os.path.join(parent, prefix + unlocked.rpartition("-")[2])
        os.rename(unlocked, self.path)

    def remove(self) -> None:
        """Delete the directory and everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock_fd)


def _parent(environ: Mapping[str, str]) -> str:
    candidates = (_SHARED_MEMORY, environ.get("RUNTIME_DIRECTORY", "").split(":")[0])
    for candidate in candidates:
        if candidate and os.access(candidate, os.W_OK | os.X_OK):
            return candidate
    return tempfile.gettempdir()


def _remove_stale(parent: str, prefix: str) -> None:
    for directory in Path(parent).glob(prefix + "*"):
        with contextlib.suppress(OSError), _free_lock(directory):
            shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _free_lock(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory of ours whose owner is gone; raises `OSError` otherwise."""
    if directory.lstat().st_uid != os.getuid():
        raise PermissionError(str(directory))
    fd = os.open(directory / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
