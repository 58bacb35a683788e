"""Calls that wait for their answer, shared by the asyncio and the blocking callers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
from typing import Any

import msgspec

from volumed.bus.calls import Request
from volumed.bus.frames import STATUS_OK, decode_error, pack_call, parse_call_reply
from volumed.errors import NodeError, VolumedError

__all__ = ["PendingCalls", "start_call"]

_CALL_ID_MASK = 0xFFFFFFFF

_Future = asyncio.Future[Any] | concurrent.futures.Future[Any]


class PendingCalls:
    """Calls in flight on one connection. Used by one thread."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[type[Request], _Future]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request: Request, future: _Future) -> tuple[int, bytes]:
        """Call id and frame of a new call; its result goes to ``future``."""
        call_id = next(self._numbers) & _CALL_ID_MASK
        self._waiting[call_id] = (type(request), future)
        return call_id, pack_call(call_id, request)

    def answer(self, frame: memoryview) -> None:
        """Complete the call that this reply belongs to; a reply that came too late is dropped."""
        call_id, status, payload = parse_call_reply(frame)
        request_type, future = self._waiting.pop(call_id, (Request, None))
        if future is None or future.done():
            return
        if status != STATUS_OK:
            future.set_exception(decode_error(payload))
            return
        try:
            future.set_result(msgspec.msgpack.decode(payload, type=request_type.Result))
        except msgspec.MsgspecError as error:
            future.set_exception(NodeError(f"answer to {request_type.__name__}: {error}"))

    def fail(self, call_id: int, error: VolumedError) -> None:
        """Give up one call, if it still waits."""
        _, future = self._waiting.pop(call_id, (Request, None))
        if future is not None and not future.done():
            future.set_exception(error)

    def fail_all(self, error: VolumedError) -> None:
        """Give up every call."""
        for call_id in list(self._waiting):
            self.fail(call_id, error)


def start_call(
    loop: asyncio.AbstractEventLoop, calls: PendingCalls, request: Request, timeout_s: float, late: VolumedError
) -> tuple[asyncio.Future[Any], bytes]:
    """Add a call whose result is awaited on ``loop``; after ``timeout_s`` it fails with ``late``. The frame is the
    caller's to send."""
    future = loop.create_future()
    call_id, frame = calls.add(request, future)
    timer = loop.call_later(timeout_s, calls.fail, call_id, late)
    future.add_done_callback(lambda _: timer.cancel())
    return future, frame
