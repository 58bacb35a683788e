"""Reads of one link: those that wait for room, and those a worker has. No clock, no socket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from volumed.bus.frames import STATUS_OK, decode_error
from volumed.errors import VolumedError

__all__ = ["ReadQueue"]

_Future = asyncio.Future[memoryview]


class _Waiting(NamedTuple):
    number: int
    operation: bytes
    future: _Future


class ReadQueue:
    """Reads are answered one by one, in any order; at most ``in_flight_max`` are with the worker."""

    def __init__(self, in_flight_max: int) -> None:
        self._in_flight_max = in_flight_max
        self._waiting: deque[_Waiting] = deque()
        self._in_flight: dict[int, tuple[_Future, float]] = {}

    @property
    def waiting(self) -> int:
        """How many have not been sent."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """How many the worker has."""
        return len(self._in_flight)

    def add(self, number: int, operation: bytes, future: _Future) -> None:
        """Append one packed read."""
        self._waiting.append(_Waiting(number, operation, future))

    def take(self, deadline: float) -> list[bytes]:
        """The operations to send now; they are in flight from here on."""
        operations: list[bytes] = []
        while self._waiting and len(self._in_flight) < self._in_flight_max:
            number, operation, future = self._waiting.popleft()
            if not future.done():
                operations.append(operation)
                self._in_flight[number] = (future, deadline)
        return operations

    def answer(self, replies: Iterable[tuple[int, int, memoryview]]) -> None:
        """Complete reads. Answers that came too late, or that nobody waits for any more, are dropped."""
        for number, status, payload in replies:
            future, _ = self._in_flight.pop(number, (None, 0.0))
            if future is None or future.done():
                continue
            if status == STATUS_OK:
                future.set_result(payload)
            else:
                future.set_exception(decode_error(payload))

    def give_up(self, now: float, error: VolumedError) -> None:
        """Fail the reads whose deadline has passed."""
        late = [number for number, (_, deadline) in self._in_flight.items() if now >= deadline]
        for number in late:
            _fail(self._in_flight.pop(number)[0], error)

    def fail_in_flight(self, error: VolumedError) -> None:
        """Fail everything that the worker has."""
        in_flight, self._in_flight = self._in_flight, {}
        for future, _ in in_flight.values():
            _fail(future, error)

    def fail_waiting(self, error: VolumedError) -> None:
        """Fail everything that has not been sent."""
        waiting, self._waiting = self._waiting, deque()
        for item in waiting:
            _fail(item.future, error)


def _fail(future: _Future, error: VolumedError) -> None:
    if not future.done():
        future.set_exception(error)
