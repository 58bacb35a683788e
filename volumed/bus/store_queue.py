"""When the next store batch leaves, and what is in it. Pure: no clock, no socket.

One batch is in flight per front and disk. Its reply comes back so fast that hardly anything has queued up by then,
and small batches cost most. So the next one is held until as many operations wait as the last cycle carried (those
answered and those already queued: the clients that are active now), or until the hold time is over, which the link
measures. A lone client has a target of one and never waits.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from volumed.bus.bodypool import Slab
from volumed.bus.frames import (
    BATCH_BODIES_BYTES_MAX,
    BATCH_BYTES_MAX,
    BATCH_OPERATIONS_MAX,
    StoreOutcome,
    StoreResult,
)
from volumed.errors import VolumedError

__all__ = ["StoreItem", "StoreQueue"]

_log = logging.getLogger(__name__)


class StoreItem(NamedTuple):
    """One operation that waits. ``slab`` is held while a worker may read it."""

    operation: bytes
    done: Callable[[StoreResult], None]
    slab: Slab | None

    @property
    def body_bytes(self) -> int:
        """Memory of the shared body."""
        return 0 if self.slab is None else self.slab.length

    def finish(self, result: StoreResult) -> None:
        """Tell the result. What goes wrong in there concerns one client and must not cost the others theirs."""
        try:
            self.done(result)
        except Exception:
            _log.exception("the result of a store could not be delivered")

    def release(self) -> None:
        """No worker reads the body any more."""
        if self.slab is not None:
            self.slab.release()

    def fail(self, error: VolumedError) -> None:
        """No worker has it, and none will."""
        self.release()
        self.finish(StoreResult(StoreOutcome.ERROR, 0, error))


class StoreQueue:
    """Operations that have not left yet."""

    def __init__(self) -> None:
        self._items: deque[StoreItem] = deque()
        self._target = 1
        self._bodies_bytes = 0
        self.waiting_bytes = 0
        """Packed operations; shared bodies are limited by their pool."""

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: StoreItem) -> None:
        """Append one operation."""
        self._items.append(item)
        self.waiting_bytes += len(item.operation)
        if item.slab is not None:
            self._bodies_bytes += item.slab.length

    @property
    def full(self) -> bool:
        """Whether holding longer gains nothing."""
        return (
            len(self._items) >= self._target
            or self.waiting_bytes >= BATCH_BYTES_MAX
            or self._bodies_bytes >= BATCH_BODIES_BYTES_MAX
        )

    def take(self) -> list[StoreItem]:
        """The next batch: as many operations, in order, as its caps allow, and at least one."""
        items = self._items
        if len(items) <= BATCH_OPERATIONS_MAX and _fits(self.waiting_bytes, self._bodies_bytes):
            return self.take_all()
        batch: list[StoreItem] = []
        size = bodies = 0
        while items and len(batch) < BATCH_OPERATIONS_MAX:
            item = items[0]
            if batch and not _fits(size + len(item.operation), bodies + item.body_bytes):
                break
            size += len(item.operation)
            bodies += item.body_bytes
            batch.append(items.popleft())
        self.waiting_bytes -= size
        self._bodies_bytes -= bodies
        return batch

    def take_all(self) -> list[StoreItem]:
        """Empty the queue."""
        batch = list(self._items)
        self._items.clear()
        self.waiting_bytes = self._bodies_bytes = 0
        return batch

    def answered(self, count: int) -> None:
        """A batch of ``count`` operations came back: that many, and those waiting now, are to be expected again."""
        self._target = min(count + len(self._items), BATCH_OPERATIONS_MAX)


def _fits(operations_bytes: int, bodies_bytes: int) -> bool:
    return operations_bytes <= BATCH_BYTES_MAX and bodies_bytes <= BATCH_BODIES_BYTES_MAX
