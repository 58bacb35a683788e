"""A vacuum's long part: the live records of a volume, in key order, into `.cpd` and `.cpx` (docs/spec/storage.md 7.2).

Runs on a thread of its own beside reads and writes of the volume, and changes nothing but these two files. What it
must know of the volume is taken when it is made, on the loop thread. Rows that are written from then on are replayed by
the commit (``volumed.storage.compaction_commit``), so it matters to nobody in which moment a record is copied.

Blocks of records are read in as few pieces as possible, checked together and written as they were, padding included.
Memory: about 50 bytes per row of the index while planning, then 20 per live needle and one block.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from volumed.errors import CompactionError, CorruptNeedle, NoFreeSpace
from volumed.formats.checksum import crc32c, matches
from volumed.formats.idx import encode_rows
from volumed.formats.needle import Needle, decode_record, record_length
from volumed.storage.compaction_check import plainly_intact
from volumed.storage.compaction_plan import LiveNeedles, cut_in_blocks, has_expired_for_good, plan_spans
from volumed.storage.compaction_rows import read_live_needles
from volumed.storage.fileio import Buffer, File, disk_error
from volumed.storage.index_scan import record_lengths
from volumed.storage.long_record import read_layout
from volumed.storage.map_records import VolumeProgress
from volumed.storage.throttle import Throttle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from volumed.storage.volume import Volume

__all__ = ["Compacted", "Compaction"]

_log = logging.getLogger(__name__)

_BLOCK_BYTES = 4 << 20
_BLOCK_BYTES_MIN = 64 << 10
_BLOCKS_PER_S = 20
_GAP_BYTES = 4 << 10
"""Reading over a short gap costs less than another read; a block never takes more than twice its size or so."""
_SYNC_BYTES = 256 << 20
"""Written data go to the disk after so many bytes: one flush of all at the end would hold up everybody for long."""
_LOGGED_DROPS_MAX = 20


@dataclass(slots=True)
class Compacted:
    """`.cpd` and `.cpx` as they are now, and how far they have followed the volume."""

    dat: File
    idx: File
    dat_end: int
    progress: VolumeProgress
    """Of the new files."""
    followed: int
    """Bytes of the volume's `.idx` that they stand for."""

    def close(self) -> None:
        """Let go of the files."""
        del self.dat, self.idx


class _Block(NamedTuple):
    """Records in memory. ``starts`` are their places in ``data``."""

    data: bytes
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


class Compaction:
    """One run over one volume. Made on the loop thread; `run` is for another, `stop` for any."""

    def __init__(self, volume: Volume, preallocate_bytes: int, bytes_per_s: int) -> None:
        self.volume = volume
        self.generation = volume.generation
        """A volume of another generation has lost rows that may be in the new files."""
        self.processed_bytes = 0
        """Offset in the old `.dat` of what is being copied."""
        self._files = volume.site.files
        self._width = volume.site.offset_width
        self._dat, self._idx = volume.dat, volume.idx
        self._dat_end = self.total_bytes = volume.dat_end
        self._idx_bytes = volume.progress.idx_bytes
        counters = volume.progress.counters
        self._content_bytes = counters.content_bytes - counters.deleted_bytes
        self.superblock = replace(
            volume.superblock, compaction_revision=volume.superblock.compaction_revision + 1 & 0xFFFF
        )
        self._preallocate_bytes = preallocate_bytes
        self._now_ns = time.time_ns()
        self._stopped = threading.Event()
        self._throttle = Throttle(bytes_per_s, self._stopped.wait)
        fair = max(_BLOCK_BYTES_MIN, bytes_per_s // _BLOCKS_PER_S)
        self._block_bytes = min(_BLOCK_BYTES, fair) if bytes_per_s else _BLOCK_BYTES
        self._dropped_bytes = 0
        self._drops = 0
        self._unsynced = 0

    def stop(self) -> None:
        """End `run` at the next block; it raises `CompactionError` then."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Nobody wants the result."""
        return self._stopped.is_set()

    @property
    def drops(self) -> int:
        """Live needles that are left out because they cannot be read."""
        return self._drops

    def require_running(self) -> None:
        """Raises `CompactionError` after `stop`."""
        if self.stopped:
            raise CompactionError.interrupted()

    def close(self) -> None:
        """Let go of the old files, for good when the volume has others now: freeing a large file takes time, so not
        on the loop thread."""
        del self._dat, self._idx

    def run(self) -> Compacted:
        """Copy. Raises `VolumedError`; then both files are gone."""
        self._require_space()
        try:
            new = self._create_files()
            self._copy_all(new)
            self._require_expected_size(new)
            for file in (new.dat, new.idx):
                self._files.sync(file)
        except OSError as error:
            self.discard()
            raise disk_error("cannot hydrate needle from file", error) from error
        except Exception:
            self.discard()
            raise
        if self._drops:
            _log.warning("volume %d: %d unreadable needles are left out", self.volume.volume_id, self._drops)
        return new

    def discard(self) -> None:
        """Remove both files."""
        self.remove_files(self.volume)

    @staticmethod
    def remove_files(volume: Volume) -> None:
        """Remove what a compaction wrote. What cannot be removed is logged, and goes when the disk is opened next."""
        for path in (volume.paths.data(".cpd"), volume.paths.index(".cpx")):
            try:
                volume.site.files.remove(path)
            except OSError as error:
                _log.error("volume %d: %s", volume.volume_id, error)

    # Steps

    def _require_space(self) -> None:
        wanted = max(self._preallocate_bytes, self._dat_end + self._idx_bytes)
        try:
            free = self._files.space(self.volume.paths.data_directory).free_bytes
        except OSError as error:
            raise disk_error("statfs", error) from error
        if free < wanted:
            raise NoFreeSpace.for_compaction(self.volume.volume_id, wanted, self._dat_end, self._idx_bytes, free)

    def _create_files(self) -> Compacted:
        paths, files = self.volume.paths, self._files
        dat_path, idx_path, marker = paths.data(".cpd"), paths.index(".cpx"), paths.data(".cpc")
        if files.exists(marker):
            # With it in place a crash would turn a half-written copy into the volume.
            if files.exists(dat_path) or files.exists(idx_path):
                raise CompactionError.committing(self.volume.volume_id)
            files.remove(marker)
            files.sync_directory(paths.data_directory)
        dat, idx = files.open(dat_path, create=True), files.open(idx_path, create=True)
        for file in (dat, idx):
            files.truncate(file, 0)
        if self._preallocate_bytes:
            files.reserve(dat, self._preallocate_bytes)
        files.write_at(dat, 0, [self.superblock.encode()])
        progress = VolumeProgress(compaction_revision=self.superblock.compaction_revision)
        return Compacted(dat, idx, self.superblock.length, progress, self._idx_bytes)

    def _plan(self) -> LiveNeedles:
        live = read_live_needles(self._files, self._idx, self._idx_bytes, self._width)
        if live is None:
            found = self._files.size(self._idx)
            raise CompactionError.unexpected_size(self.volume.volume_id, found, self._idx_bytes)
        return live

    def _copy_all(self, new: Compacted) -> None:
        version = self.superblock.version
        live = self._plan()
        lengths = record_lengths(live.sizes, version)
        live, lengths = self._without_cut_off(live, lengths)
        for part in cut_in_blocks(lengths, self._block_bytes):
            self.require_running()
            needles = live.take(part)
            self.processed_bytes = int(needles.offsets[-1])
            written = self._copy_block(new, needles, lengths[part])
            self._sync_now_and_then(new, written)
            self._throttle.spend(written)

    def _without_cut_off(self, live: LiveNeedles, lengths: NDArray[np.int64]) -> tuple[LiveNeedles, NDArray[np.int64]]:
        """Needles whose records end within the file."""
        is_whole = live.offsets + lengths <= self._files.size(self._dat)
        for offset, size in zip(live.offsets[~is_whole].tolist(), live.sizes[~is_whole].tolist(), strict=True):
            self._drop_damaged(offset, size, CorruptNeedle.eof())
        return live.take(is_whole), lengths[is_whole]

    def _copy_block(self, new: Compacted, needles: LiveNeedles, lengths: NDArray[np.int64]) -> int:
        """Copy some records, one if it is long; how many bytes they were."""
        import numpy as np

        if lengths[0] > _BLOCK_BYTES:
            keep = np.array([self._copy_long(new, int(needles.offsets[0]), int(needles.sizes[0]))])
        else:
            block = self._read_block(needles, lengths)
            keep = self._to_keep(block, needles)
            self._files.write_at(new.dat, new.dat_end, _pieces(block, keep))
        written = int(lengths[keep].sum())
        if written:
            self._append_rows(new, needles.take(keep), lengths[keep])
        return written

    def _read_block(self, needles: LiveNeedles, lengths: NDArray[np.int64]) -> _Block:
        import numpy as np

        spans = plan_spans(needles.offsets, lengths, _GAP_BYTES)
        span_lengths = spans.ends - spans.starts
        parts = [
            self._read(start, length)
            for start, length in zip(spans.starts.tolist(), span_lengths.tolist(), strict=True)
        ]
        places = np.cumsum(span_lengths) - span_lengths - spans.starts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        return _Block(data, needles.offsets + places[spans.of_record], lengths)

    def _to_keep(self, block: _Block, needles: LiveNeedles) -> NDArray[np.bool_]:
        import numpy as np

        keep = plainly_intact(block.data, block.starts, needles.sizes, self.superblock.version)
        view = memoryview(block.data)
        for index in np.flatnonzero(~keep).tolist():
            start, size = int(block.starts[index]), int(needles.sizes[index])
            record = view[start : start + int(block.lengths[index])]
            keep[index] = self._is_kept(record, size, int(needles.offsets[index]))
        return keep

    def _is_kept(self, record: Buffer, size: int, offset: int) -> bool:
        try:
            needle = decode_record(record, self.superblock.version, size, offset)
        except CorruptNeedle as error:
            self._drop_damaged(offset, size, error)
            return False
        return not self._has_expired(needle)

    def _copy_long(self, new: Compacted, offset: int, size: int) -> bool:
        """Copy a record piece by piece; whether it counts."""
        version = self.superblock.version
        length = record_length(size, version)
        try:
            layout = read_layout(self._read, version, size, offset)
            if self._has_expired(layout.needle):
                return False
            checksum = 0
            for at in range(0, length, _BLOCK_BYTES):
                self.require_running()
                piece = self._read(offset + at, min(_BLOCK_BYTES, length - at))
                self._files.write_at(new.dat, new.dat_end + at, [piece])
                data = memoryview(piece)[max(0, layout.data_start - at) : max(0, layout.data_end - at)]
                checksum = crc32c(data, checksum)
            if not matches(checksum, layout.needle.checksum):
                raise CorruptNeedle.crc(layout.needle.key, checksum, layout.needle.checksum)
        except CorruptNeedle as error:
            self._drop_damaged(offset, size, error)
            return False
        return True

    def _append_rows(self, new: Compacted, kept: LiveNeedles, lengths: NDArray[np.int64]) -> None:
        """Rows of records that were written at the end, and what they change."""
        import numpy as np

        ends = new.dat_end + np.cumsum(lengths)
        offsets = ends - lengths
        rows = encode_rows(kept.keys, offsets, kept.sizes, self._width)
        progress, counters = new.progress, new.progress.counters
        self._files.write_at(new.idx, progress.idx_bytes, [rows])
        progress.idx_bytes += len(rows)
        progress.last_row = rows[-self.volume.site.row_length :]
        counters.file_count += len(lengths)
        counters.content_bytes += int(kept.sizes.sum(dtype=np.int64))
        progress.max_key = progress.tail_key = int(kept.keys[-1])
        progress.tail_offset, progress.tail_size = int(offsets[-1]), int(kept.sizes[-1])
        filled = ends[kept.sizes > 0]
        if len(filled):
            progress.max_record_end = int(filled[-1])
        new.dat_end = int(ends[-1])

    def _sync_now_and_then(self, new: Compacted, written: int) -> None:
        self._unsynced += written
        if self._unsynced >= _SYNC_BYTES:
            self._files.sync(new.dat)
            self._unsynced = 0

    def _read(self, offset: int, length: int) -> bytes:
        data = self._files.read_at(self._dat, offset, length)
        if len(data) < length:
            raise CorruptNeedle.eof()
        return data

    def _require_expected_size(self, new: Compacted) -> None:
        """What the counters say must be there. In a volume with a TTL needles go for their age."""
        expected = self._content_bytes - self._dropped_bytes
        if not self.superblock.ttl and new.dat_end < expected:
            raise CompactionError.unexpected_size(self.volume.volume_id, new.dat_end, expected)

    def _has_expired(self, needle: Needle) -> bool:
        expired = has_expired_for_good(needle, self.superblock.ttl, self._now_ns)
        if expired:
            self._dropped_bytes += needle.size
        return expired

    def _drop_damaged(self, offset: int, size: int, error: CorruptNeedle) -> None:
        self._dropped_bytes += size
        self._drops += 1
        if self._drops <= _LOGGED_DROPS_MAX:
            volume_id = self.volume.volume_id
            _log.warning("volume %d: the needle at %d is left out: %s", volume_id, offset, error.text)


def _pieces(block: _Block, keep: NDArray[np.bool_]) -> list[Buffer]:
    """The kept records; those that lie one behind the other in one piece."""
    import numpy as np

    starts = block.starts[keep]
    ends = starts + block.lengths[keep]
    breaks = np.flatnonzero(starts[1:] != ends[:-1]) + 1
    edges = np.concatenate(([0], breaks, [len(starts)])) if len(starts) else np.array([0])
    view = memoryview(block.data)
    return [
        view[start:end] for start, end in zip(starts[edges[:-1]].tolist(), ends[edges[1:] - 1].tolist(), strict=True)
    ]
