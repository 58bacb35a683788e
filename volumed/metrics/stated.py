"""A metric's value as the supervisor states it."""

from __future__ import annotations

from typing import NamedTuple

from volumed.metrics.families import Family

__all__ = ["Stated"]


class Stated(NamedTuple):
    """One sample; ``labels`` are the values of the family's labels, in their order."""

    family: Family
    labels: tuple[str, ...]
    value: float
