"""Collects the store batches of all fronts into one, and holds answers back until what they promise is on the disk.

Theory of operation
    Each turn of the loop submits what arrived and then calls `run` once: one store of the host for all of it, and one
    answer per submission. If a flush is wanted, the operations it covers are answered after it. Meanwhile their shard
    takes no other operation, since a failed flush is undone; operations for it are held, and run together when the
    flush is over, which makes the next flush a group commit. A large record that is being copied into its volume holds
    operations in the same way (`hold`, `release`).
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


class _Place(NamedTuple):
    """Where the result of one operation goes."""

    ticket: _Ticket
    position: int

    def set(self, result: StoreResult) -> None:
        self.ticket.set(self.position, result)


class _Item(NamedTuple):
    """One operation of a ticket."""

    place: _Place
    operation: StoreOperation


class StoreScheduler:
    """Used on the loop thread only."""

    def __init__(self, host: ShardHost, sync: JobThreads, post: Callable[[Callable[[], None]], None]) -> None:
        self._host = host
        self._sync = sync
        self._post = post
        self._submitted: list[tuple[Sequence[StoreOperation], StoreDone]] = []
        self._held: list[_Item] = []
        self._busy = 0
        """Flushes and copies under way."""
        self._after_flush: list[Callable[[], None]] = []

    @property
    def idle(self) -> bool:
        """Nothing is waiting and no flush or copy is under way."""
        return not (self._submitted or self._busy)

    def submit(self, operations: Sequence[StoreOperation], done: StoreDone) -> None:
        """Apply with the next `run`; ``done`` gets the results."""
        self._submitted.append((operations, done))

    def after_flush(self, action: Callable[[], None]) -> None:
        """Call ``action`` when the next flush or copy has ended."""
        self._after_flush.append(action)

    def hold(self) -> None:
        """From now on some shard is busy: the host says which (`ShardHost.is_flushing`)."""
        self._busy += 1

    def release(self, batch: StoreBatch, done: StoreDone) -> None:
        """It is not any more; ``batch`` is what the host has applied to it, and ``done`` gets the results."""
        self._busy -= 1
        ticket = _Ticket(len(batch.results), done)
        self._settle([_Place(ticket, index) for index in range(len(batch.results))], batch)
        self._resume()

    def run(self) -> None:
        """Apply everything submitted."""
        submitted, self._submitted = self._submitted, []
        if not submitted:
            return
        if self._busy:
            self._run_items(_items(submitted))
            return
        if len(submitted) == 1:
            operations = submitted[0][0]
        else:
            operations = [operation for part, _ in submitted for operation in part]
        batch = self._host.store(operations)
        if batch.flushes:
            self._settle([item.place for item in _items(submitted)], batch)
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
            batch = self._host.store([item.operation for item in ready])
            self._settle([item.place for item in ready], batch)

    def _settle(self, places: list[_Place], batch: StoreBatch) -> None:
        """Answer what is final, start the flushes of the rest."""
        waiting: set[int] = set()
        for flush in batch.flushes:
            waiting.update(flush.positions)
            self._start_flush(flush, [(places[at], batch.results[at]) for at in flush.positions])
        for position, place in enumerate(places):
            if position not in waiting:
                place.set(batch.results[position])

    def _start_flush(self, flush: Flush, covered: list[tuple[_Place, StoreResult]]) -> None:
        self._busy += 1

        def job() -> None:
            error: DiskError | None = None
            try:
                flush.run()
            except DiskError as caught:
                error = caught
            self._post(lambda: self._finish_flush(flush, covered, error))

        self._sync.submit(job)

    def _finish_flush(self, flush: Flush, covered: list[tuple[_Place, StoreResult]], error: DiskError | None) -> None:
        self._busy -= 1
        failure = self._host.finish_flush(flush, error)
        for place, result in covered:
            undone = failure and StoreResult(StoreOutcome.ERROR, 0, failure)
            place.set(undone or result)
        self._resume()

    def _resume(self) -> None:
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
        items.extend(_Item(_Place(ticket, index), operation) for index, operation in enumerate(operations))
    return items
