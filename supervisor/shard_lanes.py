"""Threads that have the steps of a plan done (``volumed.shards.planner``), so that no disk waits long for another one.

A step is a call to the worker of one disk, on a thread that works for this disk alone: when the disk hangs, it is the
only one that waits. But the worker may read another disk for it. Nobody can tell a disk that hangs from one that has
much to read, so such a step is waited for only for a short time; if it takes longer, it, and all others that would read
there, go to a second thread of the disk, which is patient.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial

from volumed.errors import RetryError
from volumed.shards.planner import ShardPlanner, Step
from volumed.shards.threads import BoundedThreads

__all__ = ["ShardLanes"]

_log = logging.getLogger(__name__)

_SHORT_S = 10.0
_WAITING_MAX = 100


class ShardLanes:
    """Any thread."""

    def __init__(self, planner: ShardPlanner, disks: int) -> None:
        self._planner = planner
        self._first = [BoundedThreads(f"shards-{disk}", 1, _WAITING_MAX) for disk in range(disks)]
        self._patient = [BoundedThreads(f"late-shards-{disk}", 1, _WAITING_MAX) for disk in range(disks)]

    def do(self, steps: Iterable[Step], late: Callable[[int], None]) -> list[Future[None]]:
        """Have steps done: one future per disk, which ends when everything is done there but what is late, for which
        ``late(disk_id)`` is called at its end."""
        return self._submit(self._first, steps, partial(self._do, late))

    def do_patiently(self, steps: Iterable[Step]) -> None:
        """Have steps done that take long, and for which nobody waits."""
        self._submit(self._patient, steps, self._do_all)

    def _submit(
        self, lanes: list[BoundedThreads], steps: Iterable[Step], work: Callable[[list[Step]], None]
    ) -> list[Future[None]]:
        by_disk: dict[int, list[Step]] = {}
        for step in steps:
            by_disk.setdefault(step.disk_id, []).append(step)
        started = []
        for disk_id, mine in by_disk.items():
            future = lanes[disk_id].submit(partial(work, mine))
            if future is None:
                _log.error("disk %d has too much to do: its shards are not brought together", disk_id)
                continue
            future.add_done_callback(_tell_failure)
            started.append(future)
        return started

    def _do(self, late: Callable[[int], None], steps: list[Step]) -> None:
        slow: set[int] = set()
        postponed = []
        for step in sorted(steps, key=lambda step: len(step.sources)):
            if not step.sources:
                self._planner.do(step)
                continue
            try:
                if slow.isdisjoint(step.sources):
                    self._planner.attempt(step, _SHORT_S)
                    continue
            except RetryError as error:
                _log.warning("disk %d goes on later: %s", step.disk_id, error.text)
                slow |= step.sources
            postponed.append(step)
        if postponed:
            self._submit(self._patient, postponed, partial(self._do_late, late))

    def _do_late(self, late: Callable[[int], None], steps: list[Step]) -> None:
        self._do_all(steps)
        late(steps[0].disk_id)

    def _do_all(self, steps: list[Step]) -> None:
        for step in steps:
            self._planner.do(step)


def _tell_failure(ended: Future[None]) -> None:
    if ended.exception() is not None:
        _log.error("shards are not brought together", exc_info=ended.exception())
