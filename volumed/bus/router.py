"""Server side of calls: decode, hand to a handler, answer once. No socket: the owner of the ROUTER passes frames in
and gives a way out, so that a worker and the supervisor share it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import UnionType
from typing import Any

import msgspec

from volumed.bus.calls import Empty
from volumed.bus.frames import STATUS_ERROR, STATUS_OK, encode_error, pack_call_reply, parse_call
from volumed.errors import NodeError, VolumedError

__all__ = ["CallRouter", "Reply", "Send"]

_log = logging.getLogger(__name__)

Send = Callable[[bytes, bytes], None]
"""Sends (peer identity, frame); must not block or raise when the peer is gone."""


class Reply:
    """Where the answer to one call goes. Used once, on the thread that owns the socket."""

    __slots__ = ("_call_id", "_identity", "_send")

    def __init__(self, send: Send, identity: bytes, call_id: int) -> None:
        self._send = send
        self._identity = identity
        self._call_id = call_id

    @property
    def sender(self) -> bytes:
        """Who made the call."""
        return self._identity

    def result(self, value: msgspec.Struct | None = None) -> None:
        """The call succeeded; None answers a call that only succeeds or fails."""
        self._answer(STATUS_OK, msgspec.msgpack.encode(Empty() if value is None else value))

    def error(self, error: BaseException) -> None:
        """The call failed. Anything but a domain error is a bug: it is logged, and its text is the answer."""
        if not isinstance(error, VolumedError):
            _log.error("a call failed unexpectedly", exc_info=error)
            error = NodeError(str(error) or type(error).__name__)
        self._answer(STATUS_ERROR, encode_error(error))

    def _answer(self, status: int, payload: bytes) -> None:
        self._send(self._identity, pack_call_reply(self._call_id, status, payload))


class CallRouter:
    """Takes call frames of one set of requests."""

    def __init__(self, requests: UnionType, handle: Callable[[Any, Reply], None], send: Send) -> None:
        """``requests`` is a union of call types; ``handle(request, reply)`` answers now or later, or raises."""
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(requests)
        self._handle = handle
        self._send = send

    def receive(self, identity: bytes, frame: memoryview) -> None:
        """Serve one call."""
        call_id, payload = parse_call(frame)
        reply = Reply(self._send, identity, call_id)
        try:
            request = self._decoder.decode(payload)
        except msgspec.MsgspecError as error:
            reply.error(NodeError(f"unknown call: {error}"))
            return
        try:
            self._handle(request, reply)
        except Exception as error:
            reply.error(error)
