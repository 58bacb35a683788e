"""Steps at which a process is to die, told by files of one directory (``VOLUMED_TEST_FATE``); `tests.kill_kit` writes
them, see there.

``order``: a path of steps, which ends where the process kills itself. The process notes in ``steps`` every step that it
begins, one a line, and in ``node`` where the node's configuration is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["AFTER", "BEFORE", "HALFWAY", "NODE", "ORDER", "STEPS", "Fate", "Order"]

ORDER, STEPS, NODE = "order", "steps", "node"
BEFORE, HALFWAY, AFTER = "before", "halfway", "after"


class Order(msgspec.Struct):
    """The process dies ``before``, ``halfway`` or ``after`` the last step of ``path``, when the others were seen in
    this order; what comes between them does not matter. ``number`` tells orders apart."""

    number: int
    path: list[str]
    moment: str = BEFORE


class Fate:
    """What one process knows of it. Any thread."""

    def __init__(self, directory: Path, pid: int) -> None:
        """``pid`` is the process that dies, the own one or the one that this one dies with."""
        self._directory = directory
        self._pid = pid
        self._lock = threading.Lock()
        self._order: Order | None = None
        self._raw = b""
        self._seen = 0

    @contextlib.contextmanager
    def step(self, name: str, half: Callable[[], Any] = lambda: None) -> Iterator[None]:
        """Around one step; ``half`` does half of it."""
        moment = self._reached(name)
        if moment == BEFORE:
            self._die()
        elif moment == HALFWAY:
            half()
            self._die()
        yield
        if moment == AFTER:
            self._die()

    def _reached(self, name: str) -> str:
        """When to die in the step that begins; empty: not at all."""
        with self._lock:
            self._note(name)
            self._read_order()
            order = self._order
            if order is None or self._seen == len(order.path) or name != order.path[self._seen]:
                return ""
            self._seen += 1
            return order.moment if self._seen == len(order.path) else ""

    def _note(self, name: str) -> None:
        with open(self._directory / STEPS, "ab", buffering=0) as file:
            file.write(f"{name}\n".encode())

    def _read_order(self) -> None:
        try:
            raw = (self._directory / ORDER).read_bytes()
        except FileNotFoundError:
            raw = b""
        if raw != self._raw:
            self._raw, self._seen = raw, 0
            self._order = msgspec.json.decode(raw, type=Order) if raw else None

    def _die(self) -> None:
        """One process per order: another worker may have been quicker."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._directory / ORDER)
            os.kill(self._pid, signal.SIGKILL)
            threading.Event().wait()
