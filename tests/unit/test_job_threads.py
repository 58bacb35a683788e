"""Threads for background work (`workers.threads`)."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from workers.threads import JobThreads

LIMIT_S = 30.0


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_jobs_and_the_threads_they_start_are_as_nice_as_asked_for_and_nobody_else_is() -> None:
    before = _niceness()
    found: Future[tuple[int, int]] = Future()

    def job() -> None:
        with ThreadPoolExecutor(1) as pool:
            found.set_result((_niceness(), pool.submit(_niceness).result()))

    JobThreads("nice", niceness=1).submit(job)
    assert found.result(LIMIT_S) == (before + 1, before + 1)
    assert _niceness() == before


def test_a_job_that_raises_does_not_end_its_thread() -> None:
    threads, done = JobThreads("plain"), Future[int]()

    def fail() -> None:
        raise RuntimeError("a job of the test")

    threads.submit(fail)
    threads.submit(lambda: done.set_result(_niceness()))
    assert done.result(LIMIT_S) == _niceness()
