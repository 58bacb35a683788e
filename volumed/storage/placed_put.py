"""A put whose record is written ahead: for data that are too long to wait for on the loop thread.

The data lie in a spool on the same disk. While the volume takes no other operation, a background thread compares them
with what is stored and copies them, as a complete record, behind the end of `.dat` (`RecordCopy.run`). Then the loop
thread applies the result like any other put (``volumed.storage.append``), but with nothing left to write but the row.

The order on the disk is that of every write: record, row, map. A copy that is interrupted leaves bytes behind the last
indexed record, as an interrupted append does, and is cut off in the same way.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from volumed.errors import (
    CookieMismatch,
    CorruptNeedle,
    DiskError,
    NodeError,
    ReadOnlyVolume,
    SizeLimitExceeded,
)
from volumed.formats.idx import MAX_VOLUME_SIZE
from volumed.formats.needle import (
    HEADER_LENGTH,
    decode_body,
    encode_footer,
    encode_header,
    record_length,
)
from volumed.storage.fileio import File, error_text
from volumed.storage.map_records import READ_ONLY
from volumed.storage.stored_data import data_position, stored_cookie

if TYPE_CHECKING:
    from volumed.storage.volume import Volume

__all__ = ["PlacedPut", "RecordCopy", "SpooledNeedle"]

_log = logging.getLogger(__name__)

_SIZE_MAX = (1 << 31) - 1
_LENGTH_PREFIX = 4
_BLOCK_BYTES = 1 << 20


class SpooledNeedle(NamedTuple):
    """A put whose data are the first ``data_length`` bytes of ``spool``; body = ``prefix``, data, ``suffix``."""

    volume_id: int
    generation: int
    cookie: int
    key: int
    checksum: int
    """Of the data, proven to be right."""
    prefix: bytes
    suffix: bytes
    spool: File
    data_length: int
    flags: int

    @property
    def size(self) -> int:
        return len(self.prefix) + self.data_length + len(self.suffix)


class PlacedPut(NamedTuple):
    """What is left to do of it; an operation of a batch like `StoreOperation`, alone in its batch."""

    flags: int
    volume_id: int
    generation: int
    key: int
    size: int
    unchanged: bool
    """The same is stored already, and nothing was written."""
    append_at_ns: int
    last_modified: int


class RecordCopy:
    """One spooled needle on its way into one volume, which takes no other operation until it is there."""

    def __init__(self, volume: Volume, needle: SpooledNeedle) -> None:
        self.volume = volume
        self._needle = needle
        self._files = volume.site.files
        self.has_remains = False
        """The copy failed, and what it had written could not be cut off."""

    def run(self) -> PlacedPut:
        """Compare and copy (any thread; waits for the disk). Raises `VolumedError`."""
        volume, needle = self.volume, self._needle
        self._check()
        if self._is_stored():
            return self._placed(0, unchanged=True)
        append_at_ns = max(time.time_ns(), volume.progress.last_append_at_ns + 1)
        try:
            self._write(append_at_ns)
        except OSError as error:
            volume.note_io(error)
            self._cut()
            length = record_length(needle.size, volume.version)
            doing = f"append to volume {volume.volume_id} size {needle.size} actualSize {length}"
            raise DiskError(f"{doing}: write {volume.dat.path}: {error_text(error)}") from error
        return self._placed(append_at_ns, unchanged=False)

    def _placed(self, append_at_ns: int, *, unchanged: bool) -> PlacedPut:
        needle = self._needle
        last_modified = decode_body(bytes(_LENGTH_PREFIX) + needle.suffix, 3).last_modified
        return PlacedPut(
            needle.flags,
            needle.volume_id,
            needle.generation,
            needle.key,
            needle.size,
            unchanged,
            append_at_ns,
            last_modified,
        )

    def _check(self) -> None:
        """Refuse what the append would refuse, before anything is copied."""
        volume, needle = self.volume, self._needle
        limit = MAX_VOLUME_SIZE[volume.site.offset_width]
        if volume.flags & READ_ONLY:
            raise ReadOnlyVolume.of(volume.volume_id)
        if volume.dat_end >= limit:
            raise SizeLimitExceeded.volume_end(volume.dat_end, limit)
        if needle.size > _SIZE_MAX:
            raise NodeError(f"put of {needle.size} bytes: no needle is longer than {_SIZE_MAX}")
        announced = needle.data_length.to_bytes(_LENGTH_PREFIX, "big")
        if needle.prefix != (announced if needle.data_length and volume.version > 1 else b""):
            raise NodeError(f"put of {needle.data_length} bytes announces others")

    def _is_stored(self) -> bool:
        """Whether the live needle has the same data. Raises `CookieMismatch`."""
        volume, needle = self.volume, self._needle
        entry = volume.site.map.lookup(volume.map_id, needle.key)
        if entry is None:
            return False
        offset, size = entry
        if stored_cookie(volume, offset) != needle.cookie:
            raise CookieMismatch.on_write(needle.cookie)
        if size <= 0 or volume.superblock.ttl:
            return False
        try:
            at = data_position(volume, offset, size, needle.checksum, needle.data_length)
            return at is not None and self._same_data(at)
        except (OSError, CorruptNeedle):
            return False

    def _same_data(self, at: int) -> bool:
        files, needle, dat = self._files, self._needle, self.volume.dat
        for start in range(0, needle.data_length, _BLOCK_BYTES):
            length = min(_BLOCK_BYTES, needle.data_length - start)
            if files.read_at(dat, at + start, length) != files.read_at(needle.spool, start, length):
                return False
        return True

    def _write(self, append_at_ns: int) -> None:
        volume, needle, files = self.volume, self._needle, self._files
        head = encode_header(needle.cookie, needle.key, needle.size) + needle.prefix
        checksum = needle.checksum if needle.size else 0
        tail = needle.suffix + encode_footer(needle.size, checksum, append_at_ns, volume.version)
        data_at = volume.dat_end + len(head)
        files.write_at(volume.dat, volume.dat_end, [head])
        files.copy(needle.spool, volume.dat, data_at, needle.data_length)
        files.write_at(volume.dat, volume.dat_end + HEADER_LENGTH + needle.size - len(needle.suffix), [tail])

    def _cut(self) -> None:
        try:
            self._files.truncate(self.volume.dat, self.volume.dat_end)
        except OSError as error:
            _log.error("volume %d: cannot undo a failed write: %s", self.volume.volume_id, error)
            self.has_remains = True
