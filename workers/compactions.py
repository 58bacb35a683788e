"""The vacuums of one disk: which are under way, which wait for their commit (docs/spec/storage.md 7).

One volume at a time is copied, on a thread of its own; others wait for their turn. A volume that is being compacted or
committed is marked so, and is neither deleted nor expired meanwhile; who unmounts it stops the vacuum.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from volumed.bus.compaction_calls import (
    CheckCompaction,
    CleanupCompaction,
    CommitCompaction,
    CompactionCommitted,
    CompactionProgress,
    CompactionStarted,
    FollowCompaction,
    GarbageRatio,
    StartCompaction,
    StopCompaction,
)
from volumed.bus.router import Reply
from volumed.errors import (
    CompactionError,
    DiskError,
    NodeError,
    VolumeBusy,
    VolumedError,
    VolumeNotFound,
    VolumeUnavailable,
)
from volumed.formats.report import TaskReport
from volumed.metrics.families import VACUUM_COMMITS, VACUUM_COMPACTIONS, VACUUM_SECONDS, Family
from volumed.metrics.recorder import Recorder
from volumed.storage.compaction import Compacted, Compaction
from volumed.storage.compaction_plan import garbage_ratio
from volumed.storage.disk import Disk
from volumed.storage.map_records import VolumeFlag
from volumed.storage.volume import Volume
from workers.compaction_commit import CompactionCommit
from workers.host import Shell, Work, nothing

__all__ = ["Compactions"]

_log = logging.getLogger(__name__)

_ASKED_S = 30.0
"""A task that nobody has asked about for so long is nobody's any more."""


@dataclass(slots=True)
class _Task:
    """A compaction that was started and whose end was not told yet."""

    compaction: Compaction
    asked_at: float
    done: bool = False
    error: VolumedError | None = None


@dataclass(slots=True)
class _Work:
    """What is being done to a volume: its compaction or its commit."""

    compaction: Compaction
    began_at_s: float
    afterwards: list[Callable[[], None]] = field(default_factory=list)


class Compactions:
    """Used on the loop thread."""

    def __init__(
        self,
        disk: Disk,
        shell: Shell,
        bytes_per_s: int,
        recorder: Recorder | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._disk = disk
        self._shell = shell
        self._bytes_per_s = bytes_per_s
        self._recorder = recorder
        self._clock = clock
        self._numbers = itertools.count(1)
        self._tasks: dict[int, _Task] = {}
        self._working: dict[int, _Work] = {}
        """By volume id."""
        self._prepared: dict[int, tuple[Compaction, Compacted]] = {}
        """Finished compactions by volume id."""
        self._stopping = False
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {
            CheckCompaction: self._check,
            StartCompaction: self._start,
            FollowCompaction: self._follow,
            StopCompaction: self._stop,
            CommitCompaction: self._commit,
            CleanupCompaction: self._cleanup,
        }

    def is_working_on(self, volume_id: int) -> bool:
        """Whether the volume is being compacted or committed."""
        return volume_id in self._working

    def tasks(self) -> list[TaskReport]:
        """What is under way."""
        return [
            TaskReport("vacuum", key, work.began_at_s, work.compaction.processed_bytes, work.compaction.total_bytes)
            for key, work in self._working.items()
        ]

    def interrupt(self, volume_id: int, afterwards: Callable[[], None]) -> None:
        """Stop what `is_working_on` says, then call ``afterwards``. A commit that is past the point of no return comes
        to its end."""
        work = self._working[volume_id]
        work.compaction.stop()
        work.afterwards.append(afterwards)

    def forget_volume(self, volume_id: int) -> None:
        """The volume is going away: a finished compaction is of no use any more."""
        self._discard_prepared(volume_id)

    def tick(self) -> None:
        """Stop what nobody asks about."""
        oldest = self._clock() - _ASKED_S
        for number in [number for number, task in self._tasks.items() if task.asked_at < oldest]:
            self._give_up(number)

    def stop_all(self) -> None:
        """The worker is stopping."""
        self._stopping = True
        for work in self._working.values():
            work.compaction.stop()

    # Calls

    def _check(self, request: CheckCompaction, reply: Reply) -> None:
        volume = self._disk.volumes.get(request.volume_id)
        if volume is None:
            raise VolumeNotFound.on_check(request.volume_id)
        reply.result(GarbageRatio(garbage_ratio(volume.progress.counters, volume.dat_end)))

    def _start(self, request: StartCompaction, reply: Reply) -> None:
        volume_id = request.volume_id
        volume = self._disk.volumes.get(volume_id)
        if volume is None:
            raise VolumeNotFound.on_compact(volume_id)
        self._require_free(volume)
        if volume_id in self._working:
            reply.result(CompactionStarted(0))
            return
        if volume.sealed:
            raise CompactionError.sealed(volume.dat.path)
        self._discard_prepared(volume_id)
        compaction = Compaction(volume, request.preallocate_bytes, self._bytes_per_s)
        task = _Task(compaction, self._clock())
        number = next(self._numbers)
        self._tasks[number] = task
        ended = partial(self._compacted, task, self._clock())
        self._begin(compaction)
        self._shell.in_background(
            compaction.run, lambda new: ended(new, None), lambda error: ended(None, error), Work.VACUUM
        )
        reply.result(CompactionStarted(number))

    def _compacted(self, task: _Task, began_at: float, new: Compacted | None, error: Exception | None) -> None:
        volume_id = task.compaction.volume.volume_id
        task.done = True
        task.asked_at = self._clock()
        if new is not None and task.compaction.stopped:
            self._discard(task.compaction, new)
            new, error = None, CompactionError.interrupted()
        if new is not None:
            self._prepared[volume_id] = task.compaction, new
        else:
            task.error = error if isinstance(error, VolumedError) else NodeError(str(error))
            _log.warning("compact volume %d: %s", volume_id, task.error.text)
        self._count(VACUUM_COMPACTIONS, "compact", began_at, success=new is not None)
        self._end(volume_id)

    def _follow(self, request: FollowCompaction, reply: Reply) -> None:
        task = self._tasks.get(request.task)
        if task is None:
            raise NodeError(f"there is no compaction {request.task}")
        task.asked_at = self._clock()
        if task.done:
            del self._tasks[request.task]
        if task.error is not None:
            raise task.error
        reply.result(CompactionProgress(task.compaction.processed_bytes, task.done))

    def _stop(self, request: StopCompaction, reply: Reply) -> None:
        self._give_up(request.task)
        reply.result()

    def _commit(self, request: CommitCompaction, reply: Reply) -> None:
        volume_id = request.volume_id
        volume = self._disk.volumes.get(volume_id)
        if volume is None:
            raise VolumeNotFound.on_commit(volume_id)
        self._require_free(volume)
        was_read_only = volume.read_only
        if volume_id in self._working:
            reply.result(CompactionCommitted(was_read_only, volume.dat_end))
            return
        if volume_id not in self._prepared or volume.sealed:
            raise CompactionError.swap_aborted(volume_id)
        compaction, new = self._prepared.pop(volume_id)
        began_at = self._clock()

        def done(error: VolumedError | None) -> None:
            self._count(VACUUM_COMMITS, "commit", began_at, success=error is None)
            if error is None:
                reply.result(CompactionCommitted(was_read_only, volume.dat_end))
            else:
                _log.warning("commit compact volume %d: %s", volume_id, error.text)
                self._discard(compaction, new)
                reply.error(error)
            self._end(volume_id)

        self._begin(compaction)
        CompactionCommit(self._disk, self._shell, compaction, new, done).begin()

    def _cleanup(self, request: CleanupCompaction, reply: Reply) -> None:
        volume_id = request.volume_id
        volume = self._disk.volumes.get(volume_id)
        if volume is None:
            raise VolumeNotFound.on_cleanup(volume_id)
        if volume_id in self._working:
            # It removes its files itself when it fails, and nobody else may.
            reply.result()
            return
        if volume.site.files.exists(volume.paths.data(".cpc")):
            raise CompactionError.committing(volume_id)
        if not self._discard_prepared(volume_id):
            Compaction.remove_files(volume)
        reply.result()

    # Inside

    def _require_free(self, volume: Volume) -> None:
        """Raises `VolumedError` for a volume that cannot be compacted now."""
        if self._stopping:
            raise CompactionError.stopping(volume.volume_id)
        if VolumeFlag.UNAVAILABLE in volume.flags:
            raise VolumeUnavailable.of(volume.volume_id, volume.unavailable_reason)
        if volume.is_remote:
            raise DiskError(f"open {volume.paths.data('.dat')}: no such file or directory")
        if volume.held_while:
            raise VolumeBusy(f"volume {volume.volume_id} is {volume.held_while}")

    def _begin(self, compaction: Compaction) -> None:
        volume = compaction.volume
        volume.compacting = True
        self._working[volume.volume_id] = _Work(compaction, time.time())

    def _end(self, volume_id: int) -> None:
        work = self._working.pop(volume_id)
        work.compaction.volume.compacting = False
        for action in work.afterwards:
            action()

    def _give_up(self, number: int) -> None:
        task = self._tasks.pop(number, None)
        if task is None:
            return
        task.compaction.stop()
        volume_id = task.compaction.volume.volume_id
        prepared = self._prepared.get(volume_id)
        if prepared is not None and prepared[0] is task.compaction:
            self._discard_prepared(volume_id)

    def _discard_prepared(self, volume_id: int) -> bool:
        """Whether there was any."""
        prepared = self._prepared.pop(volume_id, None)
        if prepared is None:
            return False
        self._discard(*prepared)
        return True

    def _discard(self, compaction: Compaction, new: Compacted) -> None:
        """Names go at once, so that the next compaction can use them; freeing a large file takes time."""
        compaction.discard()
        self._shell.in_background(new.close, nothing, nothing, Work.COPY)

    def _count(self, family: Family, kind: str, began_at: float, *, success: bool) -> None:
        if self._recorder is not None:
            self._recorder.count(family, str(success).lower())
            self._recorder.histogram(VACUUM_SECONDS, kind).observe(self._clock() - began_at)
