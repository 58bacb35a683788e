"""The erasure code of a volume: k data and m parity shards (docs/spec/erasure-coding.md 1).

Everything works on columns: buffers of one length, one per shard, of the same place in every shard.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from volumed.erasure.errors import BadEcConfig
from volumed.erasure.galois import encoding_matrix, recovery_matrix
from volumed.erasure.multiply import Buffer, Multiplier, WritableBuffer, multiplier

__all__ = ["DEFAULT_RATIO", "SHARDS_MAX", "ErasureCode", "Ratio", "Recovery", "erasure_code"]

SHARDS_MAX = 32
"""Shard ids are bits of a 32-bit word on the wire."""
_RECOVERIES_KEPT = 256
"""Of one ratio, for the next reads that have lost the same shards; about 1 KB each with the library."""


class Ratio(NamedTuple):
    """How many shards there are."""

    data: int
    parity: int

    @property
    def total(self) -> int:
        """Data and parity shards."""
        return self.data + self.parity

    def check(self) -> Ratio:
        """Itself. Raises `BadEcConfig`."""
        if self.data <= 0 or self.parity <= 0 or self.total > SHARDS_MAX:
            raise BadEcConfig.ratio(*self)
        return self

    def __str__(self) -> str:
        return f"{self.data}+{self.parity}"


DEFAULT_RATIO = Ratio(10, 4)


class Recovery(NamedTuple):
    """How to compute some shards from others."""

    sources: tuple[int, ...]
    """Shard ids in the order in which `compute` wants their columns."""
    wanted: tuple[int, ...]
    engine: Multiplier
    prepared: Any

    def compute(self, sources: Sequence[Buffer], targets: Sequence[WritableBuffer]) -> None:
        """Fill one target per wanted shard."""
        self.engine.multiply(self.prepared, sources, targets)


class ErasureCode:
    """Encodes and recovers with one ratio. Immutable, for any number of threads."""

    def __init__(self, ratio: Ratio, engine: Multiplier | None = None) -> None:
        """Raises `BadEcConfig`."""
        self.ratio = ratio.check()
        self._engine = engine or multiplier()
        self._parity = self._engine.prepare(encoding_matrix(*ratio)[ratio.data :])
        self._recovery = lru_cache(_RECOVERIES_KEPT)(self._prepare)

    def encode(self, data: Sequence[Buffer], parity: Sequence[WritableBuffer]) -> None:
        """Fill the parity columns from the data columns."""
        self._engine.multiply(self._parity, data, parity)

    def recovery(self, present: Collection[int], wanted: Collection[int]) -> Recovery:
        """How to compute the wanted shards, data or parity, from the first k that are present.

        Raises `ValueError` when fewer are present: callers say it in their own words before.
        """
        sources = tuple(sorted(present)[: self.ratio.data])
        if len(sources) < self.ratio.data:
            raise ValueError(f"{len(sources)} shards of {self.ratio.data}")
        return self._recovery(sources, tuple(wanted))

    def recover(self, columns: Mapping[int, Buffer], wanted: Sequence[int]) -> list[bytearray]:
        """The columns of the wanted shards, at least one, from those of any k others. Raises `ValueError` like
        `recovery`."""
        recovery = self.recovery(columns, wanted)
        length = len(columns[recovery.sources[0]])
        targets = [bytearray(length) for _ in wanted]
        if length:
            recovery.compute([columns[shard] for shard in recovery.sources], targets)
        return targets

    def _prepare(self, sources: tuple[int, ...], wanted: tuple[int, ...]) -> Recovery:
        matrix = recovery_matrix(*self.ratio, sources, wanted)
        return Recovery(sources, wanted, self._engine, self._engine.prepare(matrix))


@lru_cache(maxsize=32)
def erasure_code(ratio: Ratio) -> ErasureCode:
    """The code of a ratio with the best multiplier. Raises `BadEcConfig`."""
    return ErasureCode(ratio)
