"""What the supervisor knows of shards: from reports and changes, and what follows for room and look-ups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from supervisor.node import Node
from volumed.bus import calls, events
from volumed.config.node import DiskConfig, NodeConfig
from volumed.errors import NoFreeSpace
from volumed.formats.report import EcVolumeReport, TaskReport, VolumeReport
from volumed.nodetable import DiskState

VOLUMES_MAX = 3


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Two disks in service."""
    configs = tuple(DiskConfig(i, str(tmp_path), str(tmp_path), volumes_max=VOLUMES_MAX) for i in range(2))
    made = Node(NodeConfig(runtime_dir=str(tmp_path), map_dir=str(tmp_path), state_dir=str(tmp_path), disks=configs))
    for disk in made.disks:
        disk.state, disk.epoch = DiskState.OK, 1
    return made


TASK = TaskReport("encode", 5, 1.0, 10, 100)


def ec_volume(*shards: int, disk_id: int = 0, volume_id: int = 5, length: int = 100, **fields: Any) -> EcVolumeReport:
    return EcVolumeReport(volume_id, "", dict.fromkeys(shards, length), disk_id, **fields)


def report(
    node: Node,
    *ec_volumes: EcVolumeReport,
    disk_id: int = 0,
    space_low: bool = False,
    volumes: int = 0,
    tasks: Sequence[TaskReport] = (),
) -> bool:
    statistics = [events.VolumeStatistics(VolumeReport(100 + i, 8, disk_id=disk_id), 0) for i in range(volumes)]
    return node.take_report(
        events.DiskReport(
            disk_id, 1, full=True, volumes=statistics, gone=[], total_bytes=1000, free_bytes=500, space_low=space_low,
            volumes_max=VOLUMES_MAX, max_file_key=0, ec_volumes=list(ec_volumes), tasks=list(tasks),
        )
    )  # fmt: skip


def change(node: Node, mounted: list[EcVolumeReport], gone: list[EcVolumeReport], disk_id: int = 0) -> Any:
    return node.take_shard_changes(events.ShardsChanged(disk_id, 1, mounted, gone))


def shards(node: Node) -> list[tuple[int, int, list[int]]]:
    return [(volume.disk_id, volume.id, sorted(volume.shards)) for volume in node.shard_reports()]


def test_a_report_replaces_what_was_known_of_the_disk(node: Node):
    report(node, ec_volume(0, 1), ec_volume(2, volume_id=6))
    report(node, ec_volume(9, disk_id=1), disk_id=1)
    report(node, ec_volume(1))
    assert shards(node) == [(0, 5, [1]), (1, 5, [9])]


def test_changes_add_and_take_shards_and_keep_the_counts(node: Node):
    report(node, ec_volume(0, 1, file_count=7))
    told = change(node, [ec_volume(2)], [ec_volume(0, length=0)])
    assert (told.mounted, told.gone) == ([ec_volume(2)], [ec_volume(0, length=0)])
    assert list(node.shard_reports()) == [ec_volume(1, 2, file_count=7)]
    change(node, [], [ec_volume(1, 2, 3)])
    change(node, [], [ec_volume(1)])
    assert shards(node) == []


def test_a_disk_that_is_away_tells_nothing_and_is_remembered(node: Node):
    report(node, ec_volume(0))
    node.disks[0].state = DiskState.STUCK
    assert shards(node) == []
    assert change(node, [ec_volume(1)], []) == ([], [])
    node.disks[0].state = DiskState.OK
    assert shards(node) == [(0, 5, [0, 1])]


def test_a_disk_that_fails_is_forgotten(node: Node):
    report(node, ec_volume(0), volumes=1, tasks=[TASK])
    assert node.disks[0].tasks == [TASK]
    node.disks[0].forget_volumes()
    assert node.disks[0].tasks == []
    assert shards(node) == []
    assert not node.holds(100)


@pytest.mark.parametrize(("count", "slots"), [(0, 1), (1, 2), (10, 2), (11, 3)])
def test_a_full_disk_counts_ten_shards_as_a_volume(node: Node, count: int, slots: int):
    report(node, ec_volume(*range(count)), space_low=True, volumes=1)
    assert node.disks[0].slots == slots


@pytest.mark.parametrize(("count", "fits"), [(10, True), (11, False)])
def test_shards_take_the_place_of_volumes_that_could_be_copied_here(node: Node, count: int, fits: bool):
    report(node, space_low=True, disk_id=1)
    report(node, ec_volume(*range(count)), volumes=VOLUMES_MAX - 2)
    if fits:
        assert node.place_copy(9, "", 1, 0.0) == 0
    else:
        with pytest.raises(NoFreeSpace):
            node.place_copy(9, "", 1, 0.0)


def test_the_status_lists_them_by_volume_and_disk(node: Node):
    report(node, ec_volume(1, disk_id=1), disk_id=1)
    report(node, ec_volume(3, volume_id=9), ec_volume(0))
    view = node.status(calls.ServerState(), "", 0.0, 1, calls.ReadHistoryView([], [], [], []))
    assert [(volume.id, volume.disk_id) for volume in view.ec_volumes] == [(5, 0), (5, 1), (9, 0)]
