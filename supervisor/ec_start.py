"""When the shards of the disks are brought together: when the node starts, and when a disk comes back
(docs/spec/erasure-coding.md 4.1).

Theory of operation
    Every worker mounts by itself what has all it needs on its own disk. What concerns several disks is done by the
    `ShardPlanner` on a thread; the node waits for it with its ports, but not for ever. A disk that comes later gets its
    own shards mounted, and nothing else happens: what an operator has unmounted elsewhere stays so, and shards are only
    ever removed when all disks are there to be asked (R9).
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
        self._serving = serving
        self._disks = disks
        self._has_begun = False

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
            self._plan(None, done)
            self._loop.call_later(_PORTS_WAIT_S, done)

    def disk_ready(self, disk_id: int) -> None:
        """A disk serves, or serves again."""
        if self._has_begun and self._disks > 1:
            self._plan(disk_id, lambda: None)

    def _plan(self, only: int | None, done: Callable[[], None]) -> None:
        serving = self._serving()

        def failed(error: VolumedError) -> None:
            _log.error("shards are not brought together: %s", error.text)
            done()

        self._jobs.submit(lambda: self._planner.run(serving, only, prunes=only is None), lambda _: done(), failed)
