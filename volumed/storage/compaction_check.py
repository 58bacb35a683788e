"""Are the records of a block in order? Checked for all of them at once, since a vacuum reads every record.

Only the checksum takes a step of Python per record. What is out of the ordinary in any way (damage, a TTL, a checksum
of the old masked form) is not judged here: `volumed.formats.needle.decode_record` then has the last word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volumed.formats.checksum import crc32c
from volumed.formats.needle import (
    FLAG_LAST_MODIFIED,
    FLAG_MIME,
    FLAG_NAME,
    FLAG_PAIRS,
    FLAG_TTL,
    HEADER_LENGTH,
    PAGED_HEAD_LENGTH,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Positions = NDArray[np.int64]
    Bytes = NDArray[np.uint8]
    Mask = NDArray[np.bool_]

__all__ = ["plainly_intact"]

_SIZE_AT = 12
_TIME_LENGTH = 5


def plainly_intact(data: bytes, starts: Positions, sizes: NDArray[np.int32], version: int) -> Mask:
    """Which records are beyond doubt what their rows say, and have no TTL. ``data`` hold every record as a whole, at
    ``starts``, with the sizes S of their rows."""
    import numpy as np

    block = np.frombuffer(data, np.uint8)
    body_ends = starts + HEADER_LENGTH + sizes
    good = np.equal(_numbers(block, starts + _SIZE_AT), sizes)
    filled = np.flatnonzero(good & (sizes > 0))
    good[filled] = _intact_bodies(block, starts[filled] + HEADER_LENGTH, body_ends[filled], version)
    return good


def _intact_bodies(block: Bytes, starts: Positions, ends: Positions, version: int) -> Mask:
    """For bodies that are not empty, each with its footer behind it."""
    import numpy as np

    stored = _numbers(block, ends)
    if version == 1:
        return np.equal(_checksums(block, starts, ends), stored)
    data_starts = starts + PAGED_HEAD_LENGTH - HEADER_LENGTH
    data_ends = data_starts + _numbers(block, starts)
    good: Mask = data_ends <= ends
    data_ends[~good] = data_starts[~good]
    good &= _plain_metas(block, data_ends, ends)
    data_ends[~good] = data_starts[~good]
    good &= _checksums(block, data_starts, data_ends) == stored
    return good


def _plain_metas(block: Bytes, at: Positions, ends: Positions) -> Mask:
    """Whether flags and optional parts lie within the body; it may end after any complete part. With a TTL: no."""
    import numpy as np

    def byte(position: Positions) -> Positions:
        return block[np.minimum(position, len(block) - 1)].astype(np.int64)

    has_flags = at < ends
    flags = np.where(has_flags, byte(at), 0)
    at = at + has_flags
    for flag in (FLAG_NAME, FLAG_MIME):
        at = at + np.where((flags & flag != 0) & (at < ends), 1 + byte(at), 0)
    at = at + np.where((flags & FLAG_LAST_MODIFIED != 0) & (at < ends), _TIME_LENGTH, 0)
    pairs_length = (byte(at) << 8) + byte(at + 1)
    at = at + np.where((flags & FLAG_PAIRS != 0) & (at < ends), 2 + pairs_length, 0)
    plain: Mask = (at <= ends) & (flags & FLAG_TTL == 0)
    return plain


def _checksums(block: Bytes, starts: Positions, ends: Positions) -> Positions:
    import numpy as np

    view = block.data
    found = [crc32c(view[start:end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    return np.array(found, dtype=np.int64)


def _numbers(block: Bytes, at: Positions) -> Positions:
    """The 32-bit numbers at some places."""
    import numpy as np

    numbers: NDArray[np.uint32] = block[at[:, None] + np.arange(4)].view(">u4")[:, 0]
    return numbers.astype(np.int64)
