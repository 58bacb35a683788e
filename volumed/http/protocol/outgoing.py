"""The sending side of a connection: what is written, whether the client takes it, when it has left this process."""

from __future__ import annotations

import asyncio
import fcntl
import select
import socket
import struct
import termios
from collections.abc import Callable, Sequence

__all__ = ["Outgoing"]

_HIGH_BYTES = 256 << 10
_LOW_BYTES = 64 << 10
_SEE_OFF_S = 0.05
"""Between two looks at what the kernel has of a TLS connection."""


class Outgoing:
    """Wraps a transport. The protocol passes `pause_writing`, `resume_writing` and `connection_lost` on."""

    __slots__ = (
        "_clock",
        "_leaving",
        "_on_sent",
        "_tls_socket",
        "_transport",
        "_unsent",
        "_waiter",
        "active_at",
        "is_full",
        "lost",
    )

    def __init__(self, transport: asyncio.Transport, clock: Callable[[], float]) -> None:
        self._transport = transport
        self._clock = clock
        over_tls = transport.get_extra_info("ssl_object") is not None
        self._tls_socket: socket.socket | None = transport.get_extra_info("socket") if over_tls else None
        self._leaving = False
        self._waiter: asyncio.Future[None] | None = None
        self._on_sent: list[Callable[[], None]] = []
        self._unsent = 0
        self.active_at = clock()
        """When the last byte moved; whoever receives one sets it, too."""
        self.is_full = False
        """The client has not taken what was written: nothing that can wait should be added."""
        self.lost = False
        transport.set_write_buffer_limits(_HIGH_BYTES, _LOW_BYTES)

    def write(self, data: bytes | memoryview) -> None:
        if not self.lost:
            self.active_at = self._clock()
            self._transport.write(data)

    def write_all(self, parts: Sequence[bytes | memoryview]) -> None:
        if not self.lost:
            self.active_at = self._clock()
            self._transport.writelines(parts)

    async def drained(self) -> None:
        """Wait while the client does not take what was written. Raises `ConnectionError` when it is gone."""
        if self.is_full and not self.lost:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.lost:
            raise ConnectionResetError

    def when_sent(self, done: Callable[[], None]) -> None:
        """Call ``done`` when all that was written until now is with the kernel, or the client is gone; perhaps at
        once. Until then the connection counts as full."""
        if not self.lost and self.unsent:
            self._on_sent.append(done)
            self._transport.set_write_buffer_limits(0, 0)
        elif self.holds_any:
            asyncio.get_running_loop().call_later(_SEE_OFF_S, self.when_sent, done)
        else:
            done()

    def close(self) -> None:
        """Close the connection when everything was sent."""
        if self._tls_socket is None:
            self._transport.close()
        else:
            self.when_sent(self.leave)

    def leave(self) -> None:
        """Close the connection, whatever was sent. Over TLS the client is told, so that it knows that it has the whole
        answer, but not waited for: many never say goodbye."""
        if self._tls_socket is None:
            self._transport.abort()
        elif not self._leaving:
            self._leaving = True
            self._transport.close()
            asyncio.get_running_loop().call_later(_SEE_OFF_S, self._see_off)

    def _see_off(self) -> None:
        """The layer below TLS has a buffer that cannot be asked; while it holds anything, so does the kernel."""
        if self.lost or self._tls_socket is None:
            return
        if _kernel_holds(self._tls_socket):
            asyncio.get_running_loop().call_later(_SEE_OFF_S, self._see_off)
        else:
            self._transport.abort()

    # Transport callbacks

    def pause(self) -> None:
        self.is_full = True

    def resume(self) -> None:
        self.active_at = self._clock()
        self._wake()
        if self._on_sent:
            self._transport.set_write_buffer_limits(_HIGH_BYTES, _LOW_BYTES)
            self._recall_sent()

    def lose(self) -> None:
        """The connection is gone, with all that was not sent."""
        self.lost = True
        self._wake()
        self._recall_sent()

    def _wake(self) -> None:
        self.is_full = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _recall_sent(self) -> None:
        waiting, self._on_sent = self._on_sent, []
        for done in waiting:
            self.when_sent(done)

    # Time

    def idle_s(self, now: float) -> float:
        """Seconds in which no byte has moved; to be asked about once a second, since only then it is noticed that
        the kernel has taken some."""
        unsent = self.unsent
        if unsent != self._unsent:
            self._unsent = unsent
            self.active_at = now
        return now - self.active_at

    @property
    def unsent(self) -> int:
        """Bytes that are not with the kernel yet; over TLS those that are not encrypted yet."""
        return self._transport.get_write_buffer_size()

    @property
    def holds_any(self) -> bool:
        """Whether anything that was written is not with the kernel yet. The layer below TLS has a buffer that cannot be
        asked; it is empty, or about to be, when the kernel takes more."""
        if self.lost:
            return False
        if self.unsent or self._tls_socket is None:
            return self.unsent > 0
        return not _takes_more(self._tls_socket)


def _takes_more(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLOUT)
    return bool(poll.poll(0))


def _kernel_holds(connection: socket.socket) -> int:
    """Bytes that the other host has not confirmed."""
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    return int(struct.unpack("i", answer)[0])
