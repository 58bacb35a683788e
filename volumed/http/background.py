"""Work that is finished even when the client is gone: a write is not taken back half-way (http.md 4.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["finish_anyway", "unfinished"]

_T = TypeVar("_T")
_running: set[asyncio.Task[Any]] = set()


async def finish_anyway(work: Coroutine[Any, Any, _T]) -> _T:
    """Await ``work``; when the caller is cancelled, the work goes on by itself."""
    task = asyncio.ensure_future(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return await asyncio.shield(task)


def unfinished() -> set[asyncio.Task[Any]]:
    """Work in progress; a stopping front waits for it."""
    return set(_running)
