"""The rows of an index, and whether they can all be true: no two records share a byte (docs/spec/grpc.md 3.29)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volumed.formats.idx import decode_rows
from volumed.formats.needle import padding_length, record_length

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FINDINGS_MAX", "IndexRows", "overlaps"]

FINDINGS_MAX = 10_000
"""Of one volume; who has more has no use for them."""


class IndexRows(NamedTuple):
    """All rows of an index, in file order."""

    keys: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int32]
    lengths: NDArray[np.int64]
    """Of the records, in bytes; 0 for a deletion that has none."""

    @classmethod
    def decode(cls, content: bytes, width: int, version: int) -> IndexRows:
        """``content`` are whole rows with offsets of ``width`` bytes."""
        import numpy as np

        keys, offsets, sizes = decode_rows(content, width)
        fixed = record_length(0, version) - padding_length(0, version)
        lengths = (np.maximum(sizes, 0).astype(np.int64) + fixed | 7) + 1
        lengths[(offsets == 0) & (sizes < 0)] = 0
        return cls(keys, offsets, sizes, lengths)


def overlaps(rows: IndexRows) -> list[str]:
    """Records that begin before the one in front of them ends."""
    import numpy as np

    stored = np.flatnonzero(rows.lengths)
    order = stored[np.argsort(rows.offsets[stored], kind="stable")]
    starts, ends = rows.offsets[order], rows.offsets[order] + rows.lengths[order] - 1
    return [
        f"needle {rows.keys[order[at]]} (#{order[at] + 1}) at [{starts[at]}-{ends[at]}] overlaps "
        f"needle {rows.keys[order[at - 1]]} at [{starts[at - 1]}-{ends[at - 1]}]"
        for at in np.flatnonzero(starts[1:] <= ends[:-1])[:FINDINGS_MAX] + 1
    ]
