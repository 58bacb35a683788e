"""Work that is finished even when the client is gone: a write is not taken back half-way (http.md 4.1)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["finish_anyway", "unfinished"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_running: set[asyncio.Task[Any]] = set()


async def finish_anyway(work: Coroutine[Any, Any, _T]) -> _T:
    """Await ``work``; when the caller is cancelled, the work goes on by itself, and what goes wrong is logged."""
    task = asyncio.ensure_future(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_log_failure)
        raise


def unfinished() -> set[asyncio.Task[Any]]:
    """Work in progress; a stopping front waits for it."""
    return set(_running)


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("work whose client is gone failed: %s", error, exc_info=error)
