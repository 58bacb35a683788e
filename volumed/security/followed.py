"""Certificate files that are renewed while the node runs (docs/spec/http.md 1.6, grpc.md 7.3)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from volumed.config.disks import ConfigError
from volumed.config.flagtypes import parse_duration_s

__all__ = ["FollowedFiles", "follow_files", "refresh_interval_s", "retry_interval_s"]

_log = logging.getLogger(__name__)

_REFRESH_S = 5 * 3600.0
_RETRY_S = 60.0
_REFRESH_VARIABLE = "WEED_TLS_CERT_REFRESH_INTERVAL"

_Made = TypeVar("_Made")
Stamp = tuple[int, int, int]


class FollowedFiles(Generic[_Made]):
    """What was made of some files when they were last read: `current`."""

    def __init__(self, build: Callable[[], _Made], files: Sequence[str]) -> None:
        """``build`` reads ``files``. Raises `ConfigError` when they are of no use."""
        self._build = build
        self._files = [path for path in files if path]
        self._stamps = self._look()
        self.current = build()

    def refresh(self) -> bool:
        """Read the files again if they have changed. Blocks on them. False: what they have become is of no use; that is
        logged and changes nothing."""
        try:
            stamps = self._look()
            if stamps == self._stamps:
                return True
            self.current = self._build()
        except ConfigError as error:
            _log.error("certificates stay as they are: %s", error)
            return False
        self._stamps = stamps
        _log.info("read again: %s", ", ".join(self._files))
        return True

    def _look(self) -> list[Stamp]:
        try:
            found = [os.stat(path) for path in self._files]
        except OSError as error:
            raise ConfigError(f"open {error.filename}: {error.strerror}") from None
        return [(stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in found]


def refresh_interval_s(environ: Mapping[str, str]) -> float:
    """How often to look whether certificate files have changed."""
    text = environ.get(_REFRESH_VARIABLE, "")
    try:
        seconds = parse_duration_s(text) if text else _REFRESH_S
    except ValueError as error:
        _log.warning("%s: %s", _REFRESH_VARIABLE, error)
        return _REFRESH_S
    return seconds if seconds > 0 else _REFRESH_S


def retry_interval_s(interval_s: float) -> float:
    """When to look again at files that were of no use: certificate and key may just have been caught between two
    writes."""
    return min(interval_s, _RETRY_S)


async def follow_files(followed: Sequence[FollowedFiles[Any]], interval_s: float) -> None:
    """Refresh now, since the process may be younger than what it was given, and then for ever. The files may lie on a
    slow disk, so a thread reads them."""
    while True:
        useful = [await asyncio.to_thread(files.refresh) for files in followed]
        await asyncio.sleep(interval_s if all(useful) else retry_interval_s(interval_s))
