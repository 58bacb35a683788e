"""Questions of fronts that only the master can answer, while it may be silent."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from supervisor.jobs import Jobs
from volumed.bus.calls import Request
from volumed.bus.router import Reply
from volumed.errors import RetryError

__all__ = ["Lookups"]

_WAITING_MAX = 4096
_LIMIT_S = 10.0

Ask = Callable[[float], msgspec.Struct]
"""Asks the master, and waits for at most so many seconds."""


class Lookups:
    """What many want to know is asked once: who comes while the master is asked shares its answer. Everybody is
    answered within the time limit: whoever was here before has left his thread by then. Used on the loop."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._waiting: dict[Request, list[Reply]] = {}
        self._replies = 0

    def ask(self, question: Request, ask: Ask, reply: Reply) -> None:
        """Answer ``reply``. Raises `RetryError` when too many wait already."""
        if self._replies >= _WAITING_MAX:
            raise RetryError("too many look-ups wait for the master")
        self._replies += 1
        waiting = self._waiting.setdefault(question, [])
        waiting.append(reply)
        if len(waiting) > 1:
            return
        until_s = time.monotonic() + _LIMIT_S

        def work() -> msgspec.Struct:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise RetryError("the master does not answer")
            return ask(left_s)

        def done(found: msgspec.Struct) -> None:
            for each in self._end(question):
                each.result(found)

        def failed(error: Exception) -> None:
            for each in self._end(question):
                each.error(error)

        self._jobs.submit(work, done, failed)

    def _end(self, question: Request) -> list[Reply]:
        replies = self._waiting.pop(question)
        self._replies -= len(replies)
        return replies
