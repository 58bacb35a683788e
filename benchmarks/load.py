"""What a load generator reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Load", "LoadError", "percentile"]


class LoadError(Exception):
    """A load did not run, or some of its requests failed: its figures would mean nothing."""


class Load(NamedTuple):
    """One run of a load."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 … 1) of the ``ordered`` values lie. Raises IndexError if there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
