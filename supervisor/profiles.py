"""``-cpuprofile`` and ``-memprofile``: profiles of the supervisor's own run, written when it stops (http.md 9.2).

Fronts and workers are processes of their own; the pages of ``-pprof`` show the fronts.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

__all__ = ["profiled"]

_log = logging.getLogger(__name__)
_LINES_MAX = 200


@contextlib.contextmanager
def profiled(cpu_path: str, memory_path: str) -> Iterator[None]:
    """Profile what runs inside. An empty path: not that. The profile of the calling thread's functions is for the
    module ``pstats``; that of memory is text, the lines of code that hold most first."""
    with contextlib.ExitStack() as profiles:
        if cpu_path:
            profiles.enter_context(_cpu(cpu_path))
        if memory_path:
            profiles.enter_context(_memory(memory_path))
        yield


@contextlib.contextmanager
def _cpu(path: str) -> Iterator[None]:
    import cProfile

    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        with _reported(path):
            profile.dump_stats(path)


@contextlib.contextmanager
def _memory(path: str) -> Iterator[None]:
    import tracemalloc

    tracemalloc.start()
    try:
        yield
    finally:
        statistics = tracemalloc.take_snapshot().statistics("lineno")
        tracemalloc.stop()
        with _reported(path), open(path, "w") as file:
            file.writelines(f"{line}\n" for line in statistics[:_LINES_MAX])


@contextlib.contextmanager
def _reported(path: str) -> Iterator[None]:
    """A profile that cannot be written must not make the stop fail."""
    try:
        yield
    except OSError as error:
        _log.error("cannot write %s: %s", path, error.strerror)
