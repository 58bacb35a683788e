"""What the log says of encodes, rebuilds and decodes: when each begins, how far it is, and what came of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from volumed.bus.ec_calls import EcJobProgress, StartDecode, StartEncode, StartRebuild
from volumed.errors import VolumedError

__all__ = ["EcJobLog", "EcJobStart"]

_log = logging.getLogger(__name__)

_PROGRESS_EVERY_S = 60.0
_MIB = 1 << 20
_NAMES = {StartEncode: "encode", StartRebuild: "rebuild", StartDecode: "decode"}

EcJobStart = StartEncode | StartRebuild | StartDecode


class EcJobLog:
    """Of one job."""

    def __init__(self, directory: str, start: EcJobStart, clock: Callable[[], float] = time.monotonic) -> None:
        """``directory`` is that of its disk."""
        self._name = f"{directory}: {_NAMES[type(start)]} of volume {start.volume_id}"
        self._is_rebuild = isinstance(start, StartRebuild)
        self._clock = clock
        self._began_s = self._told_s = clock()
        _log.info("%s begins", self._name)

    def progressed(self, progress: EcJobProgress) -> None:
        """It goes on, or is done."""
        now_s = self._clock()
        if progress.done:
            made = f", shards made: {progress.shard_ids}" if self._is_rebuild else ""
            speed = self._speed(progress, now_s)
            _log.info("%s is done: %.1f MiB in %.1f s%s%s", self._name, progress.processed_bytes / _MIB,
                      now_s - self._began_s, speed, made)  # fmt: skip
        elif now_s - self._told_s >= _PROGRESS_EVERY_S:
            self._told_s = now_s
            done, total = progress.processed_bytes / _MIB, progress.total_bytes / _MIB
            _log.info("%s: %.1f of %.1f MiB%s", self._name, done, total, self._speed(progress, now_s))

    def failed(self, error: VolumedError) -> None:
        """It has ended with an error; also when nobody waits any more."""
        _log.error("%s failed after %.1f s: %s", self._name, self._clock() - self._began_s, error.text)

    def _speed(self, progress: EcJobProgress, now_s: float) -> str:
        took_s = now_s - self._began_s
        return f", {progress.processed_bytes / _MIB / took_s:.1f} MiB/s" if took_s else ""
