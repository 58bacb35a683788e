"""What the files of erasure coded volumes mean at start: every disk alone, then the node."""

from __future__ import annotations

from typing import Any

import pytest

from volumed.erasure.code import DEFAULT_RATIO, Ratio
from volumed.erasure.discovery import (
    Encode,
    FileStat,
    Mirror,
    Mount,
    NodePlan,
    Verdict,
    group_files,
    judge,
    plan_node,
    removal_order,
)
from volumed.erasure.layout import MIB

KEY = ("", 9)
DAT = 15 * MIB
"""Shards of such a volume have 2 MiB."""


def listing(**sizes: int | None) -> dict[str, FileStat]:
    """By extension, without the dot."""
    return {f"9.{extension}": FileStat(size) for extension, size in sizes.items()}


def shards(*ids: int, size: int | None = 2 * MIB) -> dict[str, Any]:
    return {f"ec{shard:02}": size for shard in ids}


def files(index: dict[str, FileStat] | None = None, **sizes: int | None) -> Any:
    return group_files(listing(**sizes), index)[KEY]


@pytest.mark.parametrize(
    ("sizes", "verdict"),
    [
        ({"ecx": 17, **shards(0, 1)}, Verdict.MOUNT),
        ({"ecx": 0, **shards(0)}, Verdict.MOUNT),
        ({"ecx": 17}, Verdict.NOTHING),
        (shards(0, 1), Verdict.NOTHING),
        ({"dat": 8, **shards(0, 1)}, Verdict.NOTHING),
        ({"dat": DAT, **shards(0, 1)}, Verdict.RECLAIM),
        ({"dat": None, **shards(0, 1)}, Verdict.NOTHING),
        ({"dat": DAT, **shards(0, size=None)}, Verdict.NOTHING),
        ({"dat": 5 * MIB, **shards(0, 1)}, Verdict.NOTHING),
        ({"dat": DAT, "ecx": 17, **shards(0)}, Verdict.MOUNT),
        ({"dat": DAT, "ecx": 17, **shards(0, 1, size=MIB)}, Verdict.RECLAIM),
        ({"dat": DAT, "ecx": 17, **shards(0, 1, size=3 * MIB)}, Verdict.MOUNT),
        ({"dat": DAT, "ecx": 17}, Verdict.RECLAIM),
        ({"dat": 8, "ecx": 17, **shards(0, size=MIB)}, Verdict.MOUNT),
        ({"dat": None, "ecx": 17, **shards(0, size=MIB)}, Verdict.MOUNT),
        ({"dat": DAT, "ecx": 17, **shards(0, size=MIB), **shards(1)}, Verdict.MOUNT),
        ({"dat": DAT, "ecx": 17, **shards(0, size=MIB), **shards(1, size=None)}, Verdict.MOUNT),
    ],
    ids=[
        "shards_and_index", "empty_index", "index_alone", "no_index", "no_index_beside_an_empty_dat",
        "no_index_beside_a_dat", "no_index_beside_an_unknown_dat", "unknown_shard_beside_a_dat",
        "no_index_and_longer_than_the_dat_makes_them", "complete_beside_a_dat", "short_beside_a_dat",
        "long_beside_a_dat", "index_beside_a_dat", "short_beside_an_empty_dat", "short_beside_an_unknown_dat",
        "lengths_differ", "a_length_is_unknown",
    ],
)  # fmt: skip
def test_one_disk(sizes: dict[str, Any], verdict: Verdict) -> None:
    assert judge(files(**sizes), DEFAULT_RATIO) is verdict


def test_the_expected_length_follows_the_ratio() -> None:
    beside = files(dat=DAT, ecx=17, **shards(0))
    assert judge(beside, DEFAULT_RATIO) is Verdict.MOUNT
    assert judge(beside, Ratio(5, 3)) is Verdict.RECLAIM


def test_files_are_found_in_both_directories() -> None:
    found = files(listing(ecx=17, ecj=8, idx=17), dat=DAT, vif=100, **shards(3))
    assert found.has_filled_index
    assert (found.shards, found.index[".ecj"], found.data[".vif"]) == ({3: 2 * MIB}, 8, 100)
    assert list(removal_order(found)) == [(True, ".ecx"), (True, ".ecj"), (False, ".ec03")]
    same = files(ecx=17, ecj=8, **shards(3, 0))
    assert same.index == same.data
    assert [extension for _, extension in removal_order(same)] == [".ecx", ".ecj", ".ec00", ".ec03"]


def test_an_empty_shard_is_none_and_goes_when_it_is_old() -> None:
    old, new = FileStat(0, 4000), FileStat(0, 10)
    names = {"9.ec00": old, "9.ec01": new, "9.ec100": old, "9.ec02": FileStat(5)}
    found = group_files(names, None)[KEY]
    assert found.shards == {2: 5}
    assert {item.name: item.is_stale for item in found.empty_shards} == {
        "9.ec00": True, "9.ec01": False, "9.ec100": True,
    }  # fmt: skip


def test_what_was_not_finished_may_go() -> None:
    names = dict.fromkeys(("9.ec00.encoding", "9.ec01.rebuilding", "9.ecx.mirror.tmp", "9.ec00.copying"), FileStat(5))
    assert [name for _, name in group_files(names, None)[KEY].leftovers] == ["9.ec01.rebuilding", "9.ecx.mirror.tmp"]
    names["9.dat"] = FileStat(DAT)
    assert "9.ec00.encoding" in [name for _, name in group_files(names, None)[KEY].leftovers]


def test_staged_generations_and_foreign_names_are_not_looked_at() -> None:
    assert group_files(dict.fromkeys(("9.ec00.v2", "9.ecx.v2", "notes.txt", "lost+found"), FileStat(5)), None) == {}


# The node

ENCODE = {KEY: Encode(DEFAULT_RATIO.data, DAT)}


def node(*disks: dict[str, int | None], encode: dict[Any, Encode] | None = None) -> NodePlan:
    known = ENCODE if encode is None else encode
    return plan_node([group_files(listing(**sizes), None) for sizes in disks], [known for _ in disks])


def test_shards_on_two_disks_are_all_mounted_and_the_sidecars_mirrored() -> None:
    plan = node({"ecx": 17, "ecj": 8, "vif": 100, "ecsum": 9, **shards(0, 1)}, {"ecj": 0, **shards(2)})
    assert plan.removals == []
    assert plan.mirrors == [Mirror(1, 0, KEY, ".ecx"), Mirror(1, 0, KEY, ".vif")]
    assert plan.mounts == [Mount(0, KEY), Mount(1, KEY)]


def test_the_journal_comes_before_the_index() -> None:
    plan = node({"ecx": 17, "ecj": 8, **shards(0)}, shards(1))
    assert plan.mirrors == [Mirror(1, 0, KEY, ".ecj"), Mirror(1, 0, KEY, ".ecx")]


def test_every_disk_uses_its_own_index() -> None:
    plan = node({"ecx": 17, **shards(0)}, {"ecx": 17, **shards(1)})
    assert plan == NodePlan([], [], [Mount(0, KEY), Mount(1, KEY)])


def test_a_disk_that_shares_an_index_directory_gets_what_says_the_layout() -> None:
    index = listing(ecx=17, ecj=8)
    disks = ({}, {"vif": 100, **shards(0)}, shards(1))
    plan = plan_node([group_files(listing(**sizes), index) for sizes in disks], [{}, {}, {}])
    assert plan == NodePlan([], [Mirror(2, 1, KEY, ".vif")], [Mount(1, KEY), Mount(2, KEY)])


def test_an_empty_index_counts_only_when_there_is_no_other() -> None:
    plan = node({"ecx": 0, **shards(0)}, {"ecx": 17, **shards(1)})
    assert plan.mirrors == [Mirror(0, 1, KEY, ".ecx")]
    assert plan.mounts == [Mount(0, KEY), Mount(1, KEY)]
    assert node({"ecx": 0, **shards(0)}).mounts == [Mount(0, KEY)]


def test_shards_without_any_index_stay_and_are_not_mounted() -> None:
    assert node(shards(0), shards(1)) == NodePlan([], [], [])


WHOLE = {"ecx": 17, "vif": 100, **shards(0)}
OLD, NEW = (Encode(DEFAULT_RATIO.data, DAT, run) for run in (5, 9))


@pytest.mark.parametrize(
    ("disks", "encodes", "mirrors"),
    [
        ((WHOLE, WHOLE, shards(1)), (OLD, NEW, Encode(0, 0)), [Mirror(2, 1, KEY, ".ecx"), Mirror(2, 1, KEY, ".vif")]),
        ((WHOLE, WHOLE, {"vif": 100, **shards(1)}), (NEW, OLD, OLD), [Mirror(2, 1, KEY, ".ecx")]),
    ],
    ids=["unknown", "known"],
)
def test_index_and_layout_come_from_the_same_encode_run(disks: Any, encodes: Any, mirrors: list[Mirror]) -> None:
    """The latest one, where nothing tells."""
    files = [group_files(listing(**sizes), None) for sizes in disks]
    plan = plan_node(files, [{KEY: encode} for encode in encodes])
    assert plan == NodePlan([], mirrors, [Mount(disk, KEY) for disk in range(3)])


def test_shards_of_a_run_that_no_index_belongs_to_are_not_mounted() -> None:
    files = [group_files(listing(**sizes), None) for sizes in (WHOLE, {"vif": 100, **shards(1)})]
    assert plan_node(files, [{KEY: NEW}, {KEY: OLD}]) == NodePlan([], [], [Mount(0, KEY)])


PARTIAL = {"ecx": 17, "vif": 100, **shards(0, 1)}


def test_a_part_of_an_encode_goes_when_its_source_is_on_another_disk() -> None:
    plan = node({"dat": DAT, "idx": 17}, PARTIAL | {"ecj": 0})
    assert [(item.disk, item.key) for item in plan.removals] == [(1, KEY)]
    assert plan.mounts == []


@pytest.mark.parametrize(
    ("disks", "encode"),
    [
        (({"dat": DAT - 8}, PARTIAL), ENCODE),
        (({"dat": None}, PARTIAL), ENCODE),
        (({}, PARTIAL), ENCODE),
        (({"dat": DAT}, PARTIAL), {}),
        (({"dat": DAT}, PARTIAL), {KEY: Encode(DEFAULT_RATIO.data, 0)}),
        (({"dat": DAT}, PARTIAL, {"ecx": 17, **shards(*range(2, 10))}), ENCODE),
        (({"dat": DAT}, {"ecx": 17, **shards(*range(10))}), ENCODE),
        (({"dat": DAT}, PARTIAL | {"ecj": 8}), ENCODE),
        (({"dat": DAT}, PARTIAL | {"ecj": None}), ENCODE),
    ],
    ids=[
        "other_size",
        "size_unknown",
        "no_source",
        "no_encode",
        "dat_unknown",
        "enough_on_all",
        "enough_on_one",
        "deletions",
        "deletions_unknown",
    ],
)
def test_a_part_is_kept_in_every_other_case(disks: Any, encode: dict[Any, Encode]) -> None:
    plan = node(*disks, encode=encode)
    assert plan.removals == []
    assert plan.mounts
