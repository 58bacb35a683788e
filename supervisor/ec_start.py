"""When the shards of the disks are brought together: when the node starts, and when a disk comes back
(docs/spec/erasure-coding.md 4.1).

Theory of operation
    Every worker mounts by itself what has all it needs on its own disk. What concerns several disks is planned by the
    `ShardPlanner` and done on threads of each disk (`ShardLanes`); the node waits for it with its ports, but not for
    ever, and disks wait for each other only for a moment. A disk that comes later gets its
    own shards mounted, and nothing else happens: what an operator has unmounted elsewhere stays so, and shards are only
    ever removed when all disks are there to be asked (R9).

    Disks tell each other what is deleted whenever one may have missed it: at the start, before the ports open, and when
    a disk serves again. Only at its first time a disk's indexes are compared with those of the others, behind open
    ports: reading them takes long, and this node never folds deletions into some indexes only, but others may have.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import wait

from supervisor.jobs import Jobs
from supervisor.loop import Loop
from supervisor.shard_lanes import ShardLanes
from volumed.errors import VolumedError
from volumed.shards.planner import CallWorker, ShardPlanner

__all__ = ["EcStart"]

_log = logging.getLogger(__name__)

_MOUNTS_WAIT_S = 20.0
"""How long the disks wait for each other's mounts before they tell each other what is deleted."""
_PORTS_WAIT_S = 60.0
"""How long the start of the node waits; what takes longer, like copies of large indexes, goes on behind it."""


class EcStart:
    """When to plan; used on the supervisor's loop."""

    def __init__(self, loop: Loop, call: CallWorker, serving: Callable[[], list[int]], disks: int) -> None:
        """``serving`` tells the disks that serve now, of ``disks`` configured."""
        self._loop = loop
        self._planner = ShardPlanner(call, disks)
        self._lanes = ShardLanes(self._planner, disks)
        self._plans = [Jobs(loop, f"plans-{disk}", threads=1) for disk in range(disks + 1)]
        """Of each disk that comes back; the last one is for the start of all."""
        self._serving = serving
        self._disks = disks
        self._has_begun = False
        self._compared: set[int] = set()
        """Disks whose indexes have been compared."""

    def begin(self, then: Callable[[], None]) -> None:
        """The disks are settled: bring their shards together, then call ``then``."""
        self._has_begun = True
        waiting = [then]

        def done() -> None:
            if waiting:
                waiting.pop()()

        if self._disks < 2:
            done()
        else:
            self._bring_together(None, done)
            self._loop.call_later(_PORTS_WAIT_S, done)

    def disk_ready(self, disk_id: int) -> None:
        """The worker of a disk has opened it."""
        if self._has_begun and self._disks > 1:
            self._bring_together(disk_id, _nothing)

    def disk_answers(self, disk_id: int) -> None:
        """A disk that did not answer serves again. What is mounted there stays so."""
        if self._has_begun and self._disks > 1:
            serving = self._serving()
            self._submit(disk_id, lambda: self._merge(serving, disk_id, 0.0), _nothing)

    def _bring_together(self, only: int | None, done: Callable[[], None]) -> None:
        serving = self._serving()

        def late(disk_id: int) -> None:
            self._merge(serving, disk_id, 0.0)

        def work() -> None:
            mounts = self._planner.mounts(serving, only, prunes=only is None)
            wait(self._lanes.do(mounts, late), _MOUNTS_WAIT_S)
            self._merge(serving, only, _PORTS_WAIT_S if only is None else 0.0)

        def ended() -> None:
            done()
            if only is None or only not in self._compared:
                self._compared.update(serving if only is None else [only])
                self._submit(only, lambda: self._compare(serving, only), _nothing)

        self._submit(only, work, ended)

    def _merge(self, serving: Sequence[int], only: int | None, wait_s: float) -> None:
        wait(self._lanes.do(self._planner.merges(serving, only), _no_more), wait_s)

    def _compare(self, serving: Sequence[int], only: int | None) -> None:
        self._lanes.do_patiently(self._planner.merges(serving, only, indexes=True))

    def _submit(self, only: int | None, work: Callable[[], None], done: Callable[[], None]) -> None:
        def failed(error: VolumedError) -> None:
            _log.error("shards are not brought together: %s", error.text)
            done()

        self._plans[self._disks if only is None else only].submit(work, lambda _: done(), failed)


def _nothing() -> None:
    pass


def _no_more(_disk_id: int) -> None:
    pass
