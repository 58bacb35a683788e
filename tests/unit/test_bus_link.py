"""`volumed.bus.link` against a scripted worker."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from tests.bus_kit import PAGE, Bench, bench, run
from volumed.bus import calls, frames
from volumed.bus.bodypool import BodyPool
from volumed.bus.frames import StoreOutcome
from volumed.bus.link import LinkLimits
from volumed.bus.spool_calls import AppendSpool
from volumed.errors import DiskUnavailable, NeedleNotFound, RetryError
from volumed.nodetable import DiskState

LONG_HOLD = LinkLimits(hold_s=0.9)
"""A hold that no test waits for: what leaves before it was not waiting for the timer."""

IMPATIENT = LinkLimits(store_timeout_s=0.5, read_timeout_s=0.05, watch_s=0.01, reopening_s=0.05)
WATCHFUL = LinkLimits(watch_s=0.005)


def errors(made: Bench) -> list[str]:
    return [result.error.text for result in made.results if result.error]


def test_a_lone_store_leaves_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path, LONG_HOLD) as b:
            for _ in range(3):
                b.store()
                number, operations = await b.worker.batch()
                assert [bytes(operation.body) for operation in operations] == [b"x"]
                b.worker.answer(number, 1)
                await b.until(lambda: bool(b.results))
                assert b.results.pop().outcome == StoreOutcome.STORED

    run(test)


def test_stores_of_one_tick_share_a_batch_and_get_their_own_results(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path, LONG_HOLD) as b:
            got: dict[int, int] = {}
            for key in range(3):
                b.link.store(
                    frames.pack_put(1, 0, 0, key, 0, b""),
                    lambda result, key=key: got.__setitem__(key, result.size),
                )
            number, operations = await b.worker.batch()
            assert [operation.key for operation in operations] == [0, 1, 2]
            results = [frames.StoreResult(StoreOutcome.STORED, 10 + key) for key in range(3)]
            b.worker.send(frames.pack_store_reply(number, results))
            await b.until(lambda: len(got) == 3)
            assert got == {0: 10, 1: 11, 2: 12}
            assert b.worker.hellos == [b.pool.path]

    run(test)


def test_one_batch_in_flight_then_all_that_queued_up(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path, LONG_HOLD) as b:
            b.store()
            number, _ = await b.worker.batch()
            b.store(5)
            await asyncio.sleep(0.01)
            assert b.worker.silent()
            b.worker.answer(number, 1)
            # Target 1 + 5: the five alone would be held, the answered client comes back as the sixth.
            await b.settled(1)
            assert b.worker.silent()
            b.store()
            _, operations = await b.worker.batch()
            assert len(operations) == 6

    run(test)


def test_a_held_batch_leaves_when_the_hold_is_over(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path, LinkLimits(hold_s=0.02)) as b:
            b.store(4)
            number, _ = await b.worker.batch()
            b.worker.answer(number, 4)
            await b.settled(4)
            began = time.monotonic()
            b.store(2)
            _, operations = await b.worker.batch()
            assert len(operations) == 2
            assert time.monotonic() - began >= 0.02

    run(test)


def test_a_batch_is_capped(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path) as b:
            b.store(frames.BATCH_OPERATIONS_MAX + 1)
            number, operations = await b.worker.batch()
            assert len(operations) == frames.BATCH_OPERATIONS_MAX
            b.worker.answer(number, len(operations))
            number, operations = await b.worker.batch()
            assert len(operations) == 1
            b.worker.answer(number, 1)
            await b.settled(frames.BATCH_OPERATIONS_MAX + 1)
            b.store(3, body=bytes(frames.BATCH_BYTES_MAX // 2))
            assert len((await b.worker.batch())[1]) == 1

    run(test)


def test_an_unanswered_batch_fails_and_its_late_answer_is_dropped(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path, IMPATIENT) as b:
            b.store()
            late, _ = await b.worker.batch()
            b.store()
            await b.settled(2)
            assert errors(b) == [
                "disk 0 did not answer within 0.5 s, outcome unknown",
                "disk 0 does not answer",
            ]
            b.worker.answer(late, 1)
            b.store()
            number, _ = await b.worker.batch()
            assert number != late
            b.worker.answer(number, 1)
            await b.settled(3)
            assert [result.outcome for result in b.results[2:]] == [StoreOutcome.STORED]

    run(test)


def test_a_new_epoch_fails_what_was_sent_and_takes_what_was_not(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path, WATCHFUL) as b:
            b.store()
            await b.worker.batch()
            call = b.link.call(calls.VolumeStatus(1), 5.0)
            read = b.link.read(1, 2)
            await b.worker.frame()
            await b.worker.frame()
            b.store()
            b.node.start_epoch(2, DiskState.OPENING)
            second = b.start_worker(2)
            await b.settled(1)
            text = "the worker of disk 0 ended, outcome unknown"
            assert errors(b) == [text]
            for future in (call, read):
                with pytest.raises(DiskUnavailable, match=text):
                    await future
            b.node.set_state(DiskState.OK)
            number, operations = await second.batch()
            assert (len(operations), second.hellos) == (1, [b.pool.path])
            second.answer(number, 1)
            await b.settled(2)
            assert b.results[1].outcome == StoreOutcome.STORED
            assert b.worker.silent()

    run(test)


def test_unsent_stores_do_not_wait_long_for_a_new_worker(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path, IMPATIENT) as b:
            b.store()
            b.node.start_epoch(2, DiskState.OPENING)
            await b.settled(1)
            assert errors(b) == ["disk 0 is opening"]

    run(test)


@pytest.mark.parametrize("state", [DiskState.FAILED, DiskState.STUCK, DiskState.OPENING, DiskState.ABSENT])
def test_a_disk_that_does_not_serve_refuses_at_once(tmp_path: Path, state: DiskState) -> None:
    async def test() -> None:
        with bench(tmp_path) as b:
            b.node.set_state(state)
            text = f"disk 0 is {state.name.lower()}"
            with pytest.raises(DiskUnavailable, match=text):
                b.store()
            with pytest.raises(DiskUnavailable, match=text):
                b.link.read(1, 1)
            with pytest.raises(DiskUnavailable, match=text):
                b.link.call(calls.RescanDisk(), 1.0)

    run(test)


def test_too_many_waiting_stores_are_refused(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path, LinkLimits(queue_operations_max=2)) as b:
            b.store(2)
            with pytest.raises(RetryError, match="too many writes wait for disk 0"):
                b.store()

    run(test)


def test_a_failing_callback_costs_nobody_else_the_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: frames.StoreResult) -> None:
        raise ValueError("broken")

    async def test() -> None:
        with bench(tmp_path) as b:
            b.link.store(frames.pack_put(1, 0, 0, 1, 0, b""), broken)
            b.store()
            number, _ = await b.worker.batch()
            b.worker.answer(number, 2)
            await b.settled(1)

    run(test)
    assert "broken" in caplog.text


def test_reads_are_batched_answered_in_any_order_and_limited(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path, LinkLimits(reads_in_flight_max=2)) as b:
            first, second = b.link.read(1, 11, frames.FLAG_READ_DELETED), b.link.read_range(1, 7, 8, 9)
            third = b.link.read(1, 13)
            reads = await b.worker.reads()
            assert [read[1:] for read in reads] == [
                (frames.READ_NEEDLE, frames.FLAG_READ_DELETED, 1, 0, 11, 0, 0),
                (frames.READ_RANGE, 0, 1, 7, 0, 8, 9),
            ]
            b.worker.send(frames.pack_read_replies([(reads[1].request_id, frames.STATUS_OK, b"range")]))
            assert bytes(await second) == b"range"
            (last,) = await b.worker.reads()
            error = frames.encode_error(NeedleNotFound())
            b.worker.send(
                frames.pack_read_replies(
                    [
                        (last.request_id, frames.STATUS_OK, b"third"),
                        (reads[0].request_id, frames.STATUS_ERROR, error),
                    ]
                )
            )
            assert bytes(await third) == b"third"
            with pytest.raises(NeedleNotFound):
                await first

    run(test)


def test_reads_given_up_by_their_caller_are_not_sent(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path) as b:
            b.link.read(1, 11).cancel()
            b.link.read(1, 12).add_done_callback(lambda done: done.exception())
            assert [read.key for read in await b.worker.reads()] == [12]

    run(test)


def test_an_unanswered_read_or_call_fails(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path, IMPATIENT) as b:
            read, call = b.link.read(1, 1), b.link.call(calls.RescanDisk(), 0.05)
            for future in (read, call):
                with pytest.raises(DiskUnavailable, match="disk 0 did not answer within 0.05 s"):
                    await future

    run(test)


def test_a_slab_is_used_again_when_the_batch_was_answered(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path) as b:
            free = b.pool.free_bytes
            slab = b.pool.allocate(5)
            b.link.store(frames.pack_put_shared(1, 0, 0, 1, 0, 5, slab.offset), b.results.append, slab)
            slab.release()
            number, (operation,) = await b.worker.batch()
            assert (operation.kind, operation.shared_at) == (frames.STORE_PUT_SHARED, slab.offset)
            assert b.pool.free_bytes < free
            b.worker.answer(number, 1)
            await b.settled(1)
            assert b.pool.free_bytes == free

    run(test)


def test_the_slab_of_a_lost_batch_is_kept_until_the_worker_is_gone(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path, IMPATIENT) as b:
            free = b.pool.free_bytes
            slab = b.pool.allocate(5)
            b.link.store(frames.pack_put_shared(1, 0, 0, 1, 0, 5, slab.offset), b.results.append, slab)
            slab.release()
            await b.worker.batch()
            await b.settled(1)
            assert b.pool.free_bytes < free
            b.node.start_epoch(2)
            b.start_worker(2)
            b.store()
            assert b.pool.free_bytes == free

    run(test)


def test_large_bodies_of_many_clients_do_not_share_one_batch(tmp_path: Path) -> None:
    async def test() -> None:
        pool = BodyPool(str(tmp_path / "large.pool"), capacity=64 << 20)
        with bench(tmp_path) as b:
            size = frames.BATCH_BODIES_BYTES_MAX // 2
            for _ in range(3):
                slab = pool.allocate(size)
                b.link.store(frames.pack_put_shared(1, 0, 0, 1, 0, size, slab.offset), b.results.append, slab)
                slab.release()
            number, operations = await b.worker.batch()
            assert len(operations) == 2
            b.worker.answer(number, 2)
            assert len((await b.worker.batch())[1]) == 1
        pool.close()

    run(test)


def test_closing_leaves_the_bodies_that_a_worker_may_be_reading(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path) as b:
            slab = b.pool.allocate(5)
            used = b.pool.free_bytes
            b.link.store(frames.pack_put_shared(1, 0, 0, 1, 0, 5, slab.offset), b.results.append, slab)
            slab.release()
            await b.worker.batch()
            b.link.close()
            assert len(b.results) == 1
            assert b.pool.free_bytes == used

    run(test)


def test_closing_fails_what_waits(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path) as b:
            b.store()
            await b.worker.batch()
            b.store()
            read = b.link.read(1, 1)
            b.link.close()
            assert errors(b) == ["the front is stopping"] * 2
            with pytest.raises(DiskUnavailable):
                await read
            with pytest.raises(DiskUnavailable):
                b.store()

    run(test)


def test_the_slab_of_a_call_is_kept_until_the_worker_has_answered_or_is_gone(tmp_path: Path) -> None:
    async def test() -> None:
        with bench(tmp_path) as b:
            free = b.pool.free_bytes
            waiting = []
            for timeout_s in (5.0, 0.01, 5.0):
                slab = b.pool.allocate(5)
                waiting.append(b.link.call(AppendSpool(1, slab.offset, 5), timeout_s, slab))
                slab.release()
            ids = [frames.parse_call(await b.worker.frame())[0] for _ in waiting]
            b.worker.send(frames.pack_call_reply(ids[0], frames.STATUS_OK, msgspec.msgpack.encode(calls.Empty())))
            await waiting[0]
            assert b.pool.free_bytes == free - 2 * PAGE
            with pytest.raises(DiskUnavailable):
                await waiting[1]
            assert b.pool.free_bytes == free - 2 * PAGE
            b.worker.send(frames.pack_call_reply(ids[1], frames.STATUS_OK, msgspec.msgpack.encode(calls.Empty())))
            await b.until(lambda: b.pool.free_bytes == free - PAGE)
            b.node.start_epoch(2)
            with pytest.raises(DiskUnavailable):
                await waiting[2]
            assert b.pool.free_bytes == free

    run(test)
