"""CRC-32C of two pieces from those of each: pieces of a shard are summed by different threads."""

from __future__ import annotations

from functools import lru_cache

from volumed.formats.checksum import crc32c

__all__ = ["joined_crc"]

_BITS = 32


def joined_crc(first: int, second: int, second_length: int) -> int:
    """The checksum of a piece followed by another one."""
    # What the first piece contributes is a linear function of its checksum, which depends on the length alone.
    for bit, moved in enumerate(_moved_bits(second_length)):
        if first >> bit & 1:
            second ^= moved
    return second


@lru_cache(maxsize=64)
def _moved_bits(length: int) -> tuple[int, ...]:
    """What becomes of each bit of a checksum when so many bytes follow."""
    zeros = bytes(length)
    empty = crc32c(zeros)
    return tuple(crc32c(zeros, 1 << bit) ^ empty for bit in range(_BITS))
