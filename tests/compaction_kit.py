"""Vacuums of a disk in this process, one step at a time: background work and posted actions wait in one queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tests.storage_kit import Rig
from volumed.bus.compaction_calls import (
    CleanupCompaction,
    CommitCompaction,
    CompactionCommitted,
    FollowCompaction,
    StartCompaction,
    StopCompaction,
)
from volumed.bus.frames import StoreOperation, StoreResult
from volumed.errors import VolumedError
from volumed.metrics.recorder import Recorder
from workers.compactions import Compactions
from workers.host import StoreBatch, StoreDone, Work
from workers.stores import StoreScheduler


class Answer:
    """A `Reply` that keeps what it is told."""

    def __init__(self) -> None:
        self.value: Any = None
        self.failure: BaseException | None = None
        self.given = False

    def result(self, value: Any = None) -> None:
        assert not self.given
        self.value, self.given = value, True

    def error(self, error: BaseException) -> None:
        assert not self.given
        self.failure, self.given = error, True


class StepShell:
    """A worker's shell whose threads are a queue."""

    def __init__(self, rig: Rig) -> None:
        self.queue: deque[Callable[[], None]] = deque()
        self._stores = StoreScheduler(rig.disk, self, self.post)  # type: ignore[arg-type]
        self.after_flush = self._stores.after_flush
        self.hold = self._stores.hold
        self.released = 0

    def submit(self, job: Callable[[], None]) -> None:
        """The sync thread's."""
        self.queue.append(job)

    post = submit

    def release(self, batch: StoreBatch, done: StoreDone) -> None:
        self.released += 1
        self._stores.release(batch, done)

    def in_background(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
        kind: Work = Work.TASK,
    ) -> None:
        assert kind is not Work.TASK

        def job() -> None:
            try:
                result = work()
            except (VolumedError, OSError) as error:
                failed(error)
            else:
                done(result)

        self.queue.append(job)

    def store(self, *operations: StoreOperation) -> list[StoreResult]:
        """A list that holds the results as soon as they may be told."""
        told: list[StoreResult] = []

        def done(results: Sequence[StoreResult]) -> None:
            told.extend(results)

        self._stores.submit(operations, done)
        self._stores.run()
        return told

    def step(self) -> bool:
        """The next thing in the queue; False when there is none."""
        if not self.queue:
            return False
        self.queue.popleft()()
        self._stores.run()
        return True

    def run(self) -> None:
        while self.step():
            pass


class Vacuum:
    """The vacuums of a rig's disk."""

    def __init__(self, rig: Rig, bytes_per_s: int = 0, recorder: Recorder | None = None) -> None:
        self.now = 0.0
        self.shell = StepShell(rig)
        self.compactions = Compactions(rig.disk, self.shell, bytes_per_s, recorder, lambda: self.now)

    def call(self, request: Any) -> Answer:
        answer = Answer()
        try:
            self.compactions.handlers[type(request)](request, answer)
        except VolumedError as error:
            answer.error(error)
        return answer

    def do(self, request: Any) -> Any:
        """The result, all steps taken; raises the error."""
        answer = self.call(request)
        self.shell.run()
        assert answer.given
        if answer.failure is not None:
            raise answer.failure
        return answer.value

    def start(self, volume_id: int = 1, preallocate: int = 0) -> int:
        """Begin a compaction; its task."""
        answer = self.call(StartCompaction(volume_id, preallocate))
        if answer.failure is not None:
            raise answer.failure
        task: int = answer.value.task
        return task

    def compact(self, volume_id: int = 1, preallocate: int = 0) -> None:
        """Raises what ended it."""
        task = self.start(volume_id, preallocate)
        self.shell.run()
        assert self.do(FollowCompaction(task)).done

    def stop(self, task: int) -> None:
        self.do(StopCompaction(task))

    def begin_commit(self, volume_id: int = 1) -> Answer:
        return self.call(CommitCompaction(volume_id))

    def commit(self, volume_id: int = 1) -> CompactionCommitted:
        committed: CompactionCommitted = self.do(CommitCompaction(volume_id))
        return committed

    def cleanup(self, volume_id: int = 1) -> None:
        self.do(CleanupCompaction(volume_id))
