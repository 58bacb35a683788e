"""Which disks learn deletions of which others, without any."""

from __future__ import annotations

from volumed.erasure.discovery import EcFiles
from volumed.erasure.merges import Merge, plan_merges

KEY = ("", 9)
Disk = dict[tuple[str, int], EcFiles]


def disk(*shards: int, index: int | None = 17, journal: int | None = 0, deletions: int | None = None) -> Disk:
    data = {".ecx": index, ".ecj": journal}
    known = None if deletions is None else (1, deletions)
    return {KEY: EcFiles(*KEY, shards=dict.fromkeys(shards, 100), data=data, index=data, deletions=known)}


def test_every_disk_with_shards_learns_from_all_that_have_a_journal() -> None:
    assert plan_merges([disk(0, journal=8), disk(1), disk(2, journal=None)]) == [
        Merge(0, [2], KEY), Merge(1, [0, 2], KEY), Merge(2, [0], KEY),
    ]  # fmt: skip


def test_a_disk_that_is_back_learns_from_the_others_and_they_from_it() -> None:
    disks = [disk(0, journal=8), disk(1, journal=8), disk(2, journal=8)]
    assert plan_merges(disks, 1) == [Merge(0, [1], KEY), Merge(1, [0, 2], KEY), Merge(2, [1], KEY)]


def test_a_disk_without_the_volume_has_nothing_to_do_with_it() -> None:
    assert plan_merges([disk(0, journal=8), {}, disk(1)], 1) == []


def test_without_shards_or_an_index_there_is_nothing_to_learn_for() -> None:
    no_index: Disk = {KEY: EcFiles(*KEY, shards={3: 100}, data={}, index={})}
    assert plan_merges([disk(0, journal=8), disk(), no_index]) == []


def test_a_journal_in_an_index_directory_of_its_own_counts() -> None:
    apart: Disk = {KEY: EcFiles(*KEY, shards={1: 100}, data={}, index={".ecx": 17, ".ecj": 8})}
    assert plan_merges([disk(0), apart]) == [Merge(0, [1], KEY)]


def test_nothing_is_read_when_nothing_is_deleted_but_indexes_on_demand() -> None:
    disks = [disk(0), disk(1), disk(2, index=0)]
    assert plan_merges(disks) == []
    assert plan_merges(disks, indexes=True) == [Merge(0, [1], KEY), Merge(1, [0], KEY), Merge(2, [0, 1], KEY)]


def test_nobody_learns_from_who_knows_the_same() -> None:
    disks = [disk(shard, journal=8, deletions=5) for shard in range(3)]
    assert plan_merges(disks) == []
    assert plan_merges(disks, 1) == []
    assert [merge.sources for merge in plan_merges(disks, indexes=True)] == [[1, 2], [0, 2], [0, 1]]
    disks.append(disk(3, journal=8, deletions=6))
    assert [merge.sources for merge in plan_merges(disks)] == [[3], [3], [3], [0, 1, 2]]


def test_what_is_not_known_is_looked_at() -> None:
    disks = [disk(0, journal=8, deletions=5), disk(1, journal=None), disk(2)]
    assert [(merge.disk, merge.sources) for merge in plan_merges(disks)] == [(0, [1]), (1, [0]), (2, [0, 1])]
