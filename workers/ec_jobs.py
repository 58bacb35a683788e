"""Operations on erasure coded volumes that take long: to start, to follow and to stop (``volumed.bus.ec_calls``).

Theory of operation
    The work is done on a thread of its own, its arithmetic in a process of its own where clients would feel it. The
    loop thread only starts it, and takes the result over. A volume has one operation at a time. Who does not ask any
    more has given up: the operation stops, and leaves nothing.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from volumed.bus.ec_calls import EcJobProgress, EcJobStarted, FollowEcJob, StopEcJob
from volumed.bus.router import Reply
from volumed.erasure.coding import Coder
from volumed.erasure.columns import Progress
from volumed.errors import NodeError, VolumedError
from volumed.formats.report import TaskReport
from volumed.storage.fileio import FileIO, file_error
from workers.coding.process import CodingProcess
from workers.ec_removal import require_idle
from workers.host import Shell, Work, nothing

__all__ = ["EcJob", "EcJobs"]

_log = logging.getLogger(__name__)
T = TypeVar("T")
Coding = Callable[[str, Progress, FileIO], AbstractContextManager[Coder]]
"""Makes a `Coder` for one operation: see `CodingProcess`."""

_ASKED_S = 30.0
"""A job that nobody has asked about for so long is nobody's any more."""


@dataclass(slots=True)
class EcJob:
    """An operation that was started and whose end was not told yet."""

    volume_id: int
    what: str
    """For error texts: "encode"."""
    asked_at: float
    ended: Callable[[], None]
    """Lets go of what the job needs."""
    began_at_s: float = field(default_factory=time.time)
    progress: Progress = field(default_factory=Progress)
    done: bool = False
    error: VolumedError | None = None
    stops: list[Reply] = field(default_factory=list)
    """Who has told it to stop, and waits until it has."""
    shard_ids: list[int] = field(default_factory=list)
    damaged_elsewhere: list[int] = field(default_factory=list)


class EcJobs:
    """The jobs of one disk. Used on the loop thread."""

    def __init__(
        self,
        shell: Shell,
        files: FileIO,
        working: set[int],
        coding: Coding = CodingProcess,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``working`` are the ids of volumes with an operation under way, shared with other parts."""
        self._shell = shell
        self._files = files
        self._coding = coding
        self._working = working
        self._clock = clock
        self._numbers = itertools.count(1)
        self._jobs: dict[int, EcJob] = {}
        self._running: list[EcJob] = []
        self._stopping = False
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {
            FollowEcJob: self._follow,
            StopEcJob: self._stop,
        }

    def start(self, volume_id: int, what: str, reply: Reply, ended: Callable[[], None] = nothing) -> EcJob:
        """Begin a job, which must then `run` or `end`; ``ended`` is called with its end, whatever that is. Raises
        `VolumeBusy`."""
        require_idle(self._working, volume_id)
        if self._stopping:
            raise NodeError("the server is stopping")
        job = EcJob(volume_id, what, self._clock(), ended)
        number = next(self._numbers)
        self._jobs[number] = job
        self._running.append(job)
        self._working.add(volume_id)
        reply.result(EcJobStarted(number))
        return job

    def run(self, job: EcJob, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Do a part of it in the background; then ``done``, or the job ends with what was raised."""

        def guarded(result: T) -> None:
            try:
                done(result)
            except Exception as error:
                self.end(job, error)

        self._shell.in_background(work, guarded, partial(self.end, job), Work.ERASURE)

    def compute(self, job: EcJob, work: Callable[[Coder], T], done: Callable[[T], None]) -> None:
        """`run` with a process for the arithmetic."""

        def with_process() -> T:
            with self._coding(f"volumed: {job.what} volume {job.volume_id}", job.progress, self._files) as coder:
                return work(coder)

        self.run(job, with_process, done)

    def end(self, job: EcJob, error: Exception | None = None) -> None:
        """The job is over; its volume is free."""
        job.done = True
        job.asked_at = self._clock()
        self._running.remove(job)
        self._working.discard(job.volume_id)
        job.ended()
        for reply in job.stops:
            reply.result()
        if error is not None:
            job.error = _as_domain_error(f"{job.what} volume {job.volume_id}", error)

    def tasks(self) -> list[TaskReport]:
        """What is under way."""
        return [
            TaskReport(job.what, job.volume_id, job.began_at_s, job.progress.done_bytes, job.progress.total_bytes)
            for job in self._running
        ]

    def tick(self) -> None:
        """Stop what nobody asks about."""
        oldest = self._clock() - _ASKED_S
        for number in [number for number, job in self._jobs.items() if job.asked_at < oldest]:
            job = self._jobs.pop(number)
            if not job.done:
                _log.warning("%s volume %d: nobody asks about it any more, so it stops", job.what, job.volume_id)
            job.progress.stop()

    def stop_all(self) -> None:
        """The worker is stopping."""
        self._stopping = True
        for job in self._running:
            job.progress.stop()

    def _follow(self, request: FollowEcJob, reply: Reply) -> None:
        job = self._jobs.get(request.job)
        if job is None:
            raise NodeError(f"there is no job {request.job}")
        job.asked_at = self._clock()
        if job.done:
            del self._jobs[request.job]
        if job.error is not None:
            raise job.error
        progress = job.progress
        reply.result(
            EcJobProgress(progress.done_bytes, progress.total_bytes, job.done, job.shard_ids, job.damaged_elsewhere)
        )

    def _stop(self, request: StopEcJob, reply: Reply) -> None:
        job = self._jobs.pop(request.job, None)
        if job is None or job.done:
            reply.result()
            return
        job.stops.append(reply)
        job.progress.stop()


def _as_domain_error(doing: str, error: Exception) -> VolumedError:
    if isinstance(error, VolumedError):
        return error
    if isinstance(error, OSError):
        return file_error(doing, error)
    _log.error("%s failed unexpectedly", doing, exc_info=error)
    return NodeError(f"{doing}: {error}")
