"""A stand-in for the shell around a worker's parts (``workers.loop``), without threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["HandShell"]


class HandShell:
    """A worker's shell that runs background work at once, or, with ``waiting`` set, when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] | None = None

    def in_background(
        self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Exception], None], _kind: object
    ) -> None:
        def job() -> None:
            try:
                outcome = work()
            except Exception as error:
                failed(error)
            else:
                done(outcome)

        if self.waiting is None:
            job()
        else:
            self.waiting.append(job)

    def go_on(self) -> None:
        """Run what waits, and what comes from now on at once."""
        waiting, self.waiting = self.waiting or [], None
        for job in waiting:
            job()
