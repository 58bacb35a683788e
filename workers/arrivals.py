"""Files that come in from fronts block by block: what all kinds of them have in common (``volumed.bus.staging``).

An arrival is worked on by background threads, one piece of work at a time. One that does not end well leaves nothing:
it is removed when its front says so or is gone.
"""

from __future__ import annotations

import logging
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from volumed.bus.router import Reply
from volumed.bus.staging import StagedBlocks
from volumed.errors import NodeError
from workers.host import Shell, Work, nothing
from workers.refusals import refusal

__all__ = ["Arrival", "Arrivals"]

_log = logging.getLogger(__name__)
_NUMBER_BITS = 63

T = TypeVar("T")
A = TypeVar("A", bound="Arrival")


class Arrival:
    """What comes in. ``busy``: a thread works on it, then comes ``when_idle``; ``doomed``: it is being removed."""

    def __init__(self, name: str, staging_path: str) -> None:
        """``name`` is for the log. Raises `NodeError`."""
        self.name = name
        try:
            self.staged = StagedBlocks(staging_path)
        except (OSError, ValueError) as error:
            raise NodeError(f"cannot map {staging_path}: {error}") from error
        self.busy = False
        self.doomed = False
        self.when_idle: Callable[[], None] = nothing


class Arrivals(ABC, Generic[A]):
    """The arrivals of one kind on one disk. Used on the loop thread."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._arrivals: dict[int, A] = {}

    def tick(self) -> None:
        """Remove what belongs to a front that is gone."""
        for number, arrival in list(self._arrivals.items()):
            if not arrival.doomed and arrival.staged.is_abandoned():
                _log.warning("%s was abandoned", arrival.name)
                self._discard(number, arrival)

    @abstractmethod
    def _remove(self, arrival: A, ended: Callable[[object], None]) -> None:
        """Remove all of an arrival that is not busy, then call ``ended``, with the error if there was one."""

    def _add(self, arrival: A) -> int:
        # Not counted: a front may still name what a predecessor of this process had.
        number = secrets.randbits(_NUMBER_BITS)
        self._arrivals[number] = arrival
        return number

    def _find(self, number: int) -> A:
        arrival = self._arrivals.get(number)
        if arrival is None or arrival.busy or arrival.doomed:
            raise NodeError(f"nothing with the number {number} is arriving")
        return arrival

    def _work(
        self,
        arrival: A,
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[Exception], None],
        kind: Work = Work.PIECE,
    ) -> None:
        """Run ``work`` aside; nothing else happens to the arrival meanwhile."""
        arrival.busy = True

        def ended(result: T) -> None:
            arrival.busy = False
            try:
                done(result)
            except Exception as error:
                failed(error)
            self._rest(arrival)

        def broken(error: Exception) -> None:
            arrival.busy = False
            failed(refusal(arrival.name, error))
            self._rest(arrival)

        self._shell.in_background(work, ended, broken, kind)

    def _rest(self, arrival: A) -> None:
        """Some work has ended; unless there is more, do what waits for that."""
        if not arrival.busy:
            arrival.when_idle()

    def _close(self, number: int, reply: Reply) -> None:
        """The front gives an arrival up."""
        arrival = self._arrivals.get(number)
        if arrival is None:
            reply.result()
        else:
            self._discard(number, arrival, reply)

    def _discard(self, number: int, arrival: A, reply: Reply | None = None) -> None:
        """Remove an arrival; what a thread still does with it is waited for."""
        arrival.doomed = True
        if arrival.busy:
            arrival.when_idle = partial(self._discard, number, arrival, reply)
            return
        arrival.when_idle = nothing

        def ended(error: object = None) -> None:
            if error is not None:
                _log.error("%s: what has come cannot be removed: %s", arrival.name, error)
            self._forget(number, arrival)
            if reply is not None:
                reply.result()

        self._remove(arrival, ended)

    def _forget(self, number: int, arrival: A) -> None:
        if self._arrivals.pop(number, None) is not None:
            arrival.staged.close()
