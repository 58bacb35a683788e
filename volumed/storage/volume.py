"""One mounted volume: its state, its reads, and what batches of puts and deletes do to it.

Ownership: everything that changes the volume runs on the worker's loop thread. `read_needle` and `read_range` may
run on any thread; they work on an immutable `_Snapshot` and on committed map state, and need no lock. `flush` runs
on the sync thread while the loop thread leaves the volume alone.

The life of a batch (`apply`, then `committed` or `rolled_back`) and its order on disk are in `volumed.storage.append`.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from volumed.bus.copy_calls import VolumeFilesView
from volumed.bus.events import VolumeStatistics
from volumed.bus.frames import FLAG_META_ONLY, FLAG_READ_DELETED, StoreOutcome, StoreResult
from volumed.errors import (
    CorruptNeedle,
    DiskError,
    NeedleDeleted,
    NeedleNotFound,
    StaleGeneration,
    VolumeBusy,
    VolumeClosed,
    VolumedError,
    VolumeUnavailable,
)
from volumed.formats.idx import DELETED
from volumed.formats.needle import PAGED_HEAD_LENGTH, PAGED_SIZE_MIN, decode_paged_head, record_length
from volumed.formats.report import VolumeReport
from volumed.formats.superblock import SuperBlock
from volumed.formats.vif import VolumeInfo, encode_vif
from volumed.storage.append import BatchAppend, Operation, Restore
from volumed.storage.fileio import DistantFile, File, disk_error, error_text
from volumed.storage.map_records import NO_FLAGS, READ_ONLY, VolumeFlag, VolumeProgress, VolumeRecord
from volumed.storage.needle_map import MapTransaction
from volumed.storage.read_payload import pack_payload
from volumed.storage.site import DiskSite, VolumePaths

__all__ = ["QUARANTINE_STREAK", "RANGE_BYTES_MAX", "NewFiles", "Volume", "VolumeParts"]

QUARANTINE_STREAK = 3
"""Successive EIO after which a volume is withdrawn (docs/spec/storage.md 6.6)."""

RANGE_BYTES_MAX = 64 << 20
"""Longest raw read of one request."""

_ALIGNMENT = 8

_log = logging.getLogger(__name__)


class _Snapshot(NamedTuple):
    """What a reader needs, replaced as a whole. Holding it keeps the file open."""

    generation: int
    version: int
    dat: File
    map_id: int


class NewFiles(NamedTuple):
    """A volume's files after a vacuum, opened under their own names."""

    dat: File
    idx: File
    modified_at_s: int


@dataclass(slots=True)
class VolumeParts:
    """What loading found; the raw material of a `Volume`."""

    volume_id: int
    collection: str
    paths: VolumePaths
    superblock: SuperBlock
    info: VolumeInfo
    replica_placement: int
    dat: File
    idx: File
    dat_end: int
    """End of the last byte, rounded up to 8."""
    modified_at_s: int
    progress: VolumeProgress
    flags: VolumeFlag = NO_FLAGS
    unavailable_reason: str = ""


class Volume:
    """A volume that is mounted. ``flags`` and counters may be read from any thread."""

    def __init__(self, site: DiskSite, parts: VolumeParts, generation: int) -> None:
        self.site = site
        self.volume_id = parts.volume_id
        self.collection = parts.collection
        self.paths = parts.paths
        self.superblock = parts.superblock
        self.info = parts.info
        self.replica_placement = parts.replica_placement
        self.flags = parts.flags
        self.unavailable_reason = parts.unavailable_reason
        self.progress = parts.progress
        self.dat_end = parts.dat_end
        self.modified_at_s = parts.modified_at_s
        self.generation = generation
        self.io_error_streak = 0
        self.quarantined = False
        self.expired = False
        self.phantom = False
        self.compacting = False
        """A vacuum is at work: the volume must not go away."""
        self._has_remains = False
        """The files go on behind their ends, with what a write has left that could not be undone."""
        self.dat: File = parts.dat
        self.idx: File = parts.idx
        self._snapshot: _Snapshot | None = _Snapshot(generation, self.version, self.dat, self.map_id)
        self._durable = Restore(parts.dat_end, parts.progress.encode(), {})
        self._undo: Restore | None = None
        self._placing = False
        self.has_uncommitted = False
        """The files hold a batch that is neither `committed` nor `rolled_back`."""
        self.sealed = self.is_remote
        """`.dat` takes no more records, not even of deletions: it is in a remote tier, or on its way there."""
        self.held_while = ""
        """What is being done to it, as in "being encoded": it may neither be closed nor compacted meanwhile."""

    # State

    @property
    def version(self) -> int:
        """Record format, 1 to 3."""
        return self.superblock.version

    @property
    def map_id(self) -> int:
        """Under which the needle map has the volume's entries."""
        return self.progress.map_id

    @property
    def read_only(self) -> bool:
        """As reported: A, B or C."""
        return bool(self.flags & READ_ONLY)

    @property
    def closed(self) -> bool:
        return self._snapshot is None

    @property
    def busy(self) -> bool:
        """Something is under way that needs the volume."""
        return self.flushing or self.compacting or bool(self.held_while)

    def require_free(self) -> None:
        """Raises `VolumeBusy` while something else has the volume for long."""
        if self.compacting:
            raise VolumeBusy.compacting(self.volume_id)
        if self.held_while:
            raise VolumeBusy(f"volume {self.volume_id} is {self.held_while}")

    @property
    def flushing(self) -> bool:
        """A flush is under way, a record is being copied to the end, or a vacuum replaces the files: the volume takes
        no other operation, so that a failed one can be undone."""
        return self._undo is not None or self._placing

    @property
    def is_remote(self) -> bool:
        """The data are in a remote tier; reading them may take long."""
        return isinstance(self.dat, DistantFile)

    def record(self) -> VolumeRecord:
        """What the readers of the map are told."""
        return VolumeRecord(
            self.generation,
            self.version,
            self.replica_placement,
            self.superblock.ttl.to_u32(),
            self.flags,
            self.superblock.compaction_revision,
            self.dat.inode,
            self.dat.path,
            self.collection,
            self.map_id,
        )

    def statistics(self) -> VolumeStatistics:
        """What the master, ``/status`` and metrics are told (docs/spec/storage.md 9.4)."""
        counters = self.progress.counters
        remote = self.info.files[0] if self.info.files else None
        report = VolumeReport(
            id=self.volume_id,
            size=self.dat_end,
            collection=self.collection,
            file_count=counters.file_count,
            delete_count=counters.deleted_count,
            deleted_byte_count=counters.deleted_bytes,
            read_only=self.read_only,
            replica_placement=self.replica_placement,
            version=self.version,
            ttl=self.superblock.ttl.to_u32(),
            compact_revision=self.superblock.compaction_revision,
            modified_at_second=self.modified_at_s,
            remote_storage_name=remote.backend_name if remote else "",
            remote_storage_key=remote.key if remote else "",
            disk_type=self.site.config.disk_type,
            disk_id=self.site.config.disk_id,
            read_only_can_delete=VolumeFlag.NO_WRITE_CAN_DELETE in self.flags,
        )
        hidden = self.quarantined or self.expired or self.phantom or VolumeFlag.UNAVAILABLE in self.flags
        return VolumeStatistics(report, counters.content_bytes, reported=not hidden)

    def describe(self) -> VolumeFilesView:
        """Its files, and how much of them counts; more may be there that is not committed yet. Raises
        `VolumeUnavailable`."""
        self._readable()
        counters = self.progress.counters
        return VolumeFilesView(
            collection=self.collection,
            disk_type=self.site.config.disk_type,
            data_base=self.paths.data(""),
            index_base=self.paths.index(""),
            dat_inode=self.dat.inode,
            idx_inode=self.idx.inode,
            dat_end=self.dat_end,
            idx_bytes=self.progress.idx_bytes,
            version=self.version,
            offset_width=self.site.offset_width,
            replica_placement=self.replica_placement,
            ttl=self.superblock.ttl.to_u32(),
            compaction_revision=self.superblock.compaction_revision,
            file_count=counters.file_count,
            file_deleted_count=counters.deleted_count,
            modified_at_s=self.modified_at_s,
            vif=encode_vif(self.info),
        )

    # Batches

    def apply(self, operations: Sequence[Operation], txn: MapTransaction) -> list[StoreResult]:
        """Write a batch to the files and its map changes into ``txn``. Results in the order of the operations;
        errors of single operations, and of the disk, are results too. Raises `MapError`: abort ``txn``.

        The volume must not be `flushing`. Afterwards call `committed` or `rolled_back`. If an operation that succeeded
        wants an fsync, the volume is `flushing` from then on, until `end_flush`.
        """
        try:
            self._readable()
        except VolumedError as error:
            return [StoreResult(StoreOutcome.ERROR, 0, error)] * len(operations)
        now_ns = time.time_ns()
        append = BatchAppend(self, txn, now_ns)
        results = [append.add(operation) for operation in operations]
        if not append.empty:
            try:
                append.write()
            except OSError as error:
                self.note_io(error)
                self.rolled_back()
                return append.failed(operations, results, error)
            self.io_error_streak = 0
            if not self.sealed:
                self.modified_at_s = now_ns // 10**9
        # Also when nothing had to be written: the same data may have come before without an fsync.
        if append.wants_flush:
            self._undo = Restore(self._durable.dat_end, self._durable.progress, append.entries_before())
        return results

    def committed(self) -> None:
        """The batch's transaction was committed: its state is the one to come back to from now on."""
        self._durable = Restore(self.dat_end, self.progress.encode(), {})
        self.has_uncommitted = False

    def rolled_back(self) -> None:
        """The batch did not happen: cut both files back to what they were. If that fails too the volume becomes
        read-only, until `open_for_writing` succeeds in it: rows behind the end would be replayed one day."""
        self._undo = None
        if not self.has_uncommitted:
            return
        self.progress = VolumeProgress.decode(self._durable.progress, self.site.row_length)
        self.dat_end = self._durable.dat_end
        self.has_uncommitted = False
        self._truncate_or_stop()

    def begin_placing(self) -> None:
        """A `RecordCopy` is going to write behind the end, or a vacuum to replace the files."""
        self._placing = True

    def end_placing(self, *, has_remains: bool = False) -> None:
        """It has; ``has_remains`` as it says. Then apply its put at once, or, if there is none, nothing."""
        self._placing = False
        if has_remains:
            self._has_remains = True
            self.flags |= VolumeFlag.NO_WRITE_OR_DELETE

    def cut_placed(self) -> None:
        """The put of a placed record was refused after all."""
        if self.site.files.size(self.dat) > self.dat_end:
            self._truncate_or_stop()

    def flush(self) -> None:
        """Wait until `.dat` and `.idx` are on the disk (sync thread). Raises `DiskError`."""
        for file in (self.dat, self.idx):
            if not file.writable:
                continue
            try:
                self.site.files.sync(file)
            except OSError as error:
                self.note_io(error)
                raise disk_error(f"sync {file.path}", error) from error

    def end_flush(self) -> None:
        """The flush succeeded."""
        self._undo = None

    def undo_flush(self, txn: MapTransaction) -> None:
        """The flush failed: restore files, map entries and counters to before the batch (docs/spec/storage.md 6.6).

        Raises `OSError` or `MapError`; then call `make_unavailable`. The generation changes: readers may hold
        offsets of records that no longer exist. Call `committed` after the commit."""
        undo = self._undo
        if undo is None:
            return
        self.progress = VolumeProgress.decode(undo.progress, self.site.row_length)
        self.dat_end = undo.dat_end
        self._truncate_files()
        for key, entry in undo.entries.items():
            if entry is None:
                txn.remove(self.map_id, key)
            else:
                txn.put(self.map_id, key, *entry)
        txn.put_progress(self.volume_id, self.progress)
        self.new_generation(txn)
        self._undo = None

    def make_unavailable(self, reason: str) -> None:
        """Neither the batch nor its undo is known to be on disk: nobody may use the volume until a person looked.
        The marker file makes that survive restarts; if even that cannot be written, this process remembers it."""
        self._undo = None
        self.flags |= VolumeFlag.UNAVAILABLE | VolumeFlag.NO_WRITE_OR_DELETE
        self.unavailable_reason = reason
        try:
            self.site.files.replace_file(self.paths.data(".unavailable"), reason.encode())
        except OSError as error:
            _log.error("volume %d: cannot write its unavailability marker: %s", self.volume_id, error)

    def new_generation(self, txn: MapTransaction) -> None:
        """Invalidate every offset that a reader may hold, and publish the volume's current state."""
        self.generation = txn.next_generation()
        self._snapshot = _Snapshot(self.generation, self.version, self.dat, self.map_id)
        txn.put_record(self.volume_id, self.record())

    def take_files(
        self, files: NewFiles, superblock: SuperBlock, dat_end: int, progress: VolumeProgress, txn: MapTransaction
    ) -> None:
        """A vacuum has replaced the files; ``progress`` and the map's entries under its map id are those of the new
        ones. Call `committed` after the commit."""
        progress.dat_inode, progress.idx_inode = files.dat.inode, files.idx.inode
        progress.last_append_at_ns = max(progress.last_append_at_ns, self.progress.last_append_at_ns)
        progress.ttl_clock_s = self.progress.ttl_clock_s
        self.dat, self.idx = files.dat, files.idx
        self.superblock, self.dat_end, self.progress = superblock, dat_end, progress
        self.modified_at_s = files.modified_at_s
        self._has_remains = False
        txn.put_progress(self.volume_id, progress)
        self.new_generation(txn)

    def save_info(self, info: VolumeInfo) -> None:
        """Write a changed `.vif`; in a TTL volume with a new expiry time (docs/spec/storage.md 4.4).
        Raises `OSError`."""
        if self.superblock.ttl:
            info = replace(info, expire_at_sec=int(time.time()) + self.superblock.ttl.seconds)
        path = self.paths.data(".vif")
        self.site.files.replace_file(path, encode_vif(info), temporary=path + ".tmp.volumed")
        self.info = info

    def move_data(self, dat: File, modified_at_s: int, txn: MapTransaction) -> None:
        """Serve the data from another place from now on. Call `committed` after the commit. Raises `MapError`."""
        self.dat = dat
        self.dat_end = -(-self.site.files.size(dat) // _ALIGNMENT) * _ALIGNMENT
        self.modified_at_s = modified_at_s
        self.progress.dat_inode = dat.inode
        self.sealed = self.is_remote
        txn.put_progress(self.volume_id, self.progress)
        self.new_generation(txn)

    def open_for_writing(self) -> None:
        """Reopen files that were opened for reading only, and cut off what a failed write has left. Raises
        `OSError`; then the old ones stay in use."""
        files = self.site.files
        dat = self.dat if self.dat.writable or self.is_remote else files.open(self.dat.path)
        idx = self.idx if self.idx.writable else files.open(self.idx.path)
        self.dat, self.idx = dat, idx
        self._snapshot = _Snapshot(self.generation, self.version, dat, self.map_id)
        if self._has_remains:
            self._truncate_files()

    def close(self) -> None:
        """Refuse everything from now on. Files close when the last reader lets go of them."""
        self._snapshot = None

    def note_io(self, error: OSError | None) -> None:
        """Count successive EIO; anything else ends the streak."""
        self.io_error_streak = self.io_error_streak + 1 if error and error.errno == errno.EIO else 0

    def _truncate_or_stop(self) -> None:
        try:
            self._truncate_files()
        except OSError as error:
            _log.error("volume %d: cannot undo a failed write: %s", self.volume_id, error)
            self._has_remains = True
            self.flags |= VolumeFlag.NO_WRITE_OR_DELETE

    def _truncate_files(self) -> None:
        """Rows first: should this end half-way, no row means a record that is not there."""
        files = self.site.files
        files.truncate(self.idx, self.progress.idx_bytes)
        if not self.sealed:
            files.truncate(self.dat, self.dat_end)
        self._has_remains = False
        self.modified_at_s = int(time.time())

    # Reads

    def read_needle(self, key: int, flags: int) -> bytes:
        """Payload of `volumed.storage.read_payload` for a needle. Any thread; may wait for the disk.

        ``flags``: `FLAG_READ_DELETED`, `FLAG_META_ONLY` of `volumed.bus.frames`. Raises `NeedleNotFound`,
        `NeedleDeleted`, `VolumeUnavailable`, `VolumeClosed`, `CorruptNeedle` (file too short; S of a metadata read),
        `DiskError`. The caller verifies a whole record (S, layout, checksum) and compares the cookie.
        """
        snapshot = self._readable()
        try:
            offset, size = self._live_entry(snapshot, key, bool(flags & FLAG_READ_DELETED))
            record = self._read_entry(snapshot, offset, size, flags) if size else b""
        except VolumedError:
            if self._snapshot is snapshot:
                raise
            raise StaleGeneration(f"volume {self.volume_id} changed while it was read") from None
        return pack_payload(snapshot.version, snapshot.generation, offset, size, record)

    def read_range(self, generation: int, offset: int, length: int) -> bytes:
        """Raw bytes of `.dat`. Any thread. Raises `StaleGeneration`, `CorruptNeedle` (file too short),
        `VolumeUnavailable`, `VolumeClosed`, `DiskError`."""
        snapshot = self._readable()
        if generation != snapshot.generation:
            raise StaleGeneration(f"volume {self.volume_id} is at another generation")
        if not 0 < length <= RANGE_BYTES_MAX:
            raise CorruptNeedle.eof()
        return self._read_at(snapshot.dat, offset, length)

    def _readable(self) -> _Snapshot:
        if VolumeFlag.UNAVAILABLE in self.flags:
            raise VolumeUnavailable.of(self.volume_id, self.unavailable_reason)
        snapshot = self._snapshot
        if snapshot is None:
            raise VolumeClosed.of(self.volume_id)
        return snapshot

    def _live_entry(self, snapshot: _Snapshot, key: int, read_deleted: bool) -> tuple[int, int]:
        """(offset, S) of a needle that may be read (docs/spec/storage.md 6.4)."""
        entry = self.site.map.lookup(snapshot.map_id, key)
        if entry is None or not entry[0]:
            raise NeedleNotFound
        offset, size = entry
        if size >= 0:
            return offset, size
        if not read_deleted or size == DELETED:
            raise NeedleDeleted
        return offset, -size

    def _read_entry(self, snapshot: _Snapshot, offset: int, size: int, flags: int) -> bytes:
        if flags & FLAG_META_ONLY and size > PAGED_SIZE_MIN and snapshot.version > 1:
            return self._read_meta(snapshot, offset, size)
        return self._read_at(snapshot.dat, offset, record_length(size, snapshot.version))

    def _read_meta(self, snapshot: _Snapshot, offset: int, size: int) -> bytes:
        head = self._read_at(snapshot.dat, offset, PAGED_HEAD_LENGTH)
        paged = decode_paged_head(head, snapshot.version, size, offset)
        return head + self._read_at(snapshot.dat, offset + paged.tail_offset, paged.tail_length)

    def _read_at(self, dat: File, offset: int, length: int) -> bytes:
        try:
            data = self.site.files.read_at(dat, offset, length)
        except OSError as error:
            self.note_io(error)
            raise DiskError(f"read {dat.path}: {error_text(error)}") from error
        self.note_io(None)
        if len(data) < length:
            raise CorruptNeedle.eof()
        return data
