"""Collects the store batches of all fronts into one, and holds answers back until what they promise is on the disk.

Theory of operation
    Each turn of the loop submits what arrived and then calls `run` once: one store of the host for all of it, and one
    answer per submission. If a flush is wanted, the operations it covers are answered after it. Meanwhile their shard
    takes no other operation, since a failed flush is undone; operations for it are held, and run together when the
    flush is over, which makes the next flush a group commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from volumed.bus.frames import StoreOperation, StoreOutcome, StoreResult
from volumed.errors import DiskError
from workers.host import Flush, ShardHost, StoreBatch, StoreDone
from workers.threads import JobThreads

__all__ = ["StoreScheduler"]


class _Ticket:
    """A submission some of whose operations are answered later than others."""

    __slots__ = ("_done", "_missing", "_results")

    def __init__(self, count: int, done: StoreDone) -> None:
        self._results: list[StoreResult] = [StoreResult(StoreOutcome.ERROR, 0)] * count
        self._missing = count
        self._done = done

    def set(self, index: int, result: StoreResult) -> None:
        self._results[index] = result
        self._missing -= 1
        if not self._missing:
            self._done(self._results)


class _Item(NamedTuple):
    """One operation of a ticket."""

    ticket: _Ticket
    place: int
    operation: StoreOperation


class StoreScheduler:
    """Used on the loop thread only."""

    def __init__(self, host: ShardHost, sync: JobThreads, post: Callable[[Callable[[], None]], None]) -> None:
        self._host = host
        self._sync = sync
        self._post = post
        self._submitted: list[tuple[Sequence[StoreOperation], StoreDone]] = []
        self._held: list[_Item] = []
        self._flushes = 0
        self._after_flush: list[Callable[[], None]] = []

    @property
    def idle(self) -> bool:
        """Nothing is waiting and no flush is under way."""
        return not (self._submitted or self._flushes)

    def submit(self, operations: Sequence[StoreOperation], done: StoreDone) -> None:
        """Apply with the next `run`; ``done`` gets the results."""
        self._submitted.append((operations, done))

    def after_flush(self, action: Callable[[], None]) -> None:
        """Call ``action`` after the next flush."""
        self._after_flush.append(action)

    def run(self) -> None:
        """Apply everything submitted."""
        submitted, self._submitted = self._submitted, []
        if not submitted:
            return
        if self._flushes:
            self._run_items(_items(submitted))
            return
        if len(submitted) == 1:
            operations = submitted[0][0]
        else:
            operations = [operation for part, _ in submitted for operation in part]
        batch = self._host.store(operations)
        if batch.flushes:
            self._settle(_items(submitted), batch)
            return
        at = 0
        for part, done in submitted:
            done(batch.results[at : at + len(part)])
            at += len(part)

    def _run_items(self, items: list[_Item]) -> None:
        """Apply what can be applied while flushes are under way; hold the rest, keeping its order."""
        ready: list[_Item] = []
        for item in items:
            waiting = self._host.is_flushing(item.operation.volume_id)
            (self._held if waiting else ready).append(item)
        if ready:
            self._settle(ready, self._host.store([item.operation for item in ready]))

    def _settle(self, items: list[_Item], batch: StoreBatch) -> None:
        """Answer what is final, start the flushes of the rest."""
        waiting: set[int] = set()
        for flush in batch.flushes:
            waiting.update(flush.positions)
            self._start_flush(flush, [(items[at], batch.results[at]) for at in flush.positions])
        for position, item in enumerate(items):
            if position not in waiting:
                item.ticket.set(item.place, batch.results[position])

    def _start_flush(self, flush: Flush, covered: list[tuple[_Item, StoreResult]]) -> None:
        self._flushes += 1

        def job() -> None:
            error: DiskError | None = None
            try:
                flush.run()
            except DiskError as caught:
                error = caught
            self._post(lambda: self._finish_flush(flush, covered, error))

        self._sync.submit(job)

    def _finish_flush(self, flush: Flush, covered: list[tuple[_Item, StoreResult]], error: DiskError | None) -> None:
        self._flushes -= 1
        failure = self._host.finish_flush(flush, error)
        for item, result in covered:
            undone = failure and StoreResult(StoreOutcome.ERROR, 0, failure)
            item.ticket.set(item.place, undone or result)
        # Actions first: under a steady load of flushes the held operations start the next one.
        actions, self._after_flush = self._after_flush, []
        for action in actions:
            action()
        held, self._held = self._held, []
        self._run_items(held)


def _items(submitted: Sequence[tuple[Sequence[StoreOperation], StoreDone]]) -> list[_Item]:
    items: list[_Item] = []
    for operations, done in submitted:
        ticket = _Ticket(len(operations), done)
        items.extend(_Item(ticket, index, operation) for index, operation in enumerate(operations))
    return items
