"""Work on volumes in the background, for each volume one piece after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from workers.host import Shell, Work

__all__ = ["End", "Turns"]

T = TypeVar("T")
End = Callable[[], None]
"""Ends a turn; called once."""


class Turns:
    """Used on the loop thread."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._waiting: dict[int, deque[Callable[[End], None]]] = {}
        """By volume; what is under way is not in the queue any more."""

    def take(self, volume_id: int, begin: Callable[[End], None]) -> None:
        """Call ``begin`` when it is its turn, perhaps at once. The next one's comes when it ends its own."""
        if volume_id in self._waiting:
            self._waiting[volume_id].append(begin)
        else:
            self._waiting[volume_id] = deque([begin])
            self._next(volume_id)

    def run(
        self,
        volume_id: int,
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[Exception], None],
        kind: Work = Work.TASK,
    ) -> None:
        """`Shell.in_background` in turn: the next one's comes after ``done`` or ``failed``."""
        self.take(volume_id, lambda end: self.run_to(end, work, done, failed, kind))

    def run_to(
        self,
        end: End,
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[Exception], None],
        kind: Work = Work.TASK,
    ) -> None:
        """The same in a turn that was taken, and that ends with it."""

        def finish(outcome: Callable[[], None]) -> None:
            try:
                outcome()
            finally:
                end()

        self._shell.in_background(
            work,
            lambda result: finish(partial(done, result)),
            lambda error: finish(partial(failed, error)),
            kind,
        )

    def _next(self, volume_id: int) -> None:
        waiting = self._waiting[volume_id]
        if waiting:
            waiting.popleft()(lambda: self._next(volume_id))
        else:
            del self._waiting[volume_id]
