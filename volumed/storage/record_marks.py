"""What tells records of a `.dat` apart without reading their data: the ends of many records, in few reads.

Pieces that lie close together are read with what is between them: small records as one long run, large ones by their
two ends.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from volumed.erasure.columns import Progress
from volumed.formats.needle import padding_length, record_length
from volumed.storage.fileio import File, FileIO

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["RecordMarks", "read_marks"]

_PIECE = 16
_GAP_BYTES = 64 << 10
_BLOCK_BYTES = 4 << 20

_HEAD = [("cookie", ">u4"), ("key", ">u8"), ("size", ">i4")]
_TAIL_UNTIMED = [("before", "V12"), ("checksum", ">u4")]
_TAIL_TIMED = [("before", "V4"), ("checksum", ">u4"), ("time", ">u8")]
_TIMED_VERSION = 3


class RecordMarks(NamedTuple):
    """One element per record."""

    cookies: NDArray[np.uint32]
    keys: NDArray[np.uint64]
    sizes: NDArray[np.int32]
    checksums: NDArray[np.uint32]
    times: NDArray[np.uint64]
    """When it was appended, in ns; 0: it does not say it."""

    def are_of(self, keys: NDArray[np.uint64], sizes: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether there are the records of those rows at all."""
        found: NDArray[np.bool_] = (self.keys == keys) & (self.sizes == sizes)
        return found

    def are_same(self, others: RecordMarks) -> NDArray[np.bool_]:
        """Whether each is a copy of the other. A volume gives no time twice; without times cookie and checksum count,
        which a damaged copy may have wrong."""
        is_alike = (self.cookies == others.cookies) & (self.checksums == others.checksums)
        found: NDArray[np.bool_] = (self.times == others.times) & ((self.times != 0) | is_alike)
        return found


def read_marks(
    files: FileIO, dat: File, offsets: NDArray[np.int64], sizes: NDArray[np.int32], version: int, progress: Progress
) -> RecordMarks:
    """Of records at those places, with those sizes; about 100 bytes of memory each. Raises `OSError`,
    `EcInterrupted`."""
    import numpy as np

    ends = offsets + sizes + (record_length(0, version) - padding_length(0, version))
    pieces = _read_pieces(files, dat, np.concatenate((offsets, ends - _PIECE)), progress)
    heads = pieces[: len(offsets)].view(_HEAD)[:, 0]
    is_timed = version == _TIMED_VERSION
    tails = pieces[len(offsets) :].view(_TAIL_TIMED if is_timed else _TAIL_UNTIMED)[:, 0]
    times = tails["time"] if is_timed else np.zeros(len(offsets), np.uint64)
    return RecordMarks(heads["cookie"], heads["key"], heads["size"], tails["checksum"], times)


def _read_pieces(files: FileIO, dat: File, starts: NDArray[np.int64], progress: Progress) -> NDArray[np.uint8]:
    """One row of `_PIECE` bytes per place; behind the end of the file there are zeros."""
    import numpy as np

    order = np.argsort(starts, kind="stable")
    starts = starts[order]
    pieces = np.empty((len(starts), _PIECE), np.uint8)
    is_first = (np.diff(starts) > _GAP_BYTES) | (np.diff(starts // _BLOCK_BYTES) != 0)
    edges = [0, *(np.flatnonzero(is_first) + 1).tolist(), len(starts)]
    for first, last in pairwise(edges):
        progress.require_running()
        begin, end = int(starts[first]), int(starts[last - 1]) + _PIECE
        block = files.read_at(dat, begin, end - begin).ljust(end - begin, b"\0")
        every = np.lib.stride_tricks.sliding_window_view(np.frombuffer(block, np.uint8), _PIECE)
        pieces[order[first:last]] = every[starts[first:last] - begin]
    return pieces
