"""Calls of an HTTP front to the supervisor."""

from __future__ import annotations

import asyncio
from typing import Any

import zmq

from volumed.bus.calls import Request
from volumed.bus.channel import Channel
from volumed.bus.frames import CALL_REPLY
from volumed.bus.pending import PendingCalls, start_call
from volumed.config.node import NodeConfig
from volumed.errors import RetryError

__all__ = ["SupervisorLink"]


class SupervisorLink:
    """The front's one connection to the supervisor, which lives as long as the front (children die with it)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: NodeConfig) -> None:
        self._loop = loop
        self._calls = PendingCalls()
        self._channel = Channel(loop, zmq.Context.instance(), config.supervisor_endpoint(), self._on_frame)

    def call(self, request: Request, timeout_s: float) -> asyncio.Future[Any]:
        """The result, of type ``type(request).Result``. Awaiting it raises what the supervisor raised, or
        `RetryError` after ``timeout_s``."""
        late = RetryError(f"the supervisor did not answer within {timeout_s:g} s")
        future, frame = start_call(self._loop, self._calls, request, timeout_s, late)
        self._channel.send(frame)
        return future

    def close(self) -> None:
        """Fail what waits and disconnect."""
        self._channel.close()
        self._calls.fail_all(RetryError("the front is stopping"))

    def _on_frame(self, frame: memoryview) -> None:
        if frame[0] == CALL_REPLY:
            self._calls.answer(frame)
