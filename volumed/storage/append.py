"""One batch of puts and deletes on one volume: decisions, one append to `.dat`, one to `.idx`, the map changes.

The order `.dat` → `.idx` → map is what makes an interruption between any two steps harmless: a record without a row
was never acknowledged, and rows that the map lacks are replayed at the next start.

Several operations of a batch may concern one key. Each sees what the earlier ones did through an overlay over the
map, exactly as if they had come one after the other (docs/spec/storage.md 6.1, 6.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from volumed.bus.frames import (
    FLAG_FSYNC,
    FLAG_SKIP_COOKIE_CHECK,
    STORE_DELETE,
    STORE_RECORD,
    StoreOperation,
    StoreOutcome,
    StoreResult,
)
from volumed.errors import (
    CookieMismatch,
    CorruptNeedle,
    DiskError,
    NodeError,
    ReadOnlyVolume,
    SizeLimitExceeded,
    VolumedError,
)
from volumed.formats.checksum import crc32c
from volumed.formats.idx import DELETED, MAX_VOLUME_SIZE, pack_row
from volumed.formats.needle import (
    HEADER_LENGTH,
    Buffer,
    decode_body,
    decode_record,
    encode_footer,
    encode_header,
    encode_tombstone,
    record_length,
)
from volumed.storage.fileio import error_text
from volumed.storage.map_records import READ_ONLY, VolumeFlag
from volumed.storage.needle_map import MapTransaction
from volumed.storage.placed_put import PlacedPut
from volumed.storage.stored_data import data_position, read_stored, stored_cookie

if TYPE_CHECKING:
    from volumed.storage.volume import Volume

__all__ = ["BatchAppend", "Operation", "Restore"]

Operation = StoreOperation | PlacedPut

_NO_PUTS, _NO_DELETES = int(READ_ONLY), int(VolumeFlag.NO_WRITE_OR_DELETE)
_SIZE_MAX = (1 << 31) - 1
_LENGTH_PREFIX = 4


class Restore(NamedTuple):
    """What a volume was before a batch. ``entries`` are the map entries of the touched keys, None = none."""

    dat_end: int
    progress: bytes
    entries: dict[int, tuple[int, int] | None]


class _Entry(NamedTuple):
    """A key as the batch sees it: like a map entry, with the put that wrote it if that is part of the batch."""

    offset: int
    size: int
    put: _Put | None


class _Put(NamedTuple):
    cookie: int
    data: memoryview


class BatchAppend:
    """Collects the effects of a batch, then writes them. Used once; changes the volume's progress as it goes, so a
    failed batch needs `Volume.rolled_back`."""

    def __init__(self, volume: Volume, txn: MapTransaction, now_ns: int) -> None:
        self._volume = volume
        self._txn = txn
        self._now_ns = now_ns
        self._pieces: list[Buffer] = []
        self._rows: list[bytes] = []
        self._overlay: dict[int, _Entry] = {}
        self._before: dict[int, tuple[int, int] | None] = {}
        # PERF: what cannot change during a batch; flags as numbers, since enumerations are slow to combine.
        flags = int(volume.flags)
        self._no_puts = flags & _NO_PUTS
        self._no_deletes = flags & _NO_DELETES
        self._has_ttl = bool(volume.superblock.ttl)
        self._version = volume.version
        self._width = volume.site.offset_width
        self._limit = MAX_VOLUME_SIZE[self._width]
        self.wants_flush = False
        """An operation that succeeded is to be answered only when it is on the disk."""

    @property
    def empty(self) -> bool:
        """Nothing is to be written."""
        return not self._rows

    def entries_before(self) -> dict[int, tuple[int, int] | None]:
        """Map entries of all touched keys as they were."""
        return self._before

    def add(self, operation: Operation) -> StoreResult:
        """Decide one operation. Errors become results; they leave no trace in the batch."""
        try:
            if isinstance(operation, PlacedPut):
                result = self._put_placed(operation)
            elif operation.kind == STORE_RECORD:
                result = self._put_record(operation)
            else:
                result = self._delete(operation) if operation.kind == STORE_DELETE else self._put(operation)
        except VolumedError as error:
            return StoreResult(StoreOutcome.ERROR, 0, error)
        if operation.flags & FLAG_FSYNC:
            self.wants_flush = True
        return result

    def write(self) -> None:
        """Records, then rows, then map changes. Raises `OSError`, `MapError`."""
        volume, files = self._volume, self._volume.site.files
        if self._pieces:
            length = sum(map(len, self._pieces))
            files.write_at(volume.dat, volume.dat_end - length, self._pieces)
        rows = b"".join(self._rows)
        files.write_at(volume.idx, volume.progress.idx_bytes, [rows])
        volume.progress.idx_bytes += len(rows)
        volume.progress.last_row = self._rows[-1]
        for key, entry in self._overlay.items():
            self._txn.put(volume.map_id, key, entry.offset, entry.size)
        self._txn.put_progress(volume.volume_id, volume.progress)

    def failed(
        self, operations: Sequence[Operation], results: Sequence[StoreResult], error: OSError
    ) -> list[StoreResult]:
        """The results when `write` failed: every operation on a key that was to be written reports it, because one
        that had nothing to write ("unchanged", "deleted already") relied on those before it."""
        return [
            result if result.error or operation.key not in self._overlay else self._failure(operation.size, error)
            for operation, result in zip(operations, results, strict=True)
        ]

    def _failure(self, size: int, error: OSError) -> StoreResult:
        volume = self._volume
        length = record_length(size, volume.version)
        doing = f"append to volume {volume.volume_id} size {size} actualSize {length}: write {volume.dat.path}"
        return StoreResult(StoreOutcome.ERROR, 0, DiskError(f"{doing}: {error_text(error)}"))

    # Decisions

    def _put(self, operation: StoreOperation) -> StoreResult:
        size, key, cookie = operation.size, operation.key, operation.cookie
        self._check_put(size)
        data = self._verified_data(operation)
        known = self._entry(key)
        if known is not None:
            stored = self._stored_cookie(known)
            if stored == cookie and self._is_unchanged(known, operation, data):
                return StoreResult(StoreOutcome.UNCHANGED, size)
            if not cookie and operation.flags & FLAG_SKIP_COOKIE_CHECK:
                cookie = stored
            elif cookie != stored:
                raise CookieMismatch.on_write(cookie)
        last_modified = decode_body(operation.body, self._version).last_modified if self._has_ttl else 0
        checksum = operation.checksum if size else 0
        append_at_ns = self._next_append_time()
        header = encode_header(cookie, key, size)
        footer = encode_footer(size, checksum, append_at_ns, self._version)
        length = len(header) + size + len(footer)
        offset = self._queue(key, size, length, header, operation.body, footer)
        self._note_put(key, _Entry(offset, size, _Put(cookie, data)), known, last_modified, append_at_ns)
        return StoreResult(StoreOutcome.STORED, size)

    def _put_placed(self, put: PlacedPut) -> StoreResult:
        """The record stands behind the end already, and the cookie was compared."""
        self._check_put(put.size)
        if put.unchanged:
            return StoreResult(StoreOutcome.UNCHANGED, put.size)
        known = self._entry(put.key)
        self._volume.progress.last_append_at_ns = put.append_at_ns
        offset = self._queue(put.key, put.size, record_length(put.size, self._version))
        self._note_put(put.key, _Entry(offset, put.size, None), known, put.last_modified, put.append_at_ns)
        return StoreResult(StoreOutcome.STORED, put.size)

    def _put_record(self, operation: StoreOperation) -> StoreResult:
        """A record of another volume as it is, with a new append time. Its bytes are not verified, its cookie is
        compared with nothing (docs/spec/storage.md 6.5)."""
        size, key = operation.size, operation.key
        header, body = memoryview(operation.body)[:HEADER_LENGTH], memoryview(operation.body)[HEADER_LENGTH:]
        self._check_put(size)
        length = record_length(size, self._version)
        content_bytes = self._volume.progress.counters.content_bytes
        if content_bytes + length > self._limit:
            raise SizeLimitExceeded.volume_content(self._limit, content_bytes)
        known = self._entry(key)
        data = self._data_of(body)
        if known is not None and self._is_same_record(known, operation, data):
            return StoreResult(StoreOutcome.UNCHANGED, size)
        last_modified = _last_modified(body, self._version) if self._has_ttl else 0
        append_at_ns = self._next_append_time()
        footer = encode_footer(size, operation.checksum, append_at_ns, self._version)
        if not size and known is not None and known.size:
            # DEVIATE: the reference stores an empty object; on disk a tombstone looks the same (grpc.md P7).
            self._queue(key, DELETED, length, header, footer)
            self._note_delete(key, known)
            return StoreResult(StoreOutcome.DELETED, max(known.size, 0))
        offset = self._queue(key, size, length, header, body, footer)
        put = _Put(operation.cookie, data)
        self._note_put(key, _Entry(offset, size, put), known, last_modified, append_at_ns)
        return StoreResult(StoreOutcome.STORED, size)

    def _check_put(self, size: int) -> None:
        volume = self._volume
        if self._no_puts:
            raise ReadOnlyVolume.of(volume.volume_id)
        if size and volume.dat_end >= self._limit:
            raise SizeLimitExceeded.volume_end(volume.dat_end, self._limit)

    def _note_put(
        self, key: int, entry: _Entry, known: _Entry | None, last_modified: int, append_at_ns: int
    ) -> None:
        """What a queued put changes in map and counters."""
        self._overlay[key] = entry
        volume, progress = self._volume, self._volume.progress
        progress.counters.put(entry.size, known.size if known else None)
        if entry.size:
            progress.max_record_end = max(progress.max_record_end, volume.dat_end)
        if self._has_ttl:
            # DEVIATE: the reference takes last_modified alone; an old one destroys a fresh volume (5.9).
            progress.ttl_clock_s = max(progress.ttl_clock_s, last_modified, append_at_ns // 10**9)

    def _delete(self, operation: StoreOperation) -> StoreResult:
        volume, key = self._volume, operation.key
        if self._no_deletes:
            raise ReadOnlyVolume.of(volume.volume_id)
        known = self._entry(key)
        if known is None or known.size < 0:
            return StoreResult(StoreOutcome.DELETED, 0)
        if volume.sealed:
            self._queue_distant_deletion(key)
        else:
            append_at_ns = self._next_append_time()
            record = encode_tombstone(key, operation.cookie, operation.checksum, append_at_ns, self._version)
            self._queue(key, DELETED, len(record), record)
        self._note_delete(key, known)
        return StoreResult(StoreOutcome.DELETED, known.size)

    def _note_delete(self, key: int, known: _Entry) -> None:
        """What a queued deletion, maybe a repeated one, changes in map and counters."""
        # The map keeps where the last put is: reading deleted needles and the cookie check need it.
        self._overlay[key] = _Entry(known.offset, -abs(known.size) or DELETED, known.put)
        self._volume.progress.counters.delete(known.size)

    def _queue(self, key: int, row_size: int, length: int, *pieces: Buffer) -> int:
        """Append a record of ``length`` bytes and its row; the record's offset."""
        volume, progress = self._volume, self._volume.progress
        offset = volume.dat_end
        if offset >= self._limit:
            raise SizeLimitExceeded.volume_end(offset, self._limit)
        self._rows.append(pack_row(key, offset, row_size, self._width))
        self._pieces.extend(pieces)
        volume.dat_end = offset + length
        if key > progress.max_key:
            progress.max_key = key
        progress.tail_key, progress.tail_offset, progress.tail_size = key, offset, row_size
        volume.has_uncommitted = True
        return offset

    def _queue_distant_deletion(self, key: int) -> None:
        """Only a row: no record can be appended to what is in a remote tier (docs/spec/storage.md 4.1)."""
        self._rows.append(pack_row(key, 0, DELETED, self._width))
        self._volume.has_uncommitted = True

    def _entry(self, key: int) -> _Entry | None:
        entry = self._overlay.get(key)
        if entry is None:
            stored = self._txn.get(self._volume.map_id, key)
            self._before[key] = stored
            entry = None if stored is None else _Entry(*stored, None)
        return entry

    def _next_append_time(self) -> int:
        """Strictly increasing within the volume (docs/spec/storage.md 3.6)."""
        progress = self._volume.progress
        progress.last_append_at_ns = max(self._now_ns, progress.last_append_at_ns + 1)
        return progress.last_append_at_ns

    def _verified_data(self, operation: StoreOperation) -> memoryview:
        """The data field of a put, proven to be what the front computed its checksum of."""
        body = memoryview(operation.body)
        if len(body) != operation.size:
            raise NodeError(f"put of {operation.size} bytes came with {len(body)}")
        if len(body) > _SIZE_MAX:
            raise NodeError(f"put of {len(body)} bytes: no needle is longer than {_SIZE_MAX}")
        if not body or self._version == 1:
            data = body
        else:
            data_end = _LENGTH_PREFIX + int.from_bytes(body[:_LENGTH_PREFIX], "big")
            if data_end >= len(body):
                raise NodeError(f"put of {operation.size} bytes has data up to {data_end}")
            data = body[_LENGTH_PREFIX:data_end]
        if data and crc32c(data) != operation.checksum:
            raise NodeError("the data of a put do not match their checksum")
        return data

    # What is stored

    def _stored_cookie(self, known: _Entry) -> int:
        return stored_cookie(self._volume, known.offset) if known.put is None else known.put.cookie

    def _is_unchanged(self, known: _Entry, operation: StoreOperation, data: memoryview) -> bool:
        """Whether the live needle has the same data (the cookie was compared before). Not asked in TTL volumes,
        where a rewrite renews the lifetime (docs/spec/storage.md 6.1 step 5)."""
        if known.size <= 0 or not data or self._has_ttl:
            return False
        if known.put is not None:
            return bytes(known.put.data) == bytes(data)
        try:
            return self._stored_data_equal(known, operation.checksum, data)
        except (OSError, CorruptNeedle):
            return False

    def _is_same_record(self, known: _Entry, operation: StoreOperation, data: memoryview) -> bool:
        """Whether the live needle is this record, times apart."""
        if not operation.size or known.size != operation.size:
            return False
        try:
            if self._stored_cookie(known) != operation.cookie:
                return False
            if known.put is not None:
                return bytes(known.put.data) == bytes(data)
            return self._stored_data_equal(known, operation.checksum, data)
        except (OSError, DiskError):
            return False

    def _data_of(self, body: memoryview) -> memoryview:
        """The data field of a body that may be damaged: then everything counts as data."""
        data_end = _LENGTH_PREFIX + int.from_bytes(body[:_LENGTH_PREFIX], "big")
        return body if self._version == 1 or data_end >= len(body) else body[_LENGTH_PREFIX:data_end]

    def _stored_data_equal(self, known: _Entry, checksum: int, data: memoryview) -> bool:
        volume, offset, size = self._volume, known.offset, known.size
        if data_position(volume, offset, size, checksum, len(data)) is None:
            return False
        record = read_stored(volume, offset, record_length(size, self._version))
        return bytes(decode_record(record, self._version, size, offset).data) == bytes(data)


def _last_modified(body: Buffer, version: int) -> int:
    """0 when the body is damaged."""
    try:
        return decode_body(body, version).last_modified
    except CorruptNeedle:
        return 0
