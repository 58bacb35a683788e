"""Where the bytes of a `.dat` lie in the shards: pure arithmetic (docs/spec/erasure-coding.md 2).

A `.dat` is cut in rows of k blocks; block *b* of a row is appended to data shard *b*. In the *uniform* layout all
blocks have one recorded size, and the writer chooses it so that there is exactly one row: every data shard is one
piece of the `.dat`. The *legacy* layout, of 4.44 and before, has rows of 1 GiB blocks and then rows of 1 MiB blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from volumed.erasure.code import Ratio
from volumed.erasure.errors import BadEcConfig

__all__ = ["MIB", "Interval", "Layout", "check_block_size", "uniform_block_size"]

MIB = 1 << 20
_LEGACY_LARGE = 1 << 30
_LEGACY_SMALL = MIB


class Interval(NamedTuple):
    """A piece of one shard, in bytes."""

    shard: int
    offset: int
    length: int


def uniform_block_size(dat_size: int, data_shards: int) -> int:
    """Block size that a new encode of so many bytes uses."""
    return max(1, -(-dat_size // (data_shards * MIB))) * MIB


def check_block_size(block_size: int) -> int:
    """Itself. Raises `BadEcConfig` unless it is 0 (legacy) or a multiple of 1 MiB."""
    if block_size < 0 or block_size % MIB:
        raise BadEcConfig.block_size(block_size)
    return block_size


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of one volume."""

    ratio: Ratio
    block_size: int
    """0: legacy."""
    dat_size: int
    """Bytes of the `.dat` when it was encoded."""

    @classmethod
    def for_encoding(cls, ratio: Ratio, dat_size: int) -> Layout:
        """That of a new encode."""
        return cls(ratio, uniform_block_size(dat_size, ratio.data), dat_size)

    @classmethod
    def of_shards(cls, ratio: Ratio, block_size: int, shard_length: int) -> Layout:
        """When the size of the `.dat` is unknown. The legacy layout is then ambiguous where a shard ends with a large
        block; the one less takes such a block for small ones, as the reference does."""
        return cls(ratio, block_size, max(0, shard_length - 1) * ratio.data)

    @property
    def large(self) -> int:
        """Bytes of a block in the first rows."""
        return self.block_size or _LEGACY_LARGE

    @property
    def small(self) -> int:
        """Bytes of a block in the rows behind them."""
        return self.block_size or _LEGACY_SMALL

    @property
    def large_rows(self) -> int:
        """How many rows have large blocks."""
        return self.dat_size // (self.large * self.ratio.data)

    @property
    def shard_length(self) -> int:
        """Bytes of every shard."""
        rest = self.dat_size - self.large_rows * self.large * self.ratio.data
        return self.large_rows * self.large + -(-rest // (self.small * self.ratio.data)) * self.small

    def intervals(self, offset: int, length: int) -> Iterator[Interval]:
        """The pieces of shards that hold bytes of the `.dat`, in the order of the `.dat`. Bytes behind its end are
        located as if the rows went on."""
        end = offset + length
        while offset < end:
            shard, at, left = self._locate(offset)
            taken = min(left, end - offset)
            yield Interval(shard, at, taken)
            offset += taken

    def dat_offset(self, shard: int, offset: int) -> int:
        """Where the byte of a data shard comes from: the inverse of `intervals`."""
        large_end = self.large_rows * self.large
        if offset < large_end:
            row, inner = divmod(offset, self.large)
            return (row * self.ratio.data + shard) * self.large + inner
        row, inner = divmod(offset - large_end, self.small)
        return large_end * self.ratio.data + (row * self.ratio.data + shard) * self.small + inner

    def _locate(self, offset: int) -> tuple[int, int, int]:
        """(shard, offset there, bytes from there to the end of the block)."""
        large_end = self.large_rows * self.large
        rest = offset - large_end * self.ratio.data
        start, size, at = (large_end, self.small, rest) if rest >= 0 else (0, self.large, offset)
        block, inner = divmod(at, size)
        row, shard = divmod(block, self.ratio.data)
        return shard, start + row * size + inner, size - inner
