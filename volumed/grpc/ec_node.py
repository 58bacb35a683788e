"""What RPCs on erasure coded volumes share: one at a time for each volume, over all disks of the node.

Each worker changes its own disk only (``volumed.bus.ec_calls``); this process puts together what concerns several. Being
the only one that does, it keeps operations on one volume apart with locks of its own (docs/spec/erasure-coding.md 4.14).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from volumed.bus.calls import Request
from volumed.bus.ec_calls import EcJobProgress, FollowEcJob, StopEcJob
from volumed.errors import Code, DiskUnavailable, VolumedError
from volumed.grpc.node import GrpcNode
from volumed.grpc.streams import Call
from volumed.nodetable import DISK_STATES_THAT_SERVE, DiskState

__all__ = ["EcNode"]

_POLL_MIN_S = 0.005
_POLL_MAX_S = 0.25
_LOCK_POLL_S = 0.2


class _VolumeLock:
    """A lock, and how many want it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0


class EcNode:
    """Shared by all handler threads."""

    def __init__(self, node: GrpcNode) -> None:
        self.node = node
        self._locks: dict[int, _VolumeLock] = {}
        self._locks_lock = threading.Lock()

    @contextmanager
    def alone(self, volume_id: int, call: Call) -> Iterator[None]:
        """Keep other operations on the volume away meanwhile. Raises `VolumedError` when the call ends before its turn
        comes."""
        with self._locks_lock:
            volume = self._locks.setdefault(volume_id, _VolumeLock())
            volume.users += 1
        try:
            while not volume.lock.acquire(timeout=_LOCK_POLL_S):
                _require_lasting(call)
            try:
                yield
            finally:
                volume.lock.release()
        finally:
            with self._locks_lock:
                volume.users -= 1
                if not volume.users:
                    del self._locks[volume_id]

    def disks(self) -> list[int]:
        """Ids of the disks that serve. Raises `DiskUnavailable` when another one may do so soon: what it has of a volume
        would be overlooked. One that has failed is not waited for."""
        states = self.node.disk_states()
        for disk_id, state in enumerate(states):
            if state not in DISK_STATES_THAT_SERVE and state is not DiskState.FAILED:
                raise DiskUnavailable(f"disk {disk_id} is {state.name.lower()}", Code.UNAVAILABLE)
        return [disk_id for disk_id, state in enumerate(states) if state in DISK_STATES_THAT_SERVE]

    @property
    def is_complete(self) -> bool:
        """Whether all disks serve: nothing of a volume can be out of sight."""
        return all(state in DISK_STATES_THAT_SERVE for state in self.node.disk_states())

    def run_job(self, disk_id: int, start: Request, call: Call) -> EcJobProgress:
        """Have a worker do a job, to its end. Raises `VolumedError`; when nobody waits any more it is stopped."""
        job = self.node.worker(disk_id, start).job
        pause_s = _POLL_MIN_S
        try:
            while True:
                progress: EcJobProgress = self.node.worker(disk_id, FollowEcJob(job))
                if progress.done:
                    return progress
                call.wait(pause_s)
                _require_lasting(call)
                pause_s = min(2 * pause_s, _POLL_MAX_S)
        finally:
            if call.ended:
                self.node.worker(disk_id, StopEcJob(job))


def _require_lasting(call: Call) -> None:
    if call.ended:
        raise VolumedError("context canceled", Code.CANCELLED)
