"""Names of the files of an erasure coded volume (docs/spec/erasure-coding.md 3.1)."""

from __future__ import annotations

import re
from typing import NamedTuple

from volumed.erasure.code import SHARDS_MAX
from volumed.formats.volumename import parse_base_name

__all__ = [
    "DECODING",
    "ENCODING",
    "INDEX",
    "INFO",
    "JOURNAL",
    "MIRRORING",
    "REBUILDING",
    "RECEIVING",
    "SIDECAR",
    "EcName",
    "parse_ec_name",
    "shard_extension",
]

INDEX = ".ecx"
JOURNAL = ".ecj"
SIDECAR = ".ecsum"
INFO = ".vif"

ENCODING = ".encoding"
"""Ends the names of files that an encode has not finished. The reference does not know the ending and ignores them.

DEVIATE: the reference writes shards under their names. One that is killed leaves shards of different lengths beside
the `.dat`, and then the volume is not served until somebody cleans up (4.3.4).
"""
DECODING = ".decoding"
"""The same of a decode."""
REBUILDING = ".rebuilding"
"""The same of a rebuild."""
MIRRORING = ".mirror.tmp"
"""The same of a copy between two disks."""
RECEIVING = ".receiving"
"""The same of any file that comes from another server."""

_STAGING = (ENCODING, DECODING, REBUILDING, MIRRORING, RECEIVING)
_SHARD = re.compile(r"\.ec([0-9]{2,3})")
_GENERATION = re.compile(r"\.v([1-9][0-9]*)")


class EcName(NamedTuple):
    """A file name of a volume, taken apart."""

    collection: str
    volume_id: int
    extension: str
    """With the dot and without what follows: `.ec03`, `.ecx`, `.dat`."""
    shard_id: int | None
    """Of a shard with an id that can be; None for everything else."""
    generation: int
    """N of a staged file `….vN`, else 0."""
    staging: str
    """`ENCODING`, `DECODING`, `REBUILDING`, `MIRRORING`, `RECEIVING`, or empty for a file in use."""


def shard_extension(shard_id: int) -> str:
    """`.ec00` to `.ec31`."""
    return f".ec{shard_id:02}"


def parse_ec_name(name: str) -> EcName | None:
    """None when the name is not that of a volume's file."""
    staging = next((ending for ending in _STAGING if name.endswith(ending)), "")
    plain = name.removesuffix(staging)
    generation = 0
    stem, dot, last = plain.rpartition(".")
    if dot and (found := _GENERATION.fullmatch(dot + last)):
        plain, generation = stem, int(found[1])
    base, dot, last = plain.rpartition(".")
    parsed = parse_base_name(base) if dot else None
    if parsed is None:
        return None
    shard = _SHARD.fullmatch(dot + last)
    shard_id = int(shard[1]) if shard and len(shard[1]) == 2 and int(shard[1]) < SHARDS_MAX else None
    return EcName(*parsed, dot + last, shard_id, generation, staging)
