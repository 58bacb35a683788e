"""A ZeroMQ DEALER on an asyncio loop, without ``zmq.asyncio`` (which costs a future per message)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import zmq

__all__ = ["Channel"]


class Channel:
    """One connection to one ROUTER. Frames arrive as ``on_frame(frame)`` on the loop, which must not raise.

    Flow is bounded by the users of a channel (batches and calls in flight), so the socket has no high-water mark;
    with one, a full queue would block or lose frames.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        on_frame: Callable[[memoryview], None],
    ) -> None:
        self._loop = loop
        self._on_frame = on_frame
        self._socket = context.socket(zmq.DEALER)
        self._socket.hwm = 0
        self._socket.linger = 0
        self._socket.connect(endpoint)
        self._fd = int(self._socket.getsockopt(zmq.FD))
        self._draining = False
        loop.add_reader(self._fd, self._drain)
        # The descriptor signals only to a reader that has once found nothing.
        self._drain()

    def send(self, frame: bytes) -> None:
        """Queue one frame; never blocks."""
        self._socket.send(frame, zmq.NOBLOCK)
        # Sending may consume the signal that announced a reply, be it one that nobody waits for any more.
        if not self._draining:
            self._loop.call_soon(self._drain)

    def close(self) -> None:
        """Drop the connection and everything queued on it."""
        if not self._socket.closed:
            self._loop.remove_reader(self._fd)
            self._socket.close()

    def _drain(self) -> None:
        """Read until nothing is left: the descriptor says nothing about a frame that was there before."""
        if self._draining or self._socket.closed:
            return
        self._draining = True
        receive, on_frame = self._socket.recv, self._on_frame
        try:
            while not self._socket.closed:
                on_frame(memoryview(receive(zmq.NOBLOCK)))
        except zmq.Again:
            pass
        finally:
            self._draining = False
