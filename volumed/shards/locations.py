"""Which servers have the shards of a volume, and for how long that may be believed: pure (erasure-coding.md 4.11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from volumed.bus.calls import Location
from volumed.erasure.code import Ratio

__all__ = ["ShardLocations"]

_ALL_S = 37 * 60.0
_DOUBTED_S = 1.0
"""How long it is believed that nobody has a shard, and what a failed read has put in doubt.

DEVIATE: the reference believes it for 11 s to 7 min, and meanwhile computes needles that are deleted where the shard
is.
"""
_RENEWED_S = 0.25
"""How soon the master is asked again when a read could not do with what it has said."""
_AHEAD_S = 0.25
"""How long before what is believed ends the master is asked again, so that reads which go on need not wait for it."""
_UNANSWERED_S = 2.0
"""How soon a master that did not answer is asked again."""


class ShardLocations:
    """What is known of one volume. Times are of any clock that only goes on, in seconds."""

    def __init__(self, ratio: Ratio) -> None:
        self._ratio = ratio
        self._known: dict[int, list[Location]] = {}
        self._asked_s = 0.0
        self._until_s = 0.0

    def is_fresh(self, now_s: float) -> bool:
        """Whether the master need not be asked."""
        return now_s < self._until_s

    def is_ending(self, now_s: float) -> bool:
        """Whether the master should be asked soon, by somebody who may wait."""
        return now_s >= max(self._until_s - _AHEAD_S, self._asked_s + _RENEWED_S)

    def learn(self, found: Mapping[int, Sequence[Location]], now_s: float) -> None:
        """The master has answered."""
        self._known = {shard: list(locations) for shard, locations in found.items() if locations}
        self._asked_s = now_s
        self._until_s = now_s + (_ALL_S if len(self._known) >= self._ratio.total else _DOUBTED_S)

    def not_answered(self, now_s: float) -> None:
        """The master could not be asked: what is known stays, for a moment."""
        self._asked_s = now_s
        self._until_s = now_s + _UNANSWERED_S

    def renew(self, now_s: float) -> float:
        """The master shall be asked again: shards move. How many seconds that must wait, so that it is not asked too
        often."""
        wait_s = max(0.0, self._asked_s + _RENEWED_S - now_s)
        self._until_s = min(self._until_s, now_s + wait_s)
        return wait_s

    def of(self, shard: int) -> list[Location]:
        """The servers that have a shard, as far as known."""
        return list(self._known.get(shard, ()))

    def failed(self, shard: int, location: Location, now_s: float, *, recovers: bool) -> None:
        """A read from there failed: the master is asked again soon, and a server that was only to help to recover
        another shard is left alone until then."""
        self._until_s = min(self._until_s, now_s + _DOUBTED_S)
        if recovers:
            self._known[shard] = [known for known in self._known.get(shard, ()) if known != location]
