"""Decides from probes whether a disk is degraded: a sliding window, without I/O and without a clock of its own."""

from __future__ import annotations

from collections import deque

from volumed.config.node import ProbeSettings

__all__ = ["ProbeWindow"]


class ProbeWindow:
    """The last probes of one disk. All times are monotonic seconds."""

    def __init__(self, settings: ProbeSettings, slow_after_s: float) -> None:
        self._settings = settings
        self._slow_after_s = slow_after_s
        self._probes: deque[tuple[float, float | None]] = deque()
        self._stat_failures = 0
        self._failing = False
        self._slow = False
        self._judgement = ""

    def examined(self, *, found: bool) -> None:
        """The directory could be examined, or not."""
        self._stat_failures = 0 if found else self._stat_failures + 1

    def add(self, at_s: float, took_s: float | None) -> None:
        """A probe was answered; None: with an error."""
        late = took_s is not None and took_s > self._settings.timeout_s
        self._probes.append((at_s, None if late else took_s))

    def problem(self, now_s: float, waiting_s: float = 0.0) -> str:
        """What is wrong with the disk, empty if nothing is. ``waiting_s``: how long a probe has been waiting for the
        disk by now; this and the directory count at once, everything else by its share."""
        settings = self._settings
        while self._probes and now_s - self._probes[0][0] > settings.window_s:
            self._probes.popleft()
        if self._stat_failures >= settings.stat_failures_max:
            return f"probe: the directory could not be examined {self._stat_failures} times in a row"
        if waiting_s > settings.timeout_s:
            return f"probe: no answer from the disk for more than {settings.timeout_s:g} s"
        if len(self._probes) >= settings.samples_min:
            self._judge()
        return self._judgement

    def _judge(self) -> None:
        """The text names limits and no counts: it stays the same while the disk stays as it is."""
        settings = self._settings
        failed = sum(took_s is None for _, took_s in self._probes)
        slow = sum(took_s is not None and took_s > self._slow_after_s for _, took_s in self._probes)
        self._failing = self._exceeds(failed, settings.error_percent, self._failing)
        self._slow = self._exceeds(slow, settings.slow_percent, self._slow)
        if self._failing:
            limit = f"failed or took more than {settings.timeout_s:g} s"
            self._judgement = f"probe: {settings.error_percent:g} % of the operations or more {limit}"
        elif self._slow:
            limit = f"took more than {1000 * self._slow_after_s:g} ms"
            self._judgement = f"probe: {settings.slow_percent:g} % of the operations or more {limit}"
        else:
            self._judgement = ""

    def _exceeds(self, part: int, percent: float, before: bool) -> bool:
        """Harder to leave than to enter, so that a disk at the limit does not flap."""
        limit = percent * self._settings.recovery if before else percent
        return 100 * part >= limit * len(self._probes)
