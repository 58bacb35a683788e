"""Which disk new files of an erasure coded volume go to (docs/spec/erasure-coding.md 4.8)."""

from __future__ import annotations

import pytest

from volumed.erasure.placement import Candidate, choose_disk, free_shard_slots


def disk(disk_id: int, **fields: int) -> Candidate:
    plain = {"is_hdd": True, "space_low": False, "free_slots": 10, "is_mounted": False, "has_index": False}
    return Candidate(disk_id, **plain | fields)


@pytest.mark.parametrize(
    ("disks", "chosen"),
    [
        ([], None),
        ([disk(0), disk(1)], 0),
        ([disk(0), disk(1, free_slots=11)], 1),
        ([disk(0, is_hdd=False, free_slots=99), disk(1)], 1),
        ([disk(0, free_slots=99), disk(1, has_index=True)], 1),
        ([disk(0, has_index=True), disk(1, is_hdd=False, is_mounted=True, free_slots=1)], 1),
        ([disk(0, is_mounted=True, free_slots=0), disk(1)], 1),
        ([disk(0, is_mounted=True, space_low=True), disk(1)], 1),
        ([disk(0, free_slots=0), disk(1, space_low=True)], None),
    ],
    ids=["none", "first", "free slots", "hdd", "index", "mounted", "no slot", "no space", "nowhere"],
)
def test_the_disk_where_the_volume_is_at_home_or_one_with_room(disks: list[Candidate], chosen: int | None) -> None:
    assert choose_disk(disks) == chosen


@pytest.mark.parametrize(("limits", "slots"), [((7, 5, 3), 17), ((7, 7, 0), 0), ((7, 8, 1), -11)])
def test_ten_shards_take_the_place_of_a_volume(limits: tuple[int, int, int], slots: int) -> None:
    assert free_shard_slots(*limits) == slots


def test_without_a_limit_there_is_always_room() -> None:
    assert free_shard_slots(0, 10_000, 140_000) > 10**9
