"""The heartbeat session against recorded digests and hand-written sequences (docs/spec/grpc.md 2)."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from supervisor.heartbeat import DiskCapacity, HeartbeatSession, Identity, NodeSnapshot, Reaction
from supervisor.route import Attempt, DuplicateDirectories, MasterRoute, StreamEnd, stream_end
from volumed.formats.report import VolumeReport
from volumed.wire.master_pb2 import Heartbeat, HeartbeatResponse

VECTORS = json.loads((Path(__file__).parents[1] / "corpus/golden/vectors.json").read_text())["volume_digest"]
IDENTITY = Identity("10.0.0.1", 8080, 18080, "pub:80", "node-1", "dc", "rack")
DISK = DiskCapacity(0, "ssd", ("fast",), 7, True, 1000, 400, "uuid-0")


def report(volume_id: int, **fields) -> VolumeReport:
    return VolumeReport(**{"id": volume_id, "size": 8, **fields})


def snapshot(*volumes: VolumeReport, disks=(DISK,), **fields) -> NodeSnapshot:
    return NodeSnapshot(
        **{
            "disks": disks,
            "volumes": volumes,
            "ec_volumes": (),
            "max_file_key": 9,
            "maintenance": False,
            "state_version": 0,
            **fields,
        }
    )


def accepting_changes(*volumes: VolumeReport) -> HeartbeatSession:
    """A session whose master keeps a digest and has the volumes."""
    session = HeartbeatSession(IDENTITY)
    session.open(snapshot(*volumes))
    session.receive(HeartbeatResponse(volume_digest_supported=True))
    return session


def fields_of(message: Heartbeat) -> set[str]:
    return {descriptor.name for descriptor, _ in message.ListFields()}


def test_digest_is_what_the_reference_sent():
    volumes = [
        VolumeReport(**{key: value for key, value in volume.items() if key != "report_hash"})
        for volume in VECTORS["volumes"]
    ]
    full, _ = HeartbeatSession(IDENTITY).open(snapshot(*volumes))
    assert full.volume_digest == int(VECTORS["volume_digest"], 16)
    assert [volume.id for volume in full.volumes] == [volume.id for volume in volumes]


def test_first_messages_are_the_full_list_and_the_shards():
    full, shards = HeartbeatSession(IDENTITY).open(snapshot(report(1), maintenance=True, state_version=3))
    assert (full.ip, full.port, full.grpc_port, full.public_url) == ("10.0.0.1", 8080, 18080, "pub:80")
    assert (full.id, full.data_center, full.rack, full.max_file_key) == ("node-1", "dc", "rack", 9)
    assert dict(full.max_volume_counts) == {"ssd": 7}
    assert (dict(full.disk_total_bytes), dict(full.disk_free_bytes)) == ({"ssd": 1000}, {"ssd": 400})
    (tag,) = full.disk_tags
    assert (tag.disk_id, list(tag.tags), tag.type, tag.max_volume_count) == (0, ["fast"], "ssd", 7)
    assert list(full.location_uuids) == ["uuid-0"]
    assert (full.state.maintenance, full.state.version) == (True, 3)
    assert not full.has_no_volumes
    assert full.has_no_ec_shards
    assert fields_of(shards) == {"has_no_ec_shards"}


def test_an_empty_node_says_so_with_digest_and_state():
    full, _ = HeartbeatSession(IDENTITY).open(snapshot())
    assert full.has_no_volumes
    assert full.HasField("volume_digest")
    assert full.volume_digest == 0
    assert full.HasField("state")


def test_capacity_is_summed_per_type_and_skips_what_is_not_counted():
    disks = (
        DISK,
        DISK._replace(disk_id=1),
        DISK._replace(disk_id=2, disk_type="", volumes_max=5, counted=False, uuid=""),
        DISK._replace(disk_id=3, disk_type="", volumes_max=-1),
    )
    full, _ = HeartbeatSession(IDENTITY).open(snapshot(disks=disks))
    assert dict(full.max_volume_counts) == {"ssd": 14, "": 0}
    assert dict(full.disk_total_bytes) == {"ssd": 2000, "": 1000}
    assert [tag.disk_id for tag in full.disk_tags] == [0, 1, 2, 3]
    assert len(full.location_uuids) == 3


def test_lists_stay_full_until_the_master_keeps_a_digest():
    session = HeartbeatSession(IDENTITY)
    session.open(snapshot(report(1)))
    (again,) = session.pulse(snapshot(report(1)))
    assert [volume.id for volume in again.volumes] == [1]


def test_changed_only_carries_changes_and_departures():
    kept, changed, gone = report(1), report(2), report(3)
    session = accepting_changes(kept, changed, gone)
    now = snapshot(kept, report(2, size=99), report(4))
    (message,) = session.pulse(now)
    assert not message.volumes
    assert {volume.id for volume in message.changed_volumes} == {2, 4}
    assert [volume.id for volume in message.deleted_volumes] == [3]
    assert not message.has_no_volumes
    full, _ = HeartbeatSession(IDENTITY).open(now)
    assert message.volume_digest == full.volume_digest
    assert fields_of(full) - fields_of(message) == {"volumes"}


def test_changed_only_never_says_that_there_are_no_volumes():
    session = accepting_changes(report(1))
    (message,) = session.pulse(snapshot())
    assert not message.has_no_volumes
    assert [volume.id for volume in message.deleted_volumes] == [1]
    (message,) = session.pulse(snapshot())
    assert not message.has_no_volumes
    assert not message.deleted_volumes


def test_a_volume_that_moved_between_disks_has_not_departed():
    session = accepting_changes(report(1, disk_id=0))
    (message,) = session.pulse(snapshot(report(1, disk_id=1)))
    assert [volume.disk_id for volume in message.changed_volumes] == [1]
    assert not message.deleted_volumes


def test_unchanged_volumes_are_not_sent():
    session = accepting_changes(report(1))
    (message,) = session.pulse(snapshot(report(1)))
    assert not message.changed_volumes


@pytest.mark.parametrize(
    "change",
    [{"size": 9}, {"file_count": 1}, {"delete_count": 1}, {"deleted_byte_count": 1}, {"read_only": True},
     {"replica_placement": 1}, {"version": 2}, {"ttl": 259}, {"compact_revision": 1}, {"collection": "c"},
     {"modified_at_second": 5}, {"remote_storage_name": "s3.x"}, {"disk_type": "ssd"}, {"read_only_can_delete": True}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_covered_field_is_a_change(change):
    session = accepting_changes(report(1))
    (message,) = session.pulse(snapshot(report(1, **change)))
    assert [volume.id for volume in message.changed_volumes] == [1]


def test_resend_makes_the_next_pulse_full_once():
    session = accepting_changes(report(1))
    assert session.receive(HeartbeatResponse(resend_full_volume_list=True)) == Reaction()
    (full,) = session.pulse(snapshot(report(1)))
    assert [volume.id for volume in full.volumes] == [1]
    (changes,) = session.pulse(snapshot(report(1)))
    assert not changes.volumes


def test_every_seventeenth_pulse_repeats_the_shards():
    session = accepting_changes()
    counts = [len(session.pulse(snapshot())) for _ in range(34)]
    assert [pulse for pulse, count in enumerate(counts, 1) if count == 2] == [17, 34]


def test_deltas_name_the_node_and_one_kind_each():
    session = accepting_changes()
    new, deleted = session.volumes_changed([report(1, read_only=True, ttl=771)], [report(2)])
    assert fields_of(new) == {"ip", "port", "data_center", "rack", "new_volumes"}
    assert fields_of(deleted) == {"ip", "port", "data_center", "rack", "deleted_volumes"}
    assert (new.new_volumes[0].id, new.new_volumes[0].read_only, new.new_volumes[0].ttl) == (1, True, 771)
    assert deleted.deleted_volumes[0].id == 2


def test_deltas_before_the_first_full_list_are_dropped():
    session = HeartbeatSession(IDENTITY)
    assert session.volumes_changed([report(1)], [report(2)]) == []


def test_a_new_stream_starts_with_a_full_list():
    old = accepting_changes(report(1))
    old.pulse(snapshot(report(1)))
    full, _ = HeartbeatSession(IDENTITY).open(snapshot(report(1)))
    assert [volume.id for volume in full.volumes] == [1]


def test_leave_says_who_and_that_nothing_is_left():
    message = HeartbeatSession(IDENTITY).leave()
    assert fields_of(message) == {"ip", "port", "public_url", "data_center", "rack", "has_no_volumes"}


def test_reactions():
    response = HeartbeatResponse(volume_size_limit=30 << 20, preallocate=True)
    assert HeartbeatSession(IDENTITY).receive(response) == Reaction(30 << 20, True)


@pytest.mark.parametrize(
    ("response", "end"),
    [
        (HeartbeatResponse(volume_size_limit=1), None),
        (HeartbeatResponse(leader="a:1"), None),
        (HeartbeatResponse(leader="a:1.7"), None),
        (HeartbeatResponse(leader="b:1.7"), StreamEnd(leader="b:1.7")),
        (HeartbeatResponse(duplicated_uuids=["u"], leader="b:1"), StreamEnd(duplicate=True)),
    ],
)
def test_responses_that_end_a_stream(response, end):
    assert stream_end(response, "a:1") == end


def test_profile_4_44_has_a_state_message_of_its_own_and_no_can_delete():
    session = HeartbeatSession(IDENTITY._replace(compat="4.44"))
    volume = report(1, read_only=True, read_only_can_delete=True)
    full, _, state = session.open(snapshot(volume, maintenance=True, state_version=2))
    assert not full.HasField("state")
    assert not full.volumes[0].read_only_can_delete
    assert fields_of(state) == {"ip", "port", "data_center", "rack", "state"}
    plain, _ = HeartbeatSession(IDENTITY).open(snapshot(msgspec.structs.replace(volume, read_only_can_delete=False)))
    assert full.volume_digest == plain.volume_digest
    (delta,) = session.volumes_changed([volume], [])
    assert not delta.new_volumes[0].read_only


def test_route_goes_round_the_seeds_with_a_pause_after_errors():
    route = MasterRoute(["a", "b"])
    assert route.next() == Attempt("a", 0.0)
    route.ended(None)
    assert route.next() == Attempt("b", 5.0)
    route.ended(None)
    assert route.next() == Attempt("a", 5.0)


def test_route_follows_a_leader_until_it_fails():
    route = MasterRoute(["a", "b"])
    route.next()
    route.ended(StreamEnd(leader="leader"))
    assert route.next() == Attempt("leader", 3.0)
    route.ended(None)
    assert route.next() == Attempt("a", 5.0)


def test_route_gives_up_on_the_fourth_duplicate_in_a_row():
    route = MasterRoute(["a"])
    delays = []
    for _ in range(3):
        route.ended(StreamEnd(duplicate=True))
        delays.append(route.next().delay_s)
    assert delays == [2.0, 4.0, 8.0]
    with pytest.raises(DuplicateDirectories):
        route.ended(StreamEnd(duplicate=True))


@pytest.mark.parametrize("other", [None, StreamEnd(leader="x")])
def test_route_forgets_duplicates_after_any_other_end(other):
    route = MasterRoute(["a"])
    for _ in range(3):
        route.ended(StreamEnd(duplicate=True))
    route.ended(other)
    route.ended(StreamEnd(duplicate=True))
    assert route.next().delay_s == 2.0
