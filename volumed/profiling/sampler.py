"""Stacks of all threads of this process, sampled by one more thread.

What is counted is time that passes, not processor time: a thread that waits is seen waiting.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from types import FrameType

__all__ = ["Busy", "sample_stacks", "stack_counts", "trace_lines"]

_PERIOD_S = 0.01
_running = threading.Lock()


class Busy(Exception):
    """Somebody else is sampling this process."""


def sample_stacks(seconds: float) -> Iterator[tuple[float, str]]:
    """(seconds since the start, ``thread;outermost;…;innermost``) a hundred times per second, for each thread but the
    caller's. Raises `Busy`."""
    if not _running.acquire(blocking=False):
        raise Busy
    try:
        started_s = time.monotonic()
        while (elapsed_s := time.monotonic() - started_s) < seconds:
            for stack in _stacks():
                yield elapsed_s, stack
            time.sleep(_PERIOD_S)
    finally:
        _running.release()


def stack_counts(seconds: float) -> list[str]:
    """``stack count`` lines, the most frequent first: the input of flame graph tools. Raises `Busy`."""
    counts = Counter(stack for _, stack in sample_stacks(seconds))
    return [f"{stack} {count}" for stack, count in counts.most_common()]


def trace_lines(seconds: float) -> list[str]:
    """``milliseconds stack`` lines in order, only where a thread's stack changed. Raises `Busy`."""
    lines = []
    last: dict[str, str] = {}
    for elapsed_s, stack in sample_stacks(seconds):
        thread = stack.partition(";")[0]
        if last.get(thread) != stack:
            last[thread] = stack
            lines.append(f"{elapsed_s * 1000:.0f} {stack}")
    return lines


def _stacks() -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            yield ";".join([names.get(ident, "thread"), *_functions(frame)])


def _functions(frame: FrameType | None) -> list[str]:
    """Names of the functions of a stack, the outermost first."""
    found = []
    while frame is not None:
        found.append(f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}")
        frame = frame.f_back
    return found[::-1]
