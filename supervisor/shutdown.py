"""Stopping several processes at once and going on when they are gone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from supervisor.loop import Loop
from supervisor.processes import ProcessTable

__all__ = ["Stoppable", "stop_all"]

_log = logging.getLogger(__name__)

_KILL_LIMIT_S = 5.0
"""A process that survives SIGKILL so long sits in a frozen filesystem; nobody can wait for it."""


class Stoppable(Protocol):
    """A keeper of a process."""

    @property
    def name(self) -> str: ...
    @property
    def running(self) -> bool: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


def stop_all(
    keepers: Sequence[Stoppable], limit_s: float, loop: Loop, processes: ProcessTable, then: Callable[[], None]
) -> None:
    """Ask the processes to end and call ``then`` once. Those that need longer than the limit are killed, those that
    cannot be killed are left behind."""

    def running() -> list[Stoppable]:
        return [keeper for keeper in keepers if keeper.running]

    def finish() -> None:
        processes.on_end = None
        late.cancel()
        given_up.cancel()
        then()

    def check() -> None:
        if not running():
            finish()

    def kill() -> None:
        for keeper in running():
            _log.warning("%s did not stop within %g s and is killed", keeper.name, limit_s)
            keeper.kill()

    def give_up() -> None:
        for keeper in running():
            _log.error("%s cannot be killed and is left behind", keeper.name)
        finish()

    late = loop.call_later(limit_s, kill)
    given_up = loop.call_later(limit_s + _KILL_LIMIT_S, give_up)
    processes.on_end = check
    for keeper in keepers:
        keeper.stop()
    check()
