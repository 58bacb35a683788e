"""`workers.stores`: what is applied together, and what waits for which flush. Threads and loop are scripted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from volumed.bus.frames import FLAG_FSYNC, STORE_PUT, StoreOperation, StoreOutcome, StoreResult
from volumed.errors import DiskError
from workers.stores import StoreScheduler


@dataclass
class FakeFlush:
    shard: int
    positions: list[int]
    error: DiskError | None = None

    def run(self) -> None:
        if self.error is not None:
            raise self.error


@dataclass
class FakeBatch:
    results: list[StoreResult]
    flushes: list[FakeFlush] = field(default_factory=list)


class FakeHost:
    """Stores everything; an operation with FLAG_FSYNC makes its shard flush."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []
        self.flushing: set[int] = set()
        self.sync_error: DiskError | None = None

    def store(self, operations: Sequence[StoreOperation]) -> FakeBatch:
        assert not self.flushing & {operation.volume_id for operation in operations}
        self.batches.append([(operation.volume_id, operation.key) for operation in operations])
        batch = FakeBatch([StoreResult(StoreOutcome.STORED, operation.key) for operation in operations])
        for shard in sorted({item.volume_id for item in operations if item.flags & FLAG_FSYNC}):
            self.flushing.add(shard)
            at = [place for place, operation in enumerate(operations) if operation.volume_id == shard]
            batch.flushes.append(FakeFlush(shard, at, self.sync_error))
        return batch

    def is_flushing(self, shard: int) -> bool:
        return shard in self.flushing

    def finish_flush(self, flush: FakeFlush, error: DiskError | None) -> DiskError | None:
        self.flushing.remove(flush.shard)
        return error


class Rig:
    """The scheduler, with the sync thread's jobs and the posted functions run by hand."""

    def __init__(self) -> None:
        self.host = FakeHost()
        self.jobs: list[Callable[[], None]] = []
        self.scheduler = StoreScheduler(self.host, self, lambda action: action())  # type: ignore[arg-type]
        self.answers: dict[str, list[int | str]] = {}

    def submit(self, job_or_name: Any, *operations: StoreOperation) -> None:
        """As the sync threads: keep a job. As the test: submit operations under a name."""
        if callable(job_or_name):
            self.jobs.append(job_or_name)
            return

        def done(results: Sequence[StoreResult]) -> None:
            self.answers[job_or_name] = [str(item.error) if item.error else item.size for item in results]

        self.scheduler.submit(operations, done)

    def sync(self) -> None:
        """One flush reaches the disk."""
        self.jobs.pop(0)()


def put(shard: int, key: int, *, fsync: bool = False) -> StoreOperation:
    return StoreOperation(STORE_PUT, FLAG_FSYNC if fsync else 0, shard, 0, 0, key, 0, 0, b"", 0)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_all_submissions_are_one_batch_and_answered_apart(rig: Rig) -> None:
    rig.submit("a", put(1, 11), put(2, 12))
    rig.submit("b", put(1, 13))
    rig.scheduler.run()
    assert rig.host.batches == [[(1, 11), (2, 12), (1, 13)]]
    assert rig.answers == {"a": [11, 12], "b": [13]}
    assert rig.scheduler.idle


def test_what_a_flush_covers_is_answered_after_it(rig: Rig) -> None:
    rig.submit("a", put(1, 11, fsync=True))
    rig.submit("b", put(2, 12))
    rig.scheduler.run()
    assert rig.answers == {"b": [12]}
    assert not rig.scheduler.idle
    rig.sync()
    assert rig.answers["a"] == [11]
    assert rig.scheduler.idle


def test_operations_on_a_flushing_shard_are_held_and_then_go_together(rig: Rig) -> None:
    rig.submit("a", put(1, 11, fsync=True))
    rig.scheduler.run()
    rig.submit("b", put(1, 12, fsync=True), put(2, 13))
    rig.scheduler.run()
    rig.submit("c", put(1, 14, fsync=True))
    rig.scheduler.run()
    assert rig.host.batches == [[(1, 11)], [(2, 13)]]
    rig.sync()
    assert rig.host.batches[2:] == [[(1, 12), (1, 14)]]
    assert rig.answers == {"a": [11]}
    rig.sync()
    assert rig.answers == {"a": [11], "b": [12, 13], "c": [14]}


def test_a_failed_flush_fails_all_it_covers_and_nothing_else(rig: Rig) -> None:
    rig.host.sync_error = DiskError("sync failed")
    rig.submit("a", put(1, 11), put(1, 12, fsync=True), put(2, 13))
    rig.scheduler.run()
    rig.sync()
    assert rig.answers == {"a": ["sync failed", "sync failed", 13]}


def test_an_action_runs_before_what_was_held(rig: Rig) -> None:
    seen: list[int] = []
    rig.submit("a", put(1, 11, fsync=True))
    rig.scheduler.run()
    rig.scheduler.after_flush(lambda: seen.append(len(rig.host.batches)))
    rig.submit("b", put(1, 12))
    rig.scheduler.run()
    rig.sync()
    assert seen == [1]
    assert len(rig.host.batches) == 2


def test_a_shard_that_is_held_waits_and_its_result_comes_first(rig: Rig) -> None:
    rig.scheduler.hold()
    rig.host.flushing.add(1)
    rig.submit("held", put(1, 12))
    rig.submit("other", put(2, 13))
    rig.scheduler.run()
    assert rig.answers == {"other": [13]}
    assert not rig.scheduler.idle

    rig.host.flushing.remove(1)
    batch = rig.host.store([put(1, 11)])
    seen: list[int] = []
    rig.scheduler.release(batch, lambda results: seen.extend(result.size for result in results))
    assert seen == [11]
    assert rig.host.batches[1:] == [[(1, 11)], [(1, 12)]]
    assert rig.answers["held"] == [12]
    assert rig.scheduler.idle


def test_a_held_shard_may_go_on_to_flush(rig: Rig) -> None:
    rig.scheduler.hold()
    rig.submit("held", put(1, 12))
    rig.host.flushing.add(1)
    rig.scheduler.run()
    rig.host.flushing.remove(1)
    seen: list[int] = []
    batch = rig.host.store([put(1, 11, fsync=True)])
    rig.scheduler.release(batch, lambda results: seen.extend(result.size for result in results))
    assert seen == []
    assert "held" not in rig.answers
    rig.sync()
    assert seen == [11]
    assert rig.answers["held"] == [12]


def test_a_hold_may_end_without_anything(rig: Rig) -> None:
    rig.scheduler.hold()
    rig.scheduler.release(FakeBatch([]), lambda _: None)
    assert rig.scheduler.idle
