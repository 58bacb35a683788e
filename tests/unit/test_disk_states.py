"""The table of disk states, the watch on a worker, and what the node makes of both."""

from __future__ import annotations

import pytest

from supervisor.disks import BEHAVIOUR, OPENING_LIMIT_S, SLOW_AFTER_S, STUCK_AFTER_S, DiskEvent, DiskWatch, transition
from supervisor.node import Node
from volumed.bus import events
from volumed.config.node import DiskConfig, NodeConfig
from volumed.errors import NoFreeSpace, VolumeExists
from volumed.formats.report import VolumeReport
from volumed.nodetable import DISK_STATES_THAT_SERVE, DiskState

S, E = DiskState, DiskEvent


def test_every_state_has_a_behaviour_and_agrees_with_the_node_table():
    assert set(BEHAVIOUR) == set(DiskState)
    assert {state for state in S if BEHAVIOUR[state].serves} == DISK_STATES_THAT_SERVE


def test_only_reported_disks_count_or_serve():
    for row in BEHAVIOUR.values():
        assert row.reported or not (row.serves or row.counted)


@pytest.mark.parametrize(
    ("events_", "state"),
    [
        ([E.SPAWNED], S.OPENING),
        ([E.SPAWNED, E.READY], S.OK),
        ([E.SPAWNED, E.READY, E.LATE], S.SLOW),
        ([E.SPAWNED, E.READY, E.LATE, E.READY], S.OK),
        ([E.SPAWNED, E.READY, E.LATE, E.SILENT], S.STUCK),
        ([E.SPAWNED, E.READY, E.SILENT, E.READY], S.OK),
        ([E.SPAWNED, E.READY, E.SILENT, E.LATE], S.STUCK),
        ([E.SPAWNED, E.DEGRADED], S.SLOW),
        ([E.SPAWNED, E.READY, E.DEGRADED], S.SLOW),
        ([E.SPAWNED, E.READY, E.DEGRADED, E.READY], S.OK),
        ([E.SPAWNED, E.READY, E.DEGRADED, E.SILENT, E.DEGRADED], S.SLOW),
        ([E.SPAWNED, E.READY, E.DRAIN, E.DEGRADED], S.DRAINING),
        ([E.SPAWNED, E.OVERDUE], S.STUCK),
        ([E.SPAWNED, E.OVERDUE, E.READY], S.OK),
        ([E.SPAWNED, E.FAILED], S.FAILED),
        ([E.SPAWNED, E.FAILED, E.EXITED], S.FAILED),
        ([E.SPAWNED, E.FAILED, E.EXITED, E.SPAWNED], S.FAILED),
        ([E.SPAWNED, E.FAILED, E.EXITED, E.SPAWNED, E.READY], S.OK),
        ([E.SPAWNED, E.EXITED], S.FAILED),
        ([E.SPAWNED, E.READY, E.EXITED], S.ABSENT),
        ([E.SPAWNED, E.READY, E.EXITED, E.SPAWNED, E.READY], S.OK),
        ([E.SPAWNED, E.READY, E.DRAIN], S.DRAINING),
        ([E.SPAWNED, E.READY, E.DRAIN, E.LATE, E.READY], S.DRAINING),
    ],
)
def test_histories(events_, state):
    reached = S.ABSENT
    for event in events_:
        reached = transition(reached, event)
    assert reached is state


@pytest.mark.parametrize("state", [state for state in S if not BEHAVIOUR[state].serves])
@pytest.mark.parametrize("event", [E.SPAWNED, E.LATE, E.SILENT, E.OVERDUE, E.EXITED, E.FAILED, E.DRAIN])
def test_only_a_ready_worker_makes_a_disk_serve(state, event):
    assert not BEHAVIOUR[transition(state, event)].serves


@pytest.mark.parametrize("state", list(S))
def test_no_state_serves_after_its_worker_ended(state):
    assert not BEHAVIOUR[transition(state, E.EXITED)].serves


def test_watch_of_a_healthy_worker_says_nothing_but_ready():
    watch = DiskWatch(0.0)
    assert watch.ready() is E.READY
    for second in range(5):
        assert watch.check(float(second)) is None
        assert watch.answered(watch.next_ping(float(second))) is E.READY


def test_watch_measures_silence_from_the_oldest_unanswered_ping():
    watch = DiskWatch(0.0)
    watch.ready()
    first = watch.next_ping(100.0)
    assert watch.check(100.0 + SLOW_AFTER_S - 0.1) is None
    watch.next_ping(101.0)
    assert watch.check(100.0 + SLOW_AFTER_S) is E.LATE
    assert watch.check(100.0 + STUCK_AFTER_S) is E.SILENT
    assert watch.answered(first) is None, "an old answer proves nothing about now"
    assert watch.check(100.0 + STUCK_AFTER_S) is E.SILENT


def test_watch_of_an_opening_worker_only_knows_overdue():
    watch = DiskWatch(0.0)
    ping = watch.next_ping(0.0)
    assert watch.check(OPENING_LIMIT_S - 0.1) is None
    assert watch.check(OPENING_LIMIT_S) is E.OVERDUE
    assert watch.answered(ping) is None, "alive, but not loaded"


def node(*disks: dict) -> Node:
    configs = tuple(
        DiskConfig(**{"directory": f"/{i}", "idx_directory": f"/{i}", "disk_id": i, **disk})
        for i, disk in enumerate(disks)
    )
    made = Node(NodeConfig(runtime_dir="/", map_dir="/", state_dir="/", disks=configs))
    for disk in made.disks:
        disk.state = S.OK
        disk.epoch = 1
    return made


def statistics(volume_id: int, disk_id: int = 0, *, reported: bool = True, remote: str = "") -> events.VolumeStatistics:
    report = VolumeReport(id=volume_id, size=8, disk_id=disk_id, remote_storage_name=remote)
    return events.VolumeStatistics(report, content_bytes=0, reported=reported)


def full_report(disk_id: int, *volumes: events.VolumeStatistics, **fields) -> events.DiskReport:
    base = {"full": True, "gone": [], "total_bytes": 10, "free_bytes": 5, "space_low": False, "volumes_max": 8}
    return events.DiskReport(
        **{**base, "disk_id": disk_id, "epoch": 1, "volumes": list(volumes), "max_file_key": 3} | fields
    )


def test_placement_takes_the_disk_with_the_fewest_local_volumes():
    made = node({}, {}, {"disk_type": "ssd"})
    made.take_report(full_report(0, statistics(1), statistics(2)))
    made.take_report(full_report(1, statistics(3, 1), statistics(4, 1, remote="s3.x"), statistics(5, 1, remote="s3.x")))
    assert made.place(10, "", 0.0) == 1
    assert made.place(11, "", 0.0) == 0, "the reservation counts; first on ties"
    assert made.place(12, "ssd", 0.0) == 2


def test_placement_refuses_known_and_reserved_ids():
    made = node({})
    made.take_report(full_report(0, statistics(1)))
    made.place(2, "", 0.0)
    for volume_id in (1, 2):
        with pytest.raises(VolumeExists):
            made.place(volume_id, "", 0.0)
    made.release(2)
    assert made.place(2, "", 0.0) == 0


def test_a_reservation_whose_owner_died_ends():
    made = node({})
    made.place(2, "", 0.0)
    assert made.place(2, "", 1000.0) == 0


@pytest.mark.parametrize(
    "change", [{"state": S.STUCK}, {"state": S.DRAINING}, {"state": S.OPENING}, {"space_low": True}, {"volumes_max": 1}]
)
def test_placement_passes_over_disks_without_room(change):
    made = node({})
    made.take_report(full_report(0, statistics(1)))
    for name, value in change.items():
        setattr(made.disks[0], name, value)
    with pytest.raises(NoFreeSpace):
        made.place(2, "", 0.0)


def test_unknown_disk_type_has_no_room():
    with pytest.raises(NoFreeSpace):
        node({}).place(2, "nvme", 0.0)


def test_a_copy_goes_to_the_disk_with_the_most_free_slots_and_enough_space():
    made = node({}, {}, {"disk_type": "ssd"})
    made.take_report(full_report(0, statistics(1), volumes_max=4, free_bytes=100))
    made.take_report(full_report(1, statistics(2, 1), volumes_max=3, free_bytes=1000))
    assert made.place_copy(1, "", 50, 0.0) == 0, "it is here already, and is going to be replaced"
    assert made.place_copy(7, "", 100, 0.0) == 1, "the other one has more slots, but 100 bytes are not more than 100"
    assert made.place_copy(8, "", 50, 0.0) == 0, "the copies under way count; first on ties"
    for wanted, text in (("ssd", "ssd"), ("", "hdd")):
        with pytest.raises(NoFreeSpace, match=f"^no space left for disk type {text}$"):
            made.place_copy(9, wanted, 5000, 0.0)


def test_a_copy_under_way_keeps_its_place_until_its_front_is_gone():
    made = node({})
    made.take_report(full_report(0))
    made.place_copy(7, "", 1, 0.0)
    for place in (lambda: made.place(7, "", 1e6), lambda: made.place_copy(7, "", 1, 1e6)):
        with pytest.raises(VolumeExists):
            place()
    made.forget_copies()
    assert made.place(7, "", 0.0) == 0


def test_slots_of_a_disk_low_on_space_are_what_is_used():
    made = node({})
    assert made.take_report(full_report(0, statistics(1))) is False
    remote = statistics(2, remote="s3.x")
    assert made.take_report(full_report(0, statistics(1), remote, space_low=True)) is True
    assert made.disks[0].slots == 1


def test_reports_replace_or_amend_and_leave_out_what_must_not_be_announced():
    made = node({})
    made.take_report(full_report(0, statistics(1), statistics(2, reported=False)))
    assert [report.id for report in made.reports()] == [1]
    made.take_report(full_report(0, statistics(3), full=False, gone=[1]))
    assert sorted(made.disks[0].volumes) == [2, 3]


@pytest.mark.parametrize("state", list(S))
def test_volumes_of_a_disk_are_announced_as_its_state_says(state):
    made = node({})
    made.take_report(full_report(0, statistics(1)))
    made.disks[0].state = state
    assert bool(list(made.reports())) == BEHAVIOUR[state].reported


def test_changes_become_deltas_only_for_announced_volumes():
    made = node({})
    changes = made.take_changes(
        events.VolumesChanged(0, 1, [statistics(1), statistics(2, reported=False)], [statistics(3)])
    )
    assert ([report.id for report in changes.mounted], [report.id for report in changes.gone]) == ([1], [3])
    assert sorted(made.disks[0].volumes) == [1, 2]


def test_messages_of_an_earlier_worker_do_not_count():
    made = node({})
    assert made.is_current(0, 1)
    assert not made.is_current(0, 2)
    assert not made.is_current(1, 1)
