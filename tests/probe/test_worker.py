"""A real worker process: the whole way from a front's link to the files, and what a crash leaves."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

from tests.bus_kit import run
from tests.storage_kit import needle_body
from tests.worker_kit import COOKIE, worker_rig
from volumed.bus import calls, events, frames
from volumed.bus.frames import StoreOutcome
from volumed.errors import NeedleDeleted, NeedleNotFound, StaleGeneration, VolumeExists, VolumeNotFound
from volumed.formats.checksum import crc32c
from volumed.storage.read_payload import unpack_payload

pytestmark = pytest.mark.probe

LARGE = bytes(range(256)) * 1024


def test_it_reports_everything_before_it_is_ready(tmp_path: Path) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            ready = await rig.start()
            assert (ready.disk_id, ready.epoch) == (0, 1)
            assert ready.map_path == str(tmp_path / ready.uuid)
            (report,) = rig.supervisor.events[:-1]
            assert isinstance(report, events.DiskReport)
            assert report.full
            assert report.total_bytes > report.free_bytes > 0

    run(test)


def test_it_answers_pings_and_introduces_itself_to_a_new_supervisor(tmp_path: Path) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            await rig.start()
            rig.supervisor.tell(events.Ping(7))
            assert await rig.supervisor.event(events.Pong) == events.Pong(0, 1, 7)
            rig.supervisor.events.clear()
            rig.supervisor.tell(events.Ping(1))
            await rig.supervisor.event(events.DiskReady)
            assert any(isinstance(event, events.DiskReport) and event.full for event in rig.supervisor.events)

    run(test)


def test_needles_are_stored_read_and_deleted(tmp_path: Path) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            await rig.start_with_volume()
            assert (await rig.put(1, b"hello")).outcome == StoreOutcome.STORED
            assert (await rig.put(1, b"hello")).outcome == StoreOutcome.UNCHANGED
            found = await rig.read(1)
            assert (bytes(found.data), found.cookie) == (b"hello", COOKIE)
            assert (await rig.delete(1)).outcome == StoreOutcome.DELETED
            with pytest.raises(NeedleDeleted):
                await rig.read(1)
            with pytest.raises(NeedleNotFound):
                await rig.read(2)

    run(test)


def test_a_large_body_goes_by_reference_and_is_read_by_ranges(tmp_path: Path) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            await rig.start_with_volume()
            body = needle_body(LARGE)
            slab = rig.pool.allocate(len(body))
            slab.data[:] = body
            done: asyncio.Future[frames.StoreResult] = asyncio.get_running_loop().create_future()
            operation = frames.pack_put_shared(1, 0, COOKIE, 5, crc32c(LARGE), len(body), slab.offset)
            rig.link.store(operation, done.set_result, slab)
            slab.release()
            assert (await done).outcome == StoreOutcome.STORED
            payload = unpack_payload(await rig.link.read(1, 5))
            assert bytes(payload.record[20:][: len(LARGE)]) == LARGE
            part = await rig.link.read_range(1, payload.generation, payload.offset + 20 + 1000, 500)
            assert bytes(part) == LARGE[1000:1500]
            with pytest.raises(StaleGeneration):
                await rig.link.read_range(1, payload.generation + 1, payload.offset, 8)

    run(test)


def test_flushed_puts_of_many_clients_are_answered_beside_others(tmp_path: Path) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            await rig.start_with_volume()
            await rig.call(calls.AllocateVolume(2, "", 0, 0, 3))
            puts = [rig.put(key, b"durable", flags=frames.FLAG_FSYNC) for key in range(1, 9)]
            puts += [rig.put(key, b"other", volume_id=2) for key in range(1, 9)]
            results = await asyncio.gather(*puts)
            more = [rig.put(key, b"again", flags=frames.FLAG_FSYNC * (key % 2)) for key in range(1, 9)]
            results += await asyncio.gather(*more)
            assert {result.outcome for result in results} == {StoreOutcome.STORED}
            assert bytes((await rig.read(8)).data) == b"again"

    run(test)


def test_one_bad_operation_does_not_spoil_its_batch(tmp_path: Path) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            await rig.start_with_volume()
            stale = frames.pack_put(1, 77, COOKIE, 2, crc32c(b"x"), needle_body(b"x"))
            wrong = frames.pack_put(1, 0, COOKIE, 3, crc32c(b"y"), needle_body(b"x"))
            results = await asyncio.gather(
                rig.put(1, b"x"), rig.put(1, b"x", volume_id=9), rig.send(stale), rig.send(wrong), rig.put(4, b"x")
            )
            assert [str(result.error or "") for result in results] == [
                "",
                "volume 9 not found on localhost:8080",
                "volume 1 is at another generation",
                "the data of a put do not match their checksum",
                "",
            ]

    run(test)


def test_a_shared_body_outside_the_pool_is_an_error_not_a_crash(tmp_path: Path) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            await rig.start_with_volume()
            result = await rig.send(frames.pack_put_shared(1, 0, COOKIE, 3, 0, 10, 1 << 40))
            assert "are not in a pool" in str(result.error)
            assert (await rig.put(1, b"x")).outcome == StoreOutcome.STORED

    run(test)


def test_a_call_that_changes_volumes_tells_the_supervisor_first(tmp_path: Path) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            await rig.start()
            await rig.call(calls.AllocateVolume(3, "pics", 0, 0, 3))
            mounted = await rig.supervisor.event(events.VolumesChanged)
            assert [(item.report.id, item.report.collection) for item in mounted.mounted] == [(3, "pics")]
            with pytest.raises(VolumeExists):
                await rig.call(calls.AllocateVolume(3, "pics", 0, 0, 3))
            await rig.call(calls.UnmountVolume(3))
            assert [item.report.id for item in (await rig.supervisor.event(events.VolumesChanged)).gone] == [3]
            await rig.call(calls.MountVolume(3))
            await rig.supervisor.event(events.VolumesChanged)
            await rig.call(calls.DeleteCollection("pics"))
            assert [item.report.id for item in (await rig.supervisor.event(events.VolumesChanged)).gone] == [3]
            with pytest.raises(VolumeNotFound):
                await rig.call(calls.MountVolume(3))
            assert not [name for name in os.listdir(tmp_path) if name.startswith("pics_3")]

    run(test)


def test_a_volume_that_is_being_flushed_can_be_deleted(tmp_path: Path) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            await rig.start_with_volume()
            put = rig.put(1, b"x", flags=frames.FLAG_FSYNC)
            await asyncio.sleep(0)
            await rig.call(calls.DeleteVolume(1))
            assert (await put).outcome == StoreOutcome.STORED
            with pytest.raises(VolumeNotFound):
                await rig.read(1)

    run(test)


def test_batch_delete_answers_each_needle_in_order(tmp_path: Path) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            await rig.start_with_volume()
            size = (await rig.put(1, b"one")).size
            await rig.put(2, b"two")
            long = (await rig.put(4, bytes(2 << 20))).size
            needles = [
                calls.DeleteNeedle(1, 2, COOKIE + 1),
                calls.DeleteNeedle(1, 1, COOKIE),
                calls.DeleteNeedle(1, 1, COOKIE),
                calls.DeleteNeedle(1, 3, COOKIE),
                calls.DeleteNeedle(1, 2, None),
                calls.DeleteNeedle(1, 2, None),
                calls.DeleteNeedle(9, 2, COOKIE),
                calls.DeleteNeedle(9, 2, None),
                calls.DeleteNeedle(1, 4, COOKIE + 1),
                calls.DeleteNeedle(1, 4, COOKIE),
            ]
            results = (await rig.call(calls.DeleteNeedles(needles))).results
            assert [(result.status, result.error, result.size) for result in results] == [
                (400, "File Random Cookie does not match.", 0),
                (202, "", size),
                (404, "already deleted", 0),
                (404, "not found", 0),
                (202, "", size),
                (304, "", 0),
                (404, "volume 9 not found", 0),
                (500, "volume 9 not found on localhost:8080", 0),
                (400, "File Random Cookie does not match.", 0),
                (202, "", long),
            ]

    run(test)


def test_changes_are_reported_within_seconds(tmp_path: Path) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            await rig.start_with_volume()
            await rig.put(0xABC, b"x")
            while True:
                report = await rig.supervisor.event(events.DiskReport)
                if report.max_file_key == 0xABC:
                    break
            assert not report.full
            assert [(item.report.id, item.report.file_count) for item in report.volumes] == [(1, 1)]

    run(test)


def test_kill_in_the_middle_of_writes_loses_nothing_acknowledged(tmp_path: Path) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            await rig.start_with_volume()
            killed = asyncio.Event()
            stored: set[int] = set()
            failed: set[int] = set()
            next_key = 1

            async def client() -> None:
                nonlocal next_key
                while not killed.is_set():
                    key, next_key = next_key, next_key + 1
                    result = await rig.put(key, b"%d" % key)
                    (stored if result.outcome == StoreOutcome.STORED else failed).add(key)

            clients = [asyncio.create_task(client()) for _ in range(8)]
            while len(stored) < 300:  # noqa: ASYNC110 - any progress will do
                await asyncio.sleep(0.001)
            rig.kill()
            killed.set()
            await rig.start()
            await asyncio.gather(*clients)
            for key in stored:
                assert bytes((await rig.read(key)).data) == b"%d" % key
            assert (await rig.put(next_key, b"after")).outcome == StoreOutcome.STORED

    run(test)


def test_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            stamp = Path((await rig.start()).map_path) / "stamp.json"
            await rig.call(calls.AllocateVolume(1, "", 0, 0, 3))
            assert (await rig.put(1, b"x")).outcome == StoreOutcome.STORED
            rig.worker.signal(signal.SIGTERM)
            rig.worker.wait_exit(expected=0)
            assert '"clean":true' in stamp.read_text()
            await rig.start()
            assert bytes((await rig.read(1)).data) == b"x"

    run(test)


def test_a_disk_that_cannot_be_opened_is_told_and_ends_with_its_own_status(tmp_path: Path) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            await rig.start()
            second = rig.launch()
            failed = await rig.supervisor.event(events.DiskFailed)
            assert (failed.disk_id, failed.epoch) == (0, 2)
            assert str(tmp_path) in failed.reason
            assert second.running, "it ends only when it was heard"
            rig.supervisor.tell(events.Ping(1))
            second.wait_exit(expected=3)
            line = rf"(?m)^ERROR \S+Z worker disk=0 cannot open {tmp_path}: "
            assert re.search(line, second.log_tail())

    run(test)


def test_it_does_not_start_without_its_parent(tmp_path: Path) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            rig.launch(parent=1).wait_exit(expected=0)

    run(test)
