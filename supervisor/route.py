"""Which master to stream to next, and after which pause (docs/spec/grpc.md 2.2, 2.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from volumed.config.address import http_address

if TYPE_CHECKING:
    from volumed.wire.master_pb2 import HeartbeatResponse

__all__ = ["Attempt", "DuplicateDirectories", "MasterRoute", "StreamEnd", "stream_end"]

_RETRY_DELAY_S = 5.0
_REDIRECT_DELAY_S = 3.0
_DUPLICATE_DELAYS_S = (2.0, 4.0, 8.0)


class Attempt(NamedTuple):
    """Where to connect, after a pause in seconds."""

    target: str
    delay_s: float


class StreamEnd(NamedTuple):
    """Why the node ends a stream itself: its directories are somebody else's, or another master leads."""

    duplicate: bool = False
    leader: str = ""


def stream_end(response: HeartbeatResponse, target: str) -> StreamEnd | None:
    """What a response means for the stream to ``target`` (section 2.6); None to go on."""
    if response.duplicated_uuids:
        return StreamEnd(duplicate=True)
    if response.leader and http_address(response.leader) != http_address(target):
        return StreamEnd(leader=response.leader)
    return None


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

    def ended(self, end: StreamEnd | None) -> None:
        """A stream ended by itself (None) or because of a response. Raises `DuplicateDirectories` the fourth time in a
        row that it was because of directories."""
        if end is not None and end.duplicate:
            self._refused_as_duplicate()
            return
        self._leader = end.leader if end is not None else ""
        self._delay_s = _REDIRECT_DELAY_S if self._leader else _RETRY_DELAY_S
        self._duplicates = 0

    def _refused_as_duplicate(self) -> None:
        if self._duplicates == len(_DUPLICATE_DELAYS_S):
            raise DuplicateDirectories
        self._leader = ""
        self._delay_s = _DUPLICATE_DELAYS_S[self._duplicates]
        self._duplicates += 1
