"""Erasure coded volumes in the heartbeat: what the master is told of shards (docs/spec/erasure-coding.md 4.9)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from supervisor.heartbeat import HeartbeatSession, Identity, NodeSnapshot
from volumed.formats.report import EcVolumeReport
from volumed.wire.master_pb2 import Heartbeat

IDENTITY = Identity("10.0.0.1", 8080, 18080, "pub:80", "node-1", "dc", "rack")
MIB = 1 << 20


def ec_volume(*shards: int, disk_id: int = 0, volume_id: int = 5) -> EcVolumeReport:
    return EcVolumeReport(
        volume_id, "pics", dict.fromkeys(reversed(shards), MIB), disk_id, disk_type="ssd", expire_at_sec=7,
        file_count=4, delete_count=1, encode_ts_ns=9,
    )  # fmt: skip


def snapshot(*ec_volumes: EcVolumeReport) -> NodeSnapshot:
    return NodeSnapshot([], [], ec_volumes, max_file_key=0, maintenance=False, state_version=0)


def opened(*ec_volumes: EcVolumeReport) -> HeartbeatSession:
    session = HeartbeatSession(IDENTITY)
    session.open(snapshot(*ec_volumes))
    return session


def kinds(messages: Sequence[Heartbeat]) -> list[str]:
    """What each message is about: volumes, shards, or a delta."""
    return ["volumes" if m.HasField("volume_digest") else "delta" if m.ip else "shards" for m in messages]


def test_the_second_message_has_all_shards_and_nothing_else():
    volumes, shards = HeartbeatSession(IDENTITY).open(snapshot(ec_volume(0, 3), ec_volume(31, disk_id=1)))
    assert not volumes.has_no_ec_shards
    assert not volumes.ec_shards
    assert {field.name for field, _ in shards.ListFields()} == {"ec_shards"}
    first, second = shards.ec_shards
    assert (first.id, first.collection, first.disk_type, first.expire_at_sec) == (5, "pics", "ssd", 7)
    assert (first.ec_index_bits, list(first.shard_sizes)) == (0b1001, [MIB, MIB])
    assert (first.file_count, first.delete_count, first.encode_ts_ns, first.disk_id) == (4, 1, 9, 0)
    assert (second.ec_index_bits, second.disk_id) == (1 << 31, 1)


def test_sizes_are_in_the_order_of_the_shards():
    report = EcVolumeReport(5, "", {9: 90, 2: 20}, 0)
    _, shards = HeartbeatSession(IDENTITY).open(snapshot(report))
    assert list(shards.ec_shards[0].shard_sizes) == [20, 90]


def test_every_volume_heartbeat_says_whether_there_are_shards():
    session = opened(ec_volume(0))
    assert not session.pulse(snapshot(ec_volume(0)))[0].has_no_ec_shards
    assert session.pulse(snapshot())[0].has_no_ec_shards


def test_deltas_carry_a_shard_each_without_counts():
    session = opened()
    new, gone = session.shards_changed([ec_volume(1, 4)], [EcVolumeReport(6, "", {2: 0}, 1)])
    assert {field.name for field, _ in new.ListFields()} == {"ip", "port", "data_center", "rack", "new_ec_shards"}
    assert [(one.ec_index_bits, list(one.shard_sizes)) for one in new.new_ec_shards] == [(2, [MIB]), (16, [MIB])]
    assert {(one.file_count, one.delete_count, one.encode_ts_ns) for one in new.new_ec_shards} == {(0, 0, 9)}
    (one,) = gone.deleted_ec_shards
    assert (one.id, one.ec_index_bits, list(one.shard_sizes), one.disk_id) == (6, 4, [0], 1)


def test_a_closed_session_tells_nothing():
    assert HeartbeatSession(IDENTITY).shards_changed([ec_volume(1)], []) == []


def test_what_was_told_by_deltas_is_not_repeated():
    session = opened(ec_volume(0))
    session.shards_changed([ec_volume(1)], [ec_volume(0)])
    assert kinds(session.pulse(snapshot(ec_volume(1)))) == ["volumes"]
    session.shards_changed([], [ec_volume(1)])
    assert kinds(session.pulse(snapshot())) == ["volumes"]


@pytest.mark.parametrize("now", [(), (ec_volume(0, 1), ec_volume(2, disk_id=1))], ids=["away", "back"])
def test_a_disk_that_goes_or_comes_back_is_told_at_once(now: tuple[EcVolumeReport, ...]):
    session = opened(ec_volume(0, 1))
    volumes, shards = session.refresh(snapshot(*now))
    assert volumes.has_no_ec_shards is shards.has_no_ec_shards is (not now)
    assert [one.disk_id for one in shards.ec_shards] == [report.disk_id for report in now]
    assert kinds(session.pulse(snapshot(*now))) == ["volumes"]


def test_counts_wait_for_the_seventeenth_pulse():
    session = opened(ec_volume(0))
    pulses = [kinds(session.pulse(snapshot(ec_volume(0)))) for _ in range(17)]
    assert pulses == [["volumes"]] * 16 + [["volumes", "shards"]]
