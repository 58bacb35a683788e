"""Two copies of one `.ecx`: deletions are folded into each of them apart (docs/spec/erasure-coding.md 3.3, R1)."""

from __future__ import annotations

from volumed.formats.idx import ROW_LENGTH
from volumed.storage.fileio import File, FileIO

__all__ = ["missing_deletions"]

_ROWS_PER_BLOCK = 4096
_KEY_BYTES = 8
_SIZE_BYTES = 4
_TOMBSTONE = b"\xff" * _SIZE_BYTES


def missing_deletions(files: FileIO, ours: File, theirs: File, width: int) -> list[int] | None:
    """Needles that only ``theirs`` marks as deleted; None when the two are not copies of one index. Raises
    `OSError`."""
    length = files.size(ours)
    if files.size(theirs) != length:
        return None
    row = ROW_LENGTH[width]
    block = row * _ROWS_PER_BLOCK
    missing: list[int] = []
    for start in range(0, length, block):
        mine, other = files.read_at(ours, start, block), files.read_at(theirs, start, block)
        if mine == other:
            continue
        for at in range(0, len(mine), row):
            deleted = _deleted_in_other(mine[at : at + row], other[at : at + row])
            if deleted is None:
                return None
            if deleted:
                missing.append(int.from_bytes(mine[at : at + _KEY_BYTES], "big"))
    return missing


def _deleted_in_other(mine: bytes, other: bytes) -> bool | None:
    """Of one row; None when it is about something else."""
    if mine == other:
        return False
    same_needle = mine[:-_SIZE_BYTES] == other[:-_SIZE_BYTES]
    if same_needle and other[-_SIZE_BYTES:] == _TOMBSTONE:
        return True
    return False if same_needle and mine[-_SIZE_BYTES:] == _TOMBSTONE else None
