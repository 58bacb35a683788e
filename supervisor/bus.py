"""The supervisor's end of the bus: events from workers, calls from everybody (frames: ``volumed.bus.frames``)."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import zmq

from supervisor.loop import Loop
from volumed.bus import calls, events, frames
from volumed.bus.router import CallRouter, Reply

__all__ = ["SupervisorBus"]

_log = logging.getLogger(__name__)
_HIGH_WATER = 10_000


class SupervisorBus:
    """The ROUTER socket on the loop. Handlers run on the loop's thread."""

    def __init__(
        self,
        loop: Loop,
        endpoint: str,
        on_event: Callable[[events.WorkerEvent, bytes], None],
        on_call: Callable[[calls.SupervisorRequest, Reply], None],
    ) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._socket = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.hwm = _HIGH_WATER
        self._socket.bind(endpoint)
        self._loop = loop
        self._on_event = on_event
        self._decoder = msgspec.msgpack.Decoder(events.WorkerEvent)
        self._calls = CallRouter(calls.SupervisorRequest, on_call, self._send)
        loop.add_reader(self._socket, self._receive)

    def send_event(self, identity: bytes, event: events.SupervisorEvent) -> None:
        """Tell a worker something; lost when it does not read any more."""
        self._send(identity, frames.pack_event(event))

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _send(self, identity: bytes, frame: bytes) -> None:
        # A peer that is gone, or does not read, loses this message and nothing else.
        try:
            self._socket.send_multipart([identity, frame], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            _log.debug("a message on the bus is dropped: %s", error)

    def _receive(self) -> None:
        while True:
            try:
                identity, frame = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._dispatch(identity, memoryview(frame))
            except Exception:
                _log.exception("a message on the bus was not understood")

    def _dispatch(self, identity: bytes, frame: memoryview) -> None:
        if frame[0] == frames.EVENT:
            self._on_event(self._decoder.decode(frame[1:]), identity)
        else:
            self._calls.receive(identity, frame)
