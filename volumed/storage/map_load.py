"""Bringing the map of a volume up to its `.idx`: reuse, replay of the tail, or rebuild.

A rebuild takes about half a second per million rows. While the disk serves other volumes it is prepared instead:
`scan_map` on another thread, `MapScan.put` in slices, `MapScan.finish`. After that the map fits and is reused.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from volumed.formats.idx import decode_rows, is_live, iter_rows
from volumed.formats.needle import append_time_offset
from volumed.formats.superblock import SuperBlock
from volumed.storage.fileio import File
from volumed.storage.index_scan import MapEntries, apply_row, scan_rows
from volumed.storage.map_records import VolumeProgress
from volumed.storage.needle_map import MapTransaction
from volumed.storage.site import DiskSite

__all__ = ["MapPlan", "MapScan", "catch_up_map", "newest_put_time", "plan_map", "scan_map"]

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
    known, fresh, plan = _compare(site, volume_id, dat, idx, superblock)
    if known is not None and plan is MapPlan.REUSE:
        return known
    with site.map.begin() as txn:
        if known is not None and plan is MapPlan.REPLAY:
            progress = known
            _replay(site, txn, idx, superblock, progress)
        else:
            progress = fresh
            txn.drop_volume(volume_id)
            progress.map_id = txn.next_generation()
            txn.put_entries(progress.map_id, *_scan(site, idx, superblock, progress))
        txn.put_progress(volume_id, progress)
    return progress


class MapScan(NamedTuple):
    """What a rebuild puts into the map."""

    volume_id: int
    progress: VolumeProgress
    entries: MapEntries

    def put(self, site: DiskSite, first: int, count: int) -> bool:
        """Put some entries, in order from 0 on, under a map id that nobody reads; whether there are others. Raises
        `MapError`."""
        with site.map.begin() as txn:
            if not first:
                self.progress.map_id = txn.next_generation()
            keys, offsets, sizes = self.entries
            piece = slice(first, first + count)
            txn.put_entries(self.progress.map_id, keys[piece], offsets[piece], sizes[piece])
        return first + count < len(self.entries.keys)

    def finish(self, site: DiskSite) -> int | None:
        """The entries are complete: they are the volume's from now on. Returns the map id of those that it had; they
        are of no use any more. Raises `MapError`."""
        known = site.map.progress(self.volume_id, site.row_length)
        with site.map.begin() as txn:
            txn.put_progress(self.volume_id, self.progress)
        return None if known is None else known.map_id


def scan_map(site: DiskSite, volume_id: int, dat: File, idx: File, superblock: SuperBlock) -> MapScan | None:
    """What a rebuild would put into the map of a volume that is not mounted (any thread); None when it needs none.
    Raises `OSError`, `MapError`."""
    _, fresh, plan = _compare(site, volume_id, dat, idx, superblock)
    if plan is not MapPlan.REBUILD or not fresh.idx_bytes:
        return None
    return MapScan(volume_id, fresh, _scan(site, idx, superblock, fresh))


def _compare(
    site: DiskSite, volume_id: int, dat: File, idx: File, superblock: SuperBlock
) -> tuple[VolumeProgress | None, VolumeProgress, MapPlan]:
    """What the map knows, what the files are, and what follows."""
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
    return known, fresh, plan_map(known, fresh, last_applied, site.row_length)


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


def _scan(site: DiskSite, idx: File, superblock: SuperBlock, progress: VolumeProgress) -> MapEntries:
    content = site.files.read_at(idx, 0, progress.idx_bytes)
    progress.last_row = content[-site.row_length :]
    return scan_rows(*decode_rows(content, site.offset_width), superblock.version, progress)


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
