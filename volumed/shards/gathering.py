"""Pieces of shards for one read, all at once: from the disks of this node, else from other servers.

A disk that does not answer in time counts as lost for this read, and so does one on which an earlier read still hangs:
the piece is recovered from other shards. No disk waits for another one, and nobody for the supervisor's judgement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from volumed.erasure.layout import Interval
from volumed.erasure.read import Answer
from volumed.errors import RetryError, VolumedError
from volumed.formats.idx import Row
from volumed.shards.threads import BoundedThreads
from volumed.shards.unreadable import UnreadableShards
from volumed.shards.view import NodeEcVolume
from volumed.storage.mounted_shards import MountedShards, NotCached

__all__ = ["HASTY", "PATIENT", "Disks", "Elsewhere", "Gathering", "NoAnswer", "NotRecovered", "Patience", "outcome"]

_THREADS_PER_DISK = 8
_WAITING_PER_DISK_MAX = 256
_AT_HAND_BYTES_MAX = 64 << 10
"""Longest piece that is first looked for in the page cache."""
_T = TypeVar("_T")


class Patience(NamedTuple):
    """How long to wait before something counts as lost, in seconds."""

    disk_s: float
    peer_s: float

    def within(self, limit_s: float) -> Patience:
        """The same for somebody who waits no longer than that for a disk."""
        return self if self.disk_s <= limit_s else self._replace(disk_s=max(0.0, limit_s))


HASTY = Patience(2.0, 3.0)
PATIENT = Patience(30.0, 10.0)
"""When the read cannot do without it."""


class NoAnswer(Exception):
    """It failed, or took too long; ``late`` tells which."""

    def __init__(self, *, late: bool) -> None:
        super().__init__()
        self.late = late


class NotRecovered(Exception):
    """Something would have to be recovered."""


class Elsewhere(Protocol):
    """Shards of other servers."""

    def start(
        self, volume: NodeEcVolume, key: int, wanted: Interval, patience: Patience, *, recovers: bool = False
    ) -> Future[bytes | None] | None:
        """Read a piece on a thread; None: nobody is known to have it. ``recovers``: to recover another shard. The
        future may raise `NeedleDeleted`, `NoAnswer`."""
        ...

    def is_lost(self, volume_id: int, shard: int) -> bool:
        """Whether it is known, from a master that was asked lately, that no other server has a shard; never waits."""
        ...

    def renew(self, volume_id: int) -> None:
        """A read could not do with what is known of a volume: let the next one ask again. May wait for a moment."""
        ...

    def lookup_failure(self, volume_id: int) -> str:
        """Why it is not known who has the shards of a volume; empty: it is."""
        ...


class Disks:
    """Threads that read shards and indexes, some for each disk."""

    def __init__(self, count: int, unreadable: UnreadableShards) -> None:
        self.unreadable = unreadable
        self._threads = [
            BoundedThreads(f"shards-{disk}", _THREADS_PER_DISK, _WAITING_PER_DISK_MAX) for disk in range(count)
        ]

    def start(self, disk: MountedShards, work: Callable[[], _T], patience: Patience) -> Future[_T] | None:
        """Do ``work`` on a thread of the disk; None: the disk hangs, or has more to do than it can."""
        threads = self._threads[disk.disk_id]
        return None if threads.is_hung(patience.disk_s) else threads.submit(work)


class Gathering:
    """Answers what one read of one needle asks for (`volumed.erasure.read`)."""

    def __init__(
        self,
        disks: Disks,
        elsewhere: Elsewhere,
        volume: NodeEcVolume,
        key: int,
        patience: Patience,
        *,
        may_recover: bool,
    ) -> None:
        self._disks = disks
        self._elsewhere = elsewhere
        self.volume = volume
        self.key = key
        self.patience = patience
        self.may_recover = may_recover
        self.late = False
        """Something might have answered with more patience."""
        self.lacking = False
        """Something was not read."""

    def find_row(self, width: int) -> Row | None:
        """The needle's row in the first index that can be read; every disk has its own copy. Raises `RetryError`."""
        key = self.key
        for disk in self.volume.disks:
            try:
                return disk.find_row_now(key, width)
            except NotCached:
                continue
        unreadable = self._disks.unreadable
        for disk in unreadable.in_order(self.volume.disks):
            started = self._disks.start(disk, partial(unreadable.find_row, disk, key, width), self.patience)
            try:
                return outcome(started, self.patience.disk_s)
            except NoAnswer as failure:
                self.late = self.late or failure.late
        raise RetryError(f"ec volume {self.volume.volume_id}: no disk reads its index")

    def __call__(self, wanted: Sequence[Interval], *, recovers: bool = False) -> list[Answer]:
        """What came of each piece, None for what could not be read. Raises `NeedleDeleted`: another server says so."""
        start_there = partial(self._elsewhere.start, self.volume, self.key, patience=self.patience, recovers=recovers)
        answers = [self._at_hand(piece) for piece in wanted]
        missing = [index for index, answer in enumerate(answers) if answer is None]
        here = {index: self._start_here(wanted[index]) for index in missing}
        there = {index: start_there(wanted=wanted[index]) for index in missing if here[index] is None}
        until = time.monotonic() + self.patience.disk_s
        for index, started in here.items():
            if started is None:
                continue
            answers[index] = self._outcome(started, until, wanted[index])
            if answers[index] is None:
                there[index] = start_there(wanted=wanted[index])
        until = time.monotonic() + self.patience.peer_s
        for index, asked in there.items():
            if asked is not None:
                answers[index] = self._outcome(asked, until, wanted[index])
        self.lacking = self.lacking or any(answer is None for answer in answers)
        return answers

    def is_lost(self, piece: Interval) -> bool:
        """Whether it is known that nobody has it; never waits."""
        volume = self.volume
        return piece.shard not in volume.here and self._elsewhere.is_lost(volume.volume_id, piece.shard)

    def _at_hand(self, piece: Interval) -> Answer:
        """A short piece that is in the page cache: handing it to a thread would take longer than reading it."""
        disk = self.volume.here.get(piece.shard)
        if disk is None or piece.length > _AT_HAND_BYTES_MAX or self._disks.unreadable.is_aside(disk, piece.shard):
            return None
        with suppress(NotCached):
            return disk.read_now(*piece)
        return None

    def _start_here(self, piece: Interval) -> Future[bytes] | None:
        disk, unreadable = self.volume.here.get(piece.shard), self._disks.unreadable
        if disk is None or (self.patience is not PATIENT and unreadable.is_aside(disk, piece.shard)):
            return None
        started = self._disks.start(disk, partial(unreadable.read, disk, piece), self.patience)
        self.late = self.late or started is None
        return started

    def _outcome(self, started: Future[Any] | None, until: float, piece: Interval) -> Answer:
        try:
            answer: Answer = outcome(started, until - time.monotonic())
        except NoAnswer as failure:
            self.late = self.late or failure.late
            return None
        if answer is not None and len(answer) != piece.length:
            if (disk := self.volume.here.get(piece.shard)) is not None:
                self._disks.unreadable.ends_early(disk, piece)
            return None
        return answer


def outcome(started: Future[_T] | None, timeout_s: float) -> _T:
    """The result, within the time. Raises `NoAnswer`, and `VolumedError` if the work
    did."""
    if started is None:
        raise NoAnswer(late=True)
    try:
        return started.result(max(0.0, timeout_s))
    except TimeoutError:
        started.cancel()
        raise NoAnswer(late=True) from None
    except VolumedError:
        raise
    except OSError:
        raise NoAnswer(late=False) from None
