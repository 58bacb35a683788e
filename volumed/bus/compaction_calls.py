"""Calls of a vacuum (docs/spec/grpc.md 3.2 to 3.5).

A compaction takes minutes, so the call that starts it is answered at once; the front then asks how far it is. Who does
not ask any more has given up: the compaction ends.

    CheckCompaction    StartCompaction → FollowCompaction … (→ StopCompaction)    CommitCompaction    CleanupCompaction
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from volumed.bus.calls import Request

__all__ = [
    "CheckCompaction",
    "CleanupCompaction",
    "CommitCompaction",
    "CompactionCommitted",
    "CompactionProgress",
    "CompactionRequest",
    "CompactionStarted",
    "FollowCompaction",
    "GarbageRatio",
    "StartCompaction",
    "StopCompaction",
]


class GarbageRatio(msgspec.Struct, frozen=True):
    """Share of what was ever put that is deleted, 0 to 1."""

    ratio: float


class CheckCompaction(Request, frozen=True):
    """How much a vacuum would free."""

    volume_id: int
    Result: ClassVar[type[msgspec.Struct]] = GarbageRatio


class CompactionStarted(msgspec.Struct, frozen=True):
    """``task`` is the number to ask by, 0 when another compaction of the volume is under way."""

    task: int


class StartCompaction(Request, frozen=True):
    """Copy the live needles of a volume into new files, beside everything else."""

    volume_id: int
    preallocate_bytes: int = 0
    Result: ClassVar[type[msgspec.Struct]] = CompactionStarted


class CompactionProgress(msgspec.Struct, frozen=True):
    """``processed_bytes`` is how far it has come in the old file."""

    processed_bytes: int
    done: bool


class FollowCompaction(Request, frozen=True):
    """How far a compaction is. Fails, once, with the error that ended it."""

    task: int
    Result: ClassVar[type[msgspec.Struct]] = CompactionProgress


class StopCompaction(Request, frozen=True):
    """Nobody wants the result: stop, and remove what was written."""

    task: int


class CompactionCommitted(msgspec.Struct, frozen=True):
    """The volume after a commit; whether it was read-only before, and the length of its `.dat` in bytes."""

    is_read_only: bool
    volume_size: int


class CommitCompaction(Request, frozen=True):
    """Put the new files of a finished compaction in the place of the old."""

    volume_id: int
    Result: ClassVar[type[msgspec.Struct]] = CompactionCommitted


class CleanupCompaction(Request, frozen=True):
    """Forget a finished compaction and remove its files."""

    volume_id: int


CompactionRequest = (
    CheckCompaction | StartCompaction | FollowCompaction | StopCompaction | CommitCompaction | CleanupCompaction
)
