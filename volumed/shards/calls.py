"""Calls from threads of a front to the other processes of the node."""

from __future__ import annotations

from typing import Any, Protocol

from volumed.bus.calls import Request

__all__ = ["NodeCalls"]


class NodeCalls(Protocol):
    """Results are of type ``type(request).Result``; the methods raise what was raised there, and `RetryError`."""

    def supervisor(self, request: Request, timeout_s: float) -> Any: ...

    def worker(self, disk_id: int, request: Request, timeout_s: float) -> Any: ...
