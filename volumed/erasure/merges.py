"""Which disks of a node have to learn what others know to be deleted: pure decisions
(docs/spec/erasure-coding.md 4.12).

A disk that is away when a needle is deleted does not journal it. While other disks do, nobody notices; but they may be
lost later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from volumed.erasure.discovery import EcFiles, VolumeKey
from volumed.erasure.names import JOURNAL

__all__ = ["Merge", "plan_merges"]


class Merge(NamedTuple):
    """Tell a disk what others know."""

    disk: int
    sources: list[int]
    key: VolumeKey


def plan_merges(
    disks: Sequence[Mapping[VolumeKey, EcFiles]], only: int | None = None, *, indexes: bool = False
) -> list[Merge]:
    """Every disk with shards learns from all that know something; with ``only`` it is between that disk and each of
    the others. Knowledge is in journals, and, only looked for with ``indexes``, in an index with deletions folded in.
    Nobody learns from a journal that deletes the same as the own one: that is how it is at most starts.
    """
    merges = []
    for key in sorted({key for disk in disks for key in disk}):
        having = [disk for disk, volumes in enumerate(disks) if key in volumes]
        knowing = [disk for disk in having if _may_know(disks[disk][key], indexes=indexes)]
        for disk in having:
            files = disks[disk][key]
            sources = [other for other in knowing if other != disk and only in (None, disk, other)]
            if not indexes and files.deletions is not None:
                sources = [other for other in sources if disks[other][key].deletions != files.deletions]
            if sources and files.shards and files.has_index:
                merges.append(Merge(disk, sources, key))
    return merges


def _may_know(files: EcFiles, *, indexes: bool) -> bool:
    if indexes and files.has_filled_index:
        return True
    # A size that could not be learnt is None.
    return any(there.get(JOURNAL, 0) != 0 for there in (files.data, files.index))
