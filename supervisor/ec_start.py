"""When the shards of the disks are brought together: when the node starts, and when a disk comes back
(docs/spec/erasure-coding.md 4.1).

Theory of operation
    Every worker mounts by itself what has all it needs on its own disk. What concerns several disks is done by the
    `ShardPlanner` on a thread; the node waits for it with its ports, but not for ever. A disk that comes later gets its
    own shards mounted, and nothing else happens: what an operator has unmounted elsewhere stays so, and shards are only
    ever removed when all disks are there to be asked (R9).

    Disks tell each other what is deleted whenever one may have missed it: at the start, before the ports open, and when
    a disk serves again. Only at its first time a disk's indexes are compared with those of the others, behind open
    ports: reading them takes long, and this node never folds deletions into some indexes only, but others may have.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from supervisor.jobs import Jobs
from supervisor.loop import Loop
from volumed.errors import VolumedError
from volumed.shards.planner import CallWorker, ShardPlanner

__all__ = ["EcStart"]

_log = logging.getLogger(__name__)

_PORTS_WAIT_S = 60.0
"""How long the start of the node waits; what takes longer, like copies of large indexes, goes on behind it."""


class EcStart:
    """When to plan; used on the supervisor's loop."""

    def __init__(self, loop: Loop, call: CallWorker, serving: Callable[[], list[int]], disks: int) -> None:
        """``serving`` tells the disks that serve now, of ``disks`` configured."""
        self._loop = loop
        self._planner = ShardPlanner(call, disks)
        self._jobs = Jobs(loop, "shards", threads=1)
        self._comparisons = Jobs(loop, "indexes of shards", threads=1)
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
            self._submit(self._jobs, lambda: self._planner.merge(serving, disk_id), _nothing)

    def _bring_together(self, only: int | None, done: Callable[[], None]) -> None:
        serving = self._serving()

        def work() -> None:
            self._planner.run(serving, only, prunes=only is None)
            self._planner.merge(serving, only)

        def ended() -> None:
            done()
            if only is None or only not in self._compared:
                self._compared.update(serving if only is None else [only])
                self._submit(self._comparisons, lambda: self._planner.merge(serving, only, indexes=True), _nothing)

        self._submit(self._jobs, work, ended)

    def _submit(self, jobs: Jobs, work: Callable[[], None], done: Callable[[], None]) -> None:
        def failed(error: VolumedError) -> None:
            _log.error("shards are not brought together: %s", error.text)
            done()

        jobs.submit(work, lambda _: done(), failed)


def _nothing() -> None:
    pass
