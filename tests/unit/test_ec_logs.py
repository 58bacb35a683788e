"""What operators read in the log about erasure coding."""

from __future__ import annotations

import logging

import pytest

from volumed.bus.ec_calls import EcJobProgress, StartDecode, StartEncode, StartRebuild
from volumed.errors import VolumedError
from volumed.grpc.ec_job_log import EcJobLog
from volumed.grpc.scrub_log import ScrubLog
from volumed.shards.occasional import Occasional
from volumed.wire import volume_server_pb2 as pb

MIB = 1 << 20


class Clock:
    now_s = 5.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(caplog: pytest.LogCaptureFixture) -> Clock:
    caplog.set_level(logging.INFO)
    return Clock()


def test_an_encode_tells_how_far_it_is_once_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    log = EcJobLog("/data/1", StartEncode(7, ""), clock)
    for second in range(1, 130):
        clock.now_s = 5.0 + second
        log.progressed(EcJobProgress(second * MIB, 130 * MIB, done=False))
    clock.now_s = 135.0
    log.progressed(EcJobProgress(130 * MIB, 130 * MIB, done=True))
    assert caplog.messages == [
        "/data/1: encode of volume 7 begins",
        "/data/1: encode of volume 7: 60.0 of 130.0 MiB, 1.0 MiB/s",
        "/data/1: encode of volume 7: 120.0 of 130.0 MiB, 1.0 MiB/s",
        "/data/1: encode of volume 7 is done: 130.0 MiB in 130.0 s, 1.0 MiB/s",
    ]


@pytest.mark.parametrize("made", [[2, 11], []], ids=["made", "nothing_missing"])
def test_a_rebuild_tells_what_it_has_made(clock: Clock, caplog: pytest.LogCaptureFixture, made: list[int]) -> None:
    log = EcJobLog("/data/1", StartRebuild(7, "", [], True, False), clock)
    log.progressed(EcJobProgress(0, 0, done=True, shard_ids=made))
    assert caplog.messages[-1] == f"/data/1: rebuild of volume 7 is done: 0.0 MiB in 0.0 s, shards made: {made}"


def test_a_job_that_fails_tells_why(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    log = EcJobLog("/data/1", StartDecode(7, "", []), clock)
    clock.now_s += 2
    log.failed(VolumedError("no space left on device"))
    (record,) = caplog.records[1:]
    assert record.levelno == logging.ERROR
    assert record.message == "/data/1: decode of volume 7 failed after 2.0 s: no space left on device"


def test_a_scrub_tells_its_findings_and_its_end(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    log = ScrubLog("ec volume", pb.VolumeScrubMode.CHECKSUM, clock)
    log.found(7, ["shard 3 is short", "shard 5 is wrong"])
    log.found(8, [])
    clock.now_s += 2
    log.ended(2, 40, 1)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("ERROR", "scrub CHECKSUM: ec volume 7: shard 3 is short"),
        ("ERROR", "scrub CHECKSUM: ec volume 7: shard 5 is wrong"),
        ("INFO", "scrub CHECKSUM: 2 ec volumes with 40 needles in 2.0 s, 1 broken"),
    ]


def test_a_volume_that_is_broken_everywhere_does_not_fill_the_log(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ScrubLog("volume", 99, clock).found(7, [f"needle {number}" for number in range(25)])
    assert caplog.messages[19:] == ["scrub 99: volume 7: needle 19", "scrub 99: volume 7: 5 more findings"]


def test_what_every_read_meets_is_said_once_a_minute(clock: Clock) -> None:
    log_times = Occasional(clock)
    assert [log_times.is_due(matter) for matter in ("a", "b", "a")] == [True, True, False]
    clock.now_s += 59
    assert not log_times.is_due("a")
    clock.now_s += 1
    assert log_times.is_due("a")
    assert not log_times.is_due("a")
