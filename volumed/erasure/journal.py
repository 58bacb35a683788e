"""`.ecj`: ids of needles that were deleted since the volume was encoded, 8 bytes each; a set
(docs/spec/erasure-coding.md 3.3)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from struct import Struct

from volumed.erasure.errors import BadEcIndex

__all__ = ["ID_LENGTH", "decode_journal", "decode_whole_journal", "encode_journal", "news"]

_ID = Struct(">Q")
ID_LENGTH = _ID.size


def decode_journal(content: bytes) -> list[int]:
    """The ids in the order of the file. An id that is cut short at the end was never acknowledged: left out."""
    whole = len(content) - len(content) % ID_LENGTH
    return [key for (key,) in _ID.iter_unpack(memoryview(content)[:whole])]


def decode_whole_journal(content: bytes) -> list[int]:
    """The same before the journal is removed. Raises `BadEcIndex` when an id is cut short."""
    if len(content) % ID_LENGTH:
        raise BadEcIndex.torn_journal()
    return decode_journal(content)


def encode_journal(keys: Iterable[int]) -> bytes:
    """The bytes to append."""
    return b"".join(map(_ID.pack, keys))


def news(known: Collection[int], received: Iterable[int]) -> list[int]:
    """What a peer's journal adds to ours, each id once, in the peer's order (rule R1)."""
    seen = set(known)
    return [key for key in dict.fromkeys(received) if key not in seen]
