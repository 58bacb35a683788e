"""Vacuum: check, compact, commit, clean up (docs/spec/grpc.md 3.2 to 3.5)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from volumed.bus.compaction_calls import (
    CheckCompaction,
    CleanupCompaction,
    CommitCompaction,
    FollowCompaction,
    StartCompaction,
    StopCompaction,
)
from volumed.codes import Code
from volumed.errors import NoFreeSpace, VolumedError, VolumeNotFound
from volumed.grpc.node import GrpcNode
from volumed.grpc.profile import Profile
from volumed.grpc.streams import Call
from volumed.wire import volume_server_pb2 as pb

__all__ = ["VacuumServicer"]

_REPORT_BYTES = 128 << 20
_COMMIT_TIMEOUT_S = 3600.0
"""It follows what was written during the compaction, and flushes; the caller has its own patience."""

_Progress = pb.VacuumVolumeCompactResponse


class VacuumServicer:
    """VacuumVolumeCheck, VacuumVolumeCompact, VacuumVolumeCommit, VacuumVolumeCleanup."""

    def __init__(self, node: GrpcNode, profile: Profile) -> None:
        self._node = node
        self._profile = profile

    def vacuum_volume_check(self, request: pb.VacuumVolumeCheckRequest) -> pb.VacuumVolumeCheckResponse:
        """How much a vacuum would free; also in maintenance mode."""
        volume_id = request.volume_id
        with self._errors("", VolumeNotFound.on_check(volume_id)):
            found = self._node.worker(self._disk_of(volume_id), CheckCompaction(volume_id))
        return pb.VacuumVolumeCheckResponse(garbage_ratio=found.ratio)

    def vacuum_volume_compact(self, request: pb.VacuumVolumeCompactRequest, call: Call) -> Iterator[_Progress]:
        """Copy what is alive, and tell how far that is. It stops when nobody waits for it any more."""
        self._node.refuse_in_maintenance()
        volume_id = request.volume_id
        with self._errors(f"compact volume {volume_id}: ", VolumeNotFound.on_compact(volume_id)):
            disk_id = self._disk_of(volume_id)
            start = StartCompaction(volume_id, max(0, request.preallocate))
            task = self._node.worker(disk_id, start).task
            reported = 0
            for processed in self._follow(disk_id, task, call) if task else ():
                if processed - reported > _REPORT_BYTES:
                    reported = processed
                    load = os.getloadavg()[0] / (os.cpu_count() or 1)
                    yield _Progress(processed_bytes=processed, load_avg_1m=load)

    def vacuum_volume_commit(self, request: pb.VacuumVolumeCommitRequest) -> pb.VacuumVolumeCommitResponse:
        """Put the compacted files in the place of the old."""
        self._node.refuse_in_maintenance()
        volume_id = request.volume_id
        with self._errors(f"commit compact volume {volume_id}: ", VolumeNotFound.on_commit(volume_id)):
            done = self._node.worker(self._disk_of(volume_id), CommitCompaction(volume_id), _COMMIT_TIMEOUT_S)
        return pb.VacuumVolumeCommitResponse(is_read_only=done.is_read_only, volume_size=done.volume_size)

    def vacuum_volume_cleanup(self, request: pb.VacuumVolumeCleanupRequest) -> pb.VacuumVolumeCleanupResponse:
        """Remove what a compaction wrote that is not committed."""
        self._node.refuse_in_maintenance()
        volume_id = request.volume_id
        with self._errors(f"cleanup volume {volume_id}: ", VolumeNotFound.on_cleanup(volume_id)):
            self._node.worker(self._disk_of(volume_id), CleanupCompaction(volume_id))
        return pb.VacuumVolumeCleanupResponse()

    def _follow(self, disk_id: int, task: int, call: Call) -> Iterator[int]:
        """Bytes processed, now and then, until it is done."""
        done = False
        try:
            while not done:
                progress = self._node.worker(disk_id, FollowCompaction(task))
                yield progress.processed_bytes
                done = progress.done or call.wait_for_work()
        finally:
            if call.ended:
                self._node.worker(disk_id, StopCompaction(task))

    def _disk_of(self, volume_id: int) -> int:
        disk_id = self._node.disk_of(volume_id)
        if disk_id is None:
            raise VolumeNotFound.of(volume_id)
        return disk_id

    @contextmanager
    def _errors(self, prefix: str, missing: VolumeNotFound) -> Iterator[None]:
        """Errors as the profile's release tells them."""
        profile = self._profile
        try:
            yield
        except VolumeNotFound:
            if profile.missing_volume_has_code:
                raise missing from None
            raise VolumedError(missing.text.removesuffix(": volume not found")) from None
        except VolumedError as error:
            known_code = error.code if profile.no_space_has_code or not isinstance(error, NoFreeSpace) else Code.UNKNOWN
            raise VolumedError(prefix + error.text.removeprefix(prefix), known_code) from None
