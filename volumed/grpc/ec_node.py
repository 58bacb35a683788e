"""What RPCs on erasure coded volumes share: one at a time for each volume, over all disks of the node.

Each worker changes its own disk only (``volumed.bus.ec_calls``); this process puts together what concerns several.
Being the only one that does, it keeps operations on one volume apart with locks of its own
(docs/spec/erasure-coding.md 4.14).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from volumed.bus.ec_calls import (
    EcDirectories,
    EcFilesView,
    EcJobProgress,
    FoldJournal,
    FollowEcJob,
    ListEcFiles,
    MergeJournal,
    StopEcJob,
)
from volumed.erasure.names import INDEX, INFO
from volumed.errors import VolumedError
from volumed.grpc.ec_job_log import EcJobLog, EcJobStart
from volumed.grpc.node import GrpcNode
from volumed.grpc.streams import Call
from volumed.nodetable import DISK_STATES_THAT_SERVE
from volumed.storage.ec_files import paths_elsewhere
from volumed.storage.ec_identity import are_of_one_run
from volumed.storage.ec_journal import read_journals
from volumed.storage.fileio import FileIO
from volumed.storage.site import VolumePaths

__all__ = ["EcHolder", "EcNode", "latest_run", "of_run"]

_LOCK_POLL_S = 0.2
_STOP_TIMEOUT_S = 60.0
_LIST_TIMEOUT_S = 120.0
_FOLD_TIMEOUT_S = 600.0
_FILES = FileIO()


class _VolumeLock:
    """A lock, and how many want it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0


class EcHolder(NamedTuple):
    """A disk, and what it has of a volume."""

    disk_id: int
    directories: EcDirectories
    files: EcFilesView

    @property
    def has_index(self) -> bool:
        """Whether it has any, empty or not."""
        return INDEX in self.files.data or INDEX in self.files.index

    @property
    def has_filled_index(self) -> bool:
        """Whether it has one with rows."""
        return bool(self.files.data.get(INDEX) or self.files.index.get(INDEX))

    @property
    def has_info(self) -> bool:
        """Whether it has a `.vif`."""
        return bool(self.files.data.get(INFO) or self.files.index.get(INFO))

    def has_shard(self, shard_id: int) -> bool:
        """Whether it has the file, empty or not."""
        return shard_id in self.files.shards or shard_id in self.files.empty_shards

    @property
    def shard_count(self) -> int:
        """Files of shards, empty or not."""
        return len(self.files.shards) + len(self.files.empty_shards)

    @property
    def paths(self) -> VolumePaths:
        """Of its files."""
        return paths_elsewhere(self.directories, self.files.collection, self.files.volume_id)

    def journal(self) -> frozenset[int]:
        """The deletions in its journal, read from the file. Raises `OSError`."""
        return frozenset(read_journals(_FILES, self.paths))


def latest_run(holders: Collection[EcHolder]) -> int:
    """Identity of the latest encode run; 0: unknown, or there are none."""
    return max((holder.files.encode_ts_ns for holder in holders), default=0)


def of_run(holders: Collection[EcHolder], encode_ts_ns: int) -> list[EcHolder]:
    """Without those who are known to be of another encode run, as a disk is that was away while a volume was encoded
    anew: neither its shards nor its deletions mean anything here (3.7)."""
    return [holder for holder in holders if holder.files.encode_ts_ns in (encode_ts_ns, 0)]


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
                call.require()
            try:
                yield
            finally:
                volume.lock.release()
        finally:
            with self._locks_lock:
                volume.users -= 1
                if not volume.users:
                    del self._locks[volume_id]

    @property
    def is_complete(self) -> bool:
        """Whether all disks serve: nothing of a volume can be out of sight."""
        return all(state in DISK_STATES_THAT_SERVE for state in self.node.disk_states())

    def holders(self, volume_id: int) -> list[EcHolder]:
        """What the disks have of volumes with the id, in their order. Raises `VolumedError`."""
        return self._holders(self.node.certain_disks(), volume_id)

    def serving_holders(self, volume_id: int) -> list[EcHolder]:
        """The same of the disks that serve now, for who needs no others. Raises `VolumedError`."""
        return self._holders(self.node.serving_disks(), volume_id)

    def _holders(self, disk_ids: Sequence[int], volume_id: int) -> list[EcHolder]:
        found = []
        for disk_id in disk_ids:
            listing = self.node.worker(disk_id, ListEcFiles(volume_id), _LIST_TIMEOUT_S)
            found += [EcHolder(disk_id, listing.directories, files) for files in listing.volumes]
        return found

    def fold_journals(self, holders: Sequence[EcHolder], volume_id: int, collection: str) -> None:
        """Write what the journals of all disks delete into the index of each that is of the same encode run, and empty
        them (3.3). Raises `VolumedError`, `OSError`."""
        if not self.is_complete:
            # A disk that has failed may come back with an index that does not know it: so the journals must go on.
            return
        journals = {holder.disk_id: holder.journal() for holder in holders}
        if not any(journals.values()):
            return
        indexed = [holder for holder in holders if holder.has_index]
        # Every journal is complete before the first is folded: whatever comes between, no deletion is lost from view.
        for holder in indexed:
            missing = self._missing(holder, holders, journals)
            if missing:
                wanted = MergeJournal(volume_id, collection, sorted(missing))
                self.node.worker(holder.disk_id, wanted, _FOLD_TIMEOUT_S)
        for holder in indexed:
            self.node.worker(holder.disk_id, FoldJournal(volume_id, collection), _FOLD_TIMEOUT_S)

    def _missing(
        self, holder: EcHolder, holders: Sequence[EcHolder], journals: Mapping[int, frozenset[int]]
    ) -> set[int]:
        """What a disk does not know to be deleted. In another encode run it may be another needle that had the id."""
        missing: set[int] = set()
        for other in holders:
            news = journals[other.disk_id] - journals[holder.disk_id] - missing
            width = self.node.config.offset_width
            if news and are_of_one_run(_FILES, width, holder.paths, other.paths) is not False:
                missing |= news
        return missing

    def run_job(self, disk_id: int, start: EcJobStart, call: Call) -> EcJobProgress:
        """Have a worker do a job, to its end. Raises `VolumedError`; when nobody waits any more it is stopped."""
        log = EcJobLog(self.node.config.disks[disk_id].directory, start)
        try:
            return self._follow(disk_id, self.node.worker(disk_id, start).job, log, call)
        except VolumedError as error:
            log.failed(error)
            raise

    def _follow(self, disk_id: int, job: int, log: EcJobLog, call: Call) -> EcJobProgress:
        try:
            while True:
                progress: EcJobProgress = self.node.worker(disk_id, FollowEcJob(job))
                log.progressed(progress)
                if progress.done:
                    return progress
                call.wait_for_work()
                call.require()
        except VolumedError:
            # Who comes next finds the volume free. A worker that does not answer ends it when nobody asks any more.
            with suppress(VolumedError):
                self.node.worker(disk_id, StopEcJob(job), _STOP_TIMEOUT_S)
            raise
