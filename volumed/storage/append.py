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
from volumed.formats.checksum import crc32c, matches
from volumed.formats.idx import DELETED, MAX_VOLUME_SIZE, pack_row
from volumed.formats.needle import (
    HEADER_LENGTH,
    PAGED_HEAD_LENGTH,
    Buffer,
    decode_body,
    decode_header,
    decode_record,
    encode_footer,
    encode_header,
    encode_tombstone,
    record_length,
)
from volumed.storage.fileio import error_text
from volumed.storage.map_records import READ_ONLY, VolumeFlag
from volumed.storage.needle_map import MapTransaction

if TYPE_CHECKING:
    from volumed.storage.volume import Volume

__all__ = ["BatchAppend", "Restore"]

_NO_PUTS, _NO_DELETES = int(READ_ONLY), int(VolumeFlag.NO_WRITE_OR_DELETE)
_SIZE_MAX = (1 << 31) - 1
_CHECKSUM_LENGTH = 4
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

    def add(self, operation: StoreOperation) -> StoreResult:
        """Decide one operation. Errors become results; they leave no trace in the batch."""
        try:
            result = self._delete(operation) if operation.kind == STORE_DELETE else self._put(operation)
        except VolumedError as error:
            return StoreResult(StoreOutcome.ERROR, 0, error)
        if operation.flags & FLAG_FSYNC:
            self.wants_flush = True
        return result

    def write(self) -> None:
        """Records, then rows, then map changes. Raises `OSError`, `MapError`."""
        volume, files = self._volume, self._volume.site.files
        length = sum(map(len, self._pieces))
        files.write_at(volume.dat, volume.dat_end - length, self._pieces)
        rows = b"".join(self._rows)
        files.write_at(volume.idx, volume.progress.idx_bytes, [rows])
        volume.progress.idx_bytes += len(rows)
        volume.progress.last_row = self._rows[-1]
        for key, entry in self._overlay.items():
            self._txn.put(volume.volume_id, key, entry.offset, entry.size)
        self._txn.put_progress(volume.volume_id, volume.progress)

    def failed(
        self, operations: Sequence[StoreOperation], results: Sequence[StoreResult], error: OSError
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
        volume = self._volume
        if self._no_puts:
            raise ReadOnlyVolume.of(volume.volume_id)
        size, key, cookie = operation.size, operation.key, operation.cookie
        if size and volume.dat_end >= self._limit:
            raise SizeLimitExceeded.volume_end(volume.dat_end, self._limit)
        data = self._verified_data(operation)
        known = self._entry(key)
        if known is not None:
            stored_cookie = self._stored_cookie(known)
            if stored_cookie == cookie and self._is_unchanged(known, operation, data):
                return StoreResult(StoreOutcome.UNCHANGED, size)
            if not cookie and operation.flags & FLAG_SKIP_COOKIE_CHECK:
                cookie = stored_cookie
            elif cookie != stored_cookie:
                raise CookieMismatch.on_write(cookie)
        last_modified = decode_body(operation.body, self._version).last_modified if self._has_ttl else 0
        checksum = operation.checksum if size else 0
        append_at_ns = self._next_append_time()
        header = encode_header(cookie, key, size)
        footer = encode_footer(size, checksum, append_at_ns, self._version)
        length = len(header) + size + len(footer)
        offset = self._queue(key, size, length, header, operation.body, footer)
        self._overlay[key] = _Entry(offset, size, _Put(cookie, data))
        progress = volume.progress
        progress.counters.put(size, known.size if known else None)
        if size:
            progress.max_record_end = max(progress.max_record_end, volume.dat_end)
        if self._has_ttl:
            # DEVIATE: the reference takes last_modified alone; an old one destroys a fresh volume (5.9).
            progress.ttl_clock_s = max(progress.ttl_clock_s, last_modified, append_at_ns // 10**9)
        return StoreResult(StoreOutcome.STORED, size)

    def _delete(self, operation: StoreOperation) -> StoreResult:
        volume, key = self._volume, operation.key
        if self._no_deletes:
            raise ReadOnlyVolume.of(volume.volume_id)
        known = self._entry(key)
        if known is None or known.size < 0:
            return StoreResult(StoreOutcome.DELETED, 0)
        record = encode_tombstone(key, operation.cookie, operation.checksum, self._next_append_time(), self._version)
        self._queue(key, DELETED, len(record), record)
        # The map keeps where the last put is: reading deleted needles and the cookie check need it.
        self._overlay[key] = _Entry(known.offset, -known.size or DELETED, known.put)
        volume.progress.counters.delete(known.size)
        return StoreResult(StoreOutcome.DELETED, known.size)

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
        return offset

    def _entry(self, key: int) -> _Entry | None:
        entry = self._overlay.get(key)
        if entry is None:
            stored = self._txn.get(self._volume.volume_id, key)
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
        if known.put is not None:
            return known.put.cookie
        try:
            cookie, _, _ = decode_header(self._read(known.offset, HEADER_LENGTH))
        except (OSError, CorruptNeedle) as error:
            reason = error_text(error) if isinstance(error, OSError) else error.text
            raise DiskError(f"reading existing needle: {reason}") from error
        return cookie

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

    def _stored_data_equal(self, known: _Entry, checksum: int, data: memoryview) -> bool:
        """Look at length, then checksum, then the data: most rewrites differ early."""
        version, offset, size = self._version, known.offset, known.size
        if version > 1:
            head = self._read(offset, PAGED_HEAD_LENGTH)
            stored_length = int.from_bytes(head[HEADER_LENGTH:], "big")
        else:
            stored_length = size
        if stored_length != len(data):
            return False
        stored = int.from_bytes(self._read(offset + HEADER_LENGTH + size, _CHECKSUM_LENGTH), "big")
        if not matches(checksum, stored):
            return False
        record = self._read(offset, record_length(size, version))
        return bytes(decode_record(record, version, size, offset).data) == bytes(data)

    def _read(self, offset: int, length: int) -> bytes:
        try:
            raw = self._volume.site.files.read_at(self._volume.dat, offset, length)
        except OSError as error:
            self._volume.note_io(error)
            raise
        if len(raw) < length:
            raise CorruptNeedle.eof()
        return raw
