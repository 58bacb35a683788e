"""When a volume with a TTL has expired, and when it may be destroyed (docs/spec/storage.md 5.9)."""

from __future__ import annotations

import enum

from volumed.formats.superblock import SUPERBLOCK_LENGTH
from volumed.formats.ttl import Ttl

__all__ = ["Expiry", "decide_expiry"]

_GRACE_MINUTES_MAX = 10


class Expiry(enum.Enum):
    """State of a volume's lifetime."""

    ALIVE = "alive"
    EXPIRED = "expired"
    """No longer announced to the master."""
    DESTROY = "destroy"
    """The grace period has passed too: all files go."""


def decide_expiry(ttl: Ttl, clock_s: int, dat_bytes: int, volume_size_limit_bytes: int, now_s: int) -> Expiry:
    """``clock_s`` is the volume's TTL clock. Empty volumes never expire, and none does before the master has told
    its size limit (0 = unknown)."""
    minutes = ttl.minutes
    if not minutes or not volume_size_limit_bytes or dat_bytes <= SUPERBLOCK_LENGTH:
        return Expiry.ALIVE
    if minutes >= (now_s - clock_s) // 60:
        return Expiry.ALIVE
    grace = min(minutes // 10, _GRACE_MINUTES_MAX)
    return Expiry.DESTROY if (minutes + grace) * 60 + clock_s < now_s else Expiry.EXPIRED
