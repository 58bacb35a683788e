"""Bringing the map of a volume up to its `.idx`: reuse, replay of the tail, or rebuild."""

from __future__ import annotations

import enum

from volumed.formats.idx import decode_rows, is_live, iter_rows
from volumed.formats.needle import append_time_offset
from volumed.formats.superblock import SuperBlock
from volumed.storage.fileio import File
from volumed.storage.index_scan import apply_row, scan_rows
from volumed.storage.map_records import VolumeProgress
from volumed.storage.needle_map import MapTransaction
from volumed.storage.site import DiskSite

__all__ = ["MapPlan", "catch_up_map", "newest_put_time", "plan_map"]

_REPLAY_ROWS_MAX = 100_000
"""Above this many rows a rebuild of the whole volume is the faster way."""

_TIME_LENGTH = 8


class MapPlan(enum.Enum):
    """How the map gets up to date."""

    REUSE = "reuse"
    REPLAY = "replay"
    REBUILD = "rebuild"


def plan_map(known: VolumeProgress | None, files: VolumeProgress, last_applied: bytes, row_length: int) -> MapPlan:
    """Decide from what the map stands for and what the files are.

    ``files`` carries inodes, revision and `.idx` length of the files; ``last_applied`` are the bytes that `.idx` has
    where the map's last row should be.
    """
    if known is None or known.idx_bytes > files.idx_bytes or known.last_row != last_applied:
        return MapPlan.REBUILD
    if (known.dat_inode, known.idx_inode, known.compaction_revision) != (
        files.dat_inode,
        files.idx_inode,
        files.compaction_revision,
    ):
        return MapPlan.REBUILD
    missing = (files.idx_bytes - known.idx_bytes) // row_length
    if not missing:
        return MapPlan.REUSE
    return MapPlan.REPLAY if missing <= _REPLAY_ROWS_MAX else MapPlan.REBUILD


def catch_up_map(site: DiskSite, volume_id: int, dat: File, idx: File, superblock: SuperBlock) -> VolumeProgress:
    """Make the map hold every row of `.idx`, whose length is whole rows. Raises `OSError`, `MapError`."""
    known = site.map.progress(volume_id, site.row_length)
    fresh = VolumeProgress(
        dat_inode=dat.inode,
        compaction_revision=superblock.compaction_revision,
        idx_inode=idx.inode,
        idx_bytes=site.files.size(idx),
    )
    last_applied = b""
    if known is not None and known.last_row:
        at = known.idx_bytes - site.row_length
        last_applied = site.files.read_at(idx, at, site.row_length)
    plan = plan_map(known, fresh, last_applied, site.row_length)
    if known is not None and plan is MapPlan.REUSE:
        return known
    with site.map.begin() as txn:
        if known is not None and plan is MapPlan.REPLAY:
            progress = known
            _replay(site, txn, idx, superblock, progress)
        else:
            progress = fresh
            txn.drop_volume(volume_id)
            _rebuild(site, txn, idx, superblock, progress)
        txn.put_progress(volume_id, progress)
    return progress


def _replay(site: DiskSite, txn: MapTransaction, idx: File, superblock: SuperBlock, progress: VolumeProgress) -> None:
    content = site.files.read_at(idx, progress.idx_bytes, site.files.size(idx) - progress.idx_bytes)
    for key, offset, size in iter_rows(content, site.offset_width):
        entry = apply_row(key, offset, size, txn.get(progress.map_id, key), superblock.version, progress)
        if entry is not None:
            txn.put(progress.map_id, key, *entry)
    progress.idx_bytes += len(content)
    progress.last_row = content[-site.row_length :]
    # The rows may have put something newer than the clock: let it be determined again.
    progress.ttl_clock_s = 0


def _rebuild(site: DiskSite, txn: MapTransaction, idx: File, superblock: SuperBlock, progress: VolumeProgress) -> None:
    progress.map_id = txn.next_generation()
    if not progress.idx_bytes:
        return
    content = site.files.read_at(idx, 0, progress.idx_bytes)
    rows = decode_rows(content, site.offset_width)
    progress.last_row = content[-site.row_length :]
    txn.put_entries(progress.map_id, *scan_rows(*rows, superblock.version, progress))


def newest_put_time(site: DiskSite, dat: File, idx: File, version: int) -> int:
    """Append time in ns of the newest row that is no deletion; 0 when there is none, or before version 3
    (docs/spec/storage.md 5.9). Raises `OSError`."""
    if version < 3:
        return 0
    row_length, files = site.row_length, site.files
    end = files.size(idx)
    while end > 0:
        start = max(0, end - row_length * 4096)
        rows = list(iter_rows(files.read_at(idx, start, end - start), site.offset_width))
        for _, offset, size in reversed(rows):
            if is_live(offset, size):
                time = files.read_at(dat, offset + append_time_offset(size), _TIME_LENGTH)
                return int.from_bytes(time, "big") if len(time) == _TIME_LENGTH else 0
        end = start
    return 0
