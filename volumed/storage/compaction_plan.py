"""Which records a vacuum copies, and in which pieces: pure arithmetic on arrays (docs/spec/storage.md 7.1, 7.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from volumed.formats.needle import Needle
from volumed.formats.superblock import SUPERBLOCK_LENGTH
from volumed.formats.ttl import Ttl
from volumed.storage.map_records import Counters

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "LiveNeedles",
    "Spans",
    "cut_in_blocks",
    "garbage_ratio",
    "has_expired_for_good",
    "live_needles",
    "plan_spans",
]

_NS_PER_S = 10**9


class LiveNeedles(NamedTuple):
    """One element per live needle, ascending keys; ``offsets`` in bytes, ``sizes`` S."""

    keys: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int32]

    def take(self, which: slice | NDArray[np.bool_]) -> LiveNeedles:
        """Some of them."""
        return LiveNeedles(self.keys[which], self.offsets[which], self.sizes[which])


class Spans(NamedTuple):
    """Pieces of a file that hold some records. ``of_record`` is the index of the piece of each record."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    of_record: NDArray[np.intp]


def garbage_ratio(counters: Counters, dat_bytes: int) -> float:
    """Share of what was ever put that is deleted (7.1)."""
    if not counters.content_bytes:
        return 0.0
    if counters.deleted_count and not counters.deleted_bytes:
        return (dat_bytes - counters.content_bytes - SUPERBLOCK_LENGTH) / dat_bytes
    return counters.deleted_bytes / counters.content_bytes


def live_needles(keys: NDArray[np.uint64], offsets: NDArray[np.int64], sizes: NDArray[np.int32]) -> LiveNeedles:
    """What all rows of an `.idx`, in their order, leave alive: later rows win."""
    last = _last_rows(keys)
    last = last[(offsets[last] != 0) & (sizes[last] >= 0)]
    return LiveNeedles(keys[last], offsets[last], sizes[last])


def _last_rows(keys: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Positions of the last row of each key, ascending keys."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    in_order = keys[order]
    is_last = np.ones(len(keys), dtype=bool)
    is_last[:-1] = in_order[1:] != in_order[:-1]
    return order[is_last]


def cut_in_blocks(lengths: NDArray[np.int64], block_bytes: int) -> Iterator[slice]:
    """Cut a row of records into runs of at most ``block_bytes``; a longer record is a run of its own."""
    import numpy as np

    ends = np.cumsum(lengths)
    first = done = 0
    while first < len(ends):
        last = max(first + 1, int(np.searchsorted(ends, done + block_bytes, side="right")))
        yield slice(first, last)
        first, done = last, int(ends[last - 1])


def plan_spans(starts: NDArray[np.int64], lengths: NDArray[np.int64], gap_bytes: int) -> Spans:
    """The pieces of a file to read for some records: neighbours that are at most ``gap_bytes`` apart go together."""
    import numpy as np

    order = np.argsort(starts, kind="stable")
    in_order = starts[order]
    reached = np.maximum.accumulate(in_order + lengths[order])
    is_first = np.ones(len(starts), dtype=bool)
    is_first[1:] = in_order[1:] - reached[:-1] > gap_bytes
    first = np.flatnonzero(is_first)
    of_record = np.empty(len(starts), dtype=np.intp)
    of_record[order] = np.cumsum(is_first) - 1
    return Spans(in_order[first], reached[np.append(first[1:], len(starts)) - 1], of_record)


def has_expired_for_good(needle: Needle, volume_ttl: Ttl, now_ns: int) -> bool:
    """Whether a vacuum leaves a needle out for its age: nobody can read it any more, and in a volume with a TTL that
    has passed too.

    DEVIATE: the reference looks at the volume's TTL alone, and so drops every needle with a TTL of its own from a
    volume without one (7.2).
    """
    if not needle.is_expired(now_ns):
        return False
    return not volume_ttl or now_ns >= (needle.last_modified + volume_ttl.seconds) * _NS_PER_S
