"""Log files of ``-logdir``: one that grows, and its predecessors, limited by size, age and number (http.md 9.2)."""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["LogFile", "LogLimits"]

_log = logging.getLogger(__name__)
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_MODE = 0o644
_PARTIAL = ".part"


class LogLimits(NamedTuple):
    """When a new file is begun, and how many there may be; 0 = no limit."""

    size_bytes: int = 0
    age_s: int = 0
    files: int = 0
    compress: bool = False


class LogFile:
    """``<directory>/<name>.log``; older ones are called ``<name>.<date>.log``. For one thread."""

    def __init__(self, directory: str, name: str, limits: LogLimits, clock: Callable[[], float] = time.time) -> None:
        """Open the file, going on where the last run ended. Raises `OSError`."""
        self._directory = directory
        self._name = name
        self._limits = limits
        self._clock = clock
        self._fd = -1
        self._open()

    def write(self, lines: bytes) -> None:
        """Append whole lines. Raises `OSError`."""
        limits = self._limits
        too_long = 0 < limits.size_bytes < self._size + len(lines)
        too_old = 0 < limits.age_s <= self._clock() - self._began_at_s
        if self._size and (too_long or too_old):
            self._rotate()
        elif self._fd < 0:
            self._open()
        while lines:
            written = os.write(self._fd, lines)
            self._size += written
            lines = lines[written:]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self._fd = os.open(self._path, _FLAGS, _MODE)
        self._size = os.fstat(self._fd).st_size
        self._began_at_s = self._clock()

    @property
    def _path(self) -> str:
        return os.path.join(self._directory, self._name + ".log")

    def _rotate(self) -> None:
        self.close()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self._clock()))
        kept = os.path.join(self._directory, f"{self._name}.{stamp}.log")
        # At most once a second. When it cannot be done, a file beyond its limit is better than lines that are lost.
        if not os.path.lexists(kept):
            with contextlib.suppress(OSError):
                os.rename(self._path, kept)
                if self._limits.compress:
                    threading.Thread(target=_compress, args=(kept,), name="log gzip", daemon=True).start()
        self._open()
        self._remove_old()

    def _remove_old(self) -> None:
        if self._limits.files > 0:
            old = sorted(name for name in os.listdir(self._directory) if self._is_old(name))
            for name in old[: max(0, len(old) + 1 - self._limits.files)]:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self._directory, name))

    def _is_old(self, name: str) -> bool:
        return name.startswith(self._name + ".") and ".log" in name and name != self._name + ".log"


def _compress(path: str) -> None:
    """Replace a file by ``<path>.gz``."""
    partial = path + ".gz" + _PARTIAL
    try:
        with open(path, "rb") as source, gzip.open(partial, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        os.rename(partial, path + ".gz")
        os.unlink(path)
    except OSError as error:
        _log.warning("cannot compress %s: %s", path, error)
