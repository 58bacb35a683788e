"""What the log says of scrubs: their findings, and how each ended. Who has asked may not be listening any more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from volumed.wire import volume_server_pb2 as pb

__all__ = ["ScrubLog"]

_log = logging.getLogger(__name__)

_FINDINGS_MAX = 20
"""Of one volume."""


class ScrubLog:
    """Of one scrub."""

    def __init__(self, kind: str, mode: int, clock: Callable[[], float] = time.monotonic) -> None:
        """``kind`` of the volumes: "volume", "ec volume"; ``mode`` is a `VolumeScrubMode`."""
        known = pb.VolumeScrubMode.DESCRIPTOR.values_by_number.get(mode)
        self._name = f"scrub {known.name if known else mode}"
        self._kind = kind
        self._clock = clock
        self._began_s = clock()

    def found(self, volume_id: int, texts: Sequence[str]) -> None:
        """What is wrong with a volume, if anything is."""
        for text in texts[:_FINDINGS_MAX]:
            _log.error("%s: %s %d: %s", self._name, self._kind, volume_id, text)
        more = len(texts) - _FINDINGS_MAX
        if more > 0:
            _log.error("%s: %s %d: %d more findings", self._name, self._kind, volume_id, more)

    def ended(self, volumes: int, needles: int, broken: int) -> None:
        """All volumes were looked at."""
        took_s = self._clock() - self._began_s
        _log.info(
            "%s: %d %ss with %d needles in %.1f s, %d broken", self._name, volumes, self._kind, needles, took_s, broken
        )
