"""Repairs of `.idx` from the records of `.dat`: a missing index, an overwritten head, unindexed records at the end.

Nothing here changes `.dat`. A rewritten `.idx` replaces the old one atomically (docs/spec/storage.md 5.5, 5.6, 10).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from typing import NamedTuple

from volumed.errors import CorruptNeedle
from volumed.formats.checksum import crc32c, matches
from volumed.formats.idx import DELETED, ROW_LENGTH, Row, iter_rows, pack_rows
from volumed.formats.needle import (
    PAGED_HEAD_LENGTH,
    PAGED_SIZE_MIN,
    decode_body_meta,
    decode_paged_head,
    decode_record,
)
from volumed.storage.fileio import File, FileIO
from volumed.storage.record_scan import BLOCK_BYTES, BlockReader, RecordHeader, scan_headers
from volumed.storage.site import VolumePaths

__all__ = ["UnindexedTail", "index_is_blank", "read_headers", "rebuild_index", "repair_head", "scan_unindexed"]

_log = logging.getLogger(__name__)

_KEY_LENGTH = 8
_HEAD_DAMAGE = {width: pack_rows([(0, 0, DELETED)], width)[_KEY_LENGTH:] for width in ROW_LENGTH}


class UnindexedTail(NamedTuple):
    """Intact records behind the last indexed one, and where they stop."""

    rows: list[Row]
    end: int


def read_headers(files: FileIO, dat: File, start: int, version: int) -> Iterator[RecordHeader]:
    """Headers of the records from ``start`` to the end of the file. Ends also at an all-zero header (key 0 and S 0)
    and where `scan_headers` does. Raises `OSError`."""
    for header in scan_headers(BlockReader(files, dat), start, files.size(dat), version):
        if not (header.key or header.size):
            return
        yield header


def index_is_blank(files: FileIO, path: str) -> bool:
    """Whether an index says nothing at all: missing, empty, or nothing but zeros.

    DEVIATE: the reference mounts a volume with an empty index as empty and writable although `.dat` holds data.
    """
    try:
        index = files.open(path, writable=False)
    except FileNotFoundError:
        return True
    at = 0
    while block := files.read_at(index, at, BLOCK_BYTES):
        if block.strip(b"\0"):
            return False
        at += len(block)
    return True


def rebuild_index(files: FileIO, paths: VolumePaths, dat: File, start: int, version: int, width: int) -> None:
    """Write `.idx` anew from the record headers: S > 0 as a put, S = 0 as a deletion, because a tombstone and an
    empty object look the same. Raises `OSError`."""
    rows = [(h.key, h.offset, h.size or DELETED) for h in read_headers(files, dat, start, version)]
    _replace_index(files, paths, pack_rows(rows, width))
    _log.warning("rebuilt %s from %s", paths.index(".idx"), dat.path)


def repair_head(files: FileIO, paths: VolumePaths, dat: File, start: int, version: int, width: int) -> bool:
    """Undo damage of old releases, which overwrote the first rows of tiered volumes with deletions at offset 0:
    prepend rows for the live records there that no row mentions. Raises `OSError`."""
    path = paths.index(".idx")
    head = files.open(path, writable=False)
    if files.read_at(head, 0, ROW_LENGTH[width])[_KEY_LENGTH:] != _HEAD_DAMAGE[width]:
        return False
    content = files.read_at(head, 0, files.size(head))
    whole = len(content) - len(content) % ROW_LENGTH[width]
    rows = list(iter_rows(content[:whole], width))
    damaged = next((i for i, row in enumerate(rows) if row[1:] != (0, DELETED)), len(rows))
    mentioned = {key for key, _, _ in rows}
    last: dict[int, RecordHeader] = {}
    for _, header in zip(range(damaged), read_headers(files, dat, start, version), strict=False):
        last[header.key] = header
    found = sorted(last.values(), key=lambda header: header.offset)
    lost = [(h.key, h.offset, h.size) for h in found if h.size > 0 and h.key not in mentioned]
    if not lost:
        return False
    _replace_index(files, paths, pack_rows(lost, width) + content)
    _log.warning("restored %d lost rows at the head of %s", len(lost), path)
    return True


def scan_unindexed(files: FileIO, dat: File, start: int, version: int) -> UnindexedTail:
    """Records from ``start`` on that can be indexed without a doubt: whole, with data, checksum right. Stops before
    the first S = 0, which could be a deletion or an empty object. Raises `OSError`."""
    rows: list[Row] = []
    end = start
    for header in read_headers(files, dat, start, version):
        if header.size == 0 or not _is_intact(files, dat, version, header):
            break
        rows.append((header.key, header.offset, header.size))
        end = header.offset + header.length
    return UnindexedTail(rows, end)


def _is_intact(files: FileIO, dat: File, version: int, header: RecordHeader) -> bool:
    try:
        if header.size > PAGED_SIZE_MIN and version > 1:
            return _is_large_intact(files, dat, version, header)
        record = files.read_at(dat, header.offset, header.length)
        decode_record(record, version, header.size, header.offset)
    except CorruptNeedle:
        return False
    return True


def _is_large_intact(files: FileIO, dat: File, version: int, header: RecordHeader) -> bool:
    """The same in blocks. Raises `CorruptNeedle`."""
    offset, size = header.offset, header.size
    head = decode_paged_head(files.read_at(dat, offset, PAGED_HEAD_LENGTH), version, size, offset)
    tail = files.read_at(dat, offset + head.tail_offset, head.tail_length)
    stored = decode_body_meta(head, tail, version).checksum
    checksum = 0
    for at in range(0, head.data_size, BLOCK_BYTES):
        length = min(BLOCK_BYTES, head.data_size - at)
        checksum = crc32c(files.read_at(dat, offset + PAGED_HEAD_LENGTH + at, length), checksum)
    return matches(checksum, stored)


def _replace_index(files: FileIO, paths: VolumePaths, content: bytes) -> None:
    path = paths.index(".idx")
    mode = files.mode(path) if files.exists(path) else 0o644
    files.replace_file(path, content, mode)
    for extension in (".ldb", ".rdb"):
        # Another implementation's map of the old rows.
        shutil.rmtree(paths.index(extension), ignore_errors=True)
