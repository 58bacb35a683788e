"""The seam between the worker's shell (loop, sockets, threads, batching) and what it hosts.

The shell moves frames and knows that operations belong to shards named by a number; what a shard is, only the host
knows. Volumes are one kind of host (``workers.volumes``).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from types import UnionType
from typing import Any, Protocol, TypeVar

from volumed.bus.events import SupervisorEvent, WorkerEvent
from volumed.bus.frames import ReadOperation, StoreOperation, StoreResult
from volumed.bus.router import Reply
from volumed.errors import DiskError

__all__ = ["Flush", "ShardHost", "Shell", "StoreBatch", "StoreDone", "Work", "nothing"]

T = TypeVar("T")

StoreDone = Callable[[Sequence[StoreResult]], None]
"""Takes the results of some operations, in their order."""


class Work(enum.Enum):
    """Kinds of background work, by how long one may keep its thread. Each has its own threads, so that none waits for
    a longer one."""

    TASK = "task"
    """Questions and single reads."""
    PIECE = "piece"
    """A megabyte of data."""
    COPY = "copy"
    """A whole object."""
    ELSEWHERE = "elsewhere"
    """Files of another disk, which may hang: the own ones must not wait for it."""
    REMOTE = "remote"
    """A question to an object store, which may hang."""
    MOVE = "move"
    """A whole volume to or from an object store."""
    VACUUM = "vacuum"
    """All that is alive in a volume."""
    ERASURE = "erasure"
    """A whole volume into shards, or shards of one into others or back."""


class Flush(Protocol):
    """Files of one shard that must reach the disk before some operations of a batch may be answered."""

    @property
    def positions(self) -> Sequence[int]:
        """Indexes of those operations in the batch."""

    def run(self) -> None:
        """Wait for the disk, on the sync thread. Raises `DiskError`."""


class StoreBatch(Protocol):
    """Outcome of a batch."""

    @property
    def results(self) -> Sequence[StoreResult]: ...

    @property
    def flushes(self) -> Sequence[Flush]: ...


class Shell(Protocol):
    """What a host may ask of the shell. All on the loop thread."""

    def store(self, operations: Sequence[StoreOperation], done: StoreDone) -> None:
        """Apply operations with the next batch."""

    def after_flush(self, action: Callable[[], None]) -> None:
        """Call ``action`` when the next flush has finished."""

    def hold(self) -> None:
        """From now on some shard is busy (`ShardHost.is_flushing` says which): hold operations on it back."""

    def release(self, batch: StoreBatch, done: StoreDone) -> None:
        """It is not any more. ``batch`` is what the host has applied to it meanwhile; ``done`` gets its results when
        they may be told. Then come the operations that were held back."""

    def shared(self, sender: bytes, offset: int, length: int) -> memoryview:
        """Bytes of a front's body pool. Raises `FrameError`."""

    def in_background(
        self,
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[Exception], None],
        kind: Work = Work.TASK,
    ) -> None:
        """Run ``work`` on a thread of its kind, then ``done`` with its result, or ``failed``, on the loop thread: so
        whatever takes long prepares aside, and only the loop thread changes a shard."""

    def post(self, action: Callable[[], None]) -> None:
        """Call ``action`` on the loop thread, after what is ready now (any thread)."""

    def publish(self, event: WorkerEvent) -> None:
        """Tell the supervisor."""


class ShardHost(Protocol):
    """The shards of one disk. Everything except `read` is called on the loop thread."""

    requests: UnionType
    """The calls that `call` takes."""

    def store(self, operations: Sequence[StoreOperation]) -> StoreBatch:
        """Apply a batch. An exception means that memory and disk may differ: the process ends."""

    def is_flushing(self, shard: int) -> bool:
        """Whether operations on the shard must wait."""

    def finish_flush(self, flush: Any, error: DiskError | None) -> DiskError | None:
        """End a flush; the error to answer its operations with, None = their results stand."""

    def is_remote(self, shard: int) -> bool:
        """Whether reading the shard may wait for another machine."""

    def read_now(self, operation: ReadOperation) -> bytes | bytearray | None:
        """The payload if it is to be had without waiting for the disk, else None."""

    def read(self, operation: ReadOperation) -> bytes:
        """The payload. Any thread; may wait for the disk. Raises `VolumedError`."""

    def call(self, request: Any, reply: Reply) -> None:
        """Serve a call, now or later. Raises `VolumedError`."""

    def forget(self, sender: bytes) -> None:
        """A front is gone."""

    def take_event(self, event: SupervisorEvent) -> None:
        """Something the supervisor told."""

    def introduce(self) -> None:
        """Tell the supervisor everything, then that the disk is ready."""

    def tick(self) -> None:
        """Once a second."""

    def stop(self) -> None:
        """The process is going to end: stop whatever would take long."""

    def close(self) -> None:
        """Make everything durable and let go of the disk."""


def nothing(*_: object) -> None:
    """What to do at an end that does not matter."""
