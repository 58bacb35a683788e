"""Clients of a modest rate, and what they see while a server does something else."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from benchmarks.bulk import Connection
from benchmarks.load import percentile

__all__ = ["DATA_BYTES", "Clients", "Figures"]

DATA_BYTES = 1024
PAUSE_S = 0.001
"""Between two requests of a client."""

Samples = list[tuple[float, float]]
"""(when a request began, how long it took), in seconds."""


class Figures(NamedTuple):
    """Latencies of some requests in ms."""

    requests: int
    p50: float
    p99: float
    longest: float

    def __str__(self) -> str:
        return f"{self.p50:.1f} / {self.p99:.1f} / {self.longest:.0f}"

    @classmethod
    def of(cls, samples: Samples, began: float, ended: float) -> Figures:
        """Those of the requests that began in this time."""
        in_order = sorted(1e3 * took for at, took in samples if began <= at < ended) or [0.0]
        return cls(len(in_order), percentile(in_order, 0.5), percentile(in_order, 0.99), in_order[-1])


class Clients:
    """One that reads and one that writes objects of `DATA_BYTES`, until `stop`."""

    def __init__(self, address: str, reads: Iterator[str], writes: Iterator[str]) -> None:
        """``reads`` and ``writes`` are the paths, without end."""
        self.reads: Samples = []
        self.writes: Samples = []
        body = os.urandom(DATA_BYTES)
        self._failures: list[str] = []
        self._stopping = threading.Event()
        acts: list[tuple[Samples, Callable[[Connection], None]]] = [
            (self.reads, lambda connection: connection.get(next(reads))),
            (self.writes, lambda connection: connection.put(next(writes), body)),
        ]
        self._threads = [threading.Thread(target=self._run, args=(address, *act)) for act in acts]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Raises RuntimeError when a request has failed."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise RuntimeError(self._failures[0])

    def _run(self, address: str, done: Samples, act: Callable[[Connection], None]) -> None:
        try:
            connection = Connection(address)
            while not self._stopping.wait(PAUSE_S):
                began = time.perf_counter()
                act(connection)
                done.append((began, time.perf_counter() - began))
        except Exception as error:
            self._failures.append(repr(error))
