"""Threads for what may wait: as many as are needed, and no more than that."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from tests.processes import wait_until
from volumed.shards import threads
from volumed.shards.threads import BoundedThreads

LIMIT_S = 30.0


def started(found: Future[Any] | None) -> Future[Any]:
    assert found is not None
    return found


def alive(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def test_threads_that_have_nothing_to_do_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_IDLE_S", 0.01)
    pool, gate = BoundedThreads("idle", 3, 10), threading.Barrier(3)
    for _ in range(3):
        for job in [pool.submit(lambda: gate.wait(LIMIT_S)) for _ in range(3)]:
            started(job).result(LIMIT_S)
        wait_until(lambda: not alive("idle"), timeout_s=LIMIT_S, what="the end of the threads")


def test_every_job_is_done_while_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_IDLE_S", 0.0)
    pool = BoundedThreads("hasty", 2, 10)
    for number in range(2000):
        assert started(pool.submit(lambda number=number: number)).result(LIMIT_S) == number  # type: ignore[misc]


def test_a_process_that_may_have_no_thread_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that bounds their number: what cannot be done is refused, and it goes on when it can."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = BoundedThreads("scarce", 2, 10)
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", refuse)
        assert [pool.submit(int) for _ in range(20)] == [None] * 20
    gate = threading.Event()
    first = started(pool.submit(lambda: gate.wait(LIMIT_S)))
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", refuse)
        second = started(pool.submit(int))
    gate.set()
    assert (first.result(LIMIT_S), second.result(LIMIT_S)) == (True, 0)
    meeting = threading.Barrier(2)
    both = [started(pool.submit(lambda: meeting.wait(LIMIT_S))) for _ in range(2)]
    assert sorted(job.result(LIMIT_S) for job in both) == [0, 1], "two threads work again"
