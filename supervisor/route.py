"""Which master to stream to next, and after which pause (docs/spec/grpc.md 2.2, 2.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Attempt", "DuplicateDirectories", "MasterRoute"]

_RETRY_DELAY_S = 5.0
_REDIRECT_DELAY_S = 3.0
_DUPLICATE_DELAYS_S = (2.0, 4.0, 8.0)


class Attempt(NamedTuple):
    """Where to connect, after a pause in seconds."""

    target: str
    delay_s: float


class DuplicateDirectories(Exception):
    """Another server keeps announcing this node's directories; the process exits with status 1."""


class MasterRoute:
    """Told how each stream ended, says where the next one goes. Every attempt consumes one seed, also one that
    follows a redirect."""

    def __init__(self, seeds: Sequence[str]) -> None:
        self._seeds = tuple(seeds)
        self._position = 0
        self._leader = ""
        self._delay_s = 0.0
        self._duplicates = 0

    def next(self) -> Attempt:
        """The next attempt."""
        seed = self._seeds[self._position % len(self._seeds)]
        self._position += 1
        return Attempt(self._leader or seed, self._delay_s)

    def redirected(self, leader: str) -> None:
        """The stream ended with the name of another master."""
        self._leader = leader
        self._delay_s = _REDIRECT_DELAY_S
        self._duplicates = 0

    def failed(self) -> None:
        """The stream ended with an error."""
        self._leader = ""
        self._delay_s = _RETRY_DELAY_S
        self._duplicates = 0

    def refused_as_duplicate(self) -> None:
        """The master knows another server with the same directories. Raises `DuplicateDirectories` the fourth time
        in a row."""
        if self._duplicates == len(_DUPLICATE_DELAYS_S):
            raise DuplicateDirectories
        self._leader = ""
        self._delay_s = _DUPLICATE_DELAYS_S[self._duplicates]
        self._duplicates += 1
