"""What a connection needs of the front it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from volumed.bus.bodypool import BodyPool
from volumed.http.protocol.exchange import Exchange

__all__ = ["Handler", "Host"]


class Handler(Protocol):
    """Who answers requests."""

    def answer_now(self, exchange: Exchange) -> bool:
        """Answer a request that has arrived whole without waiting, or see to it that it will be; False: not this one.
        Must not raise."""
        ...

    async def answer(self, exchange: Exchange) -> None:
        """Answer a request."""
        ...


class Host(Protocol):
    """The front as its connections need it."""

    @property
    def handler(self) -> Handler: ...

    @property
    def pool(self) -> BodyPool | None: ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def clock(self) -> Callable[[], float]:
        """Monotonic seconds."""
        ...

    @property
    def idle_timeout_s(self) -> float:
        """0 or less: none."""
        ...

    @property
    def server_name(self) -> bytes: ...

    @property
    def limits_uploads(self) -> bool:
        """Whether the handler is to know of an upload as soon as its head is there."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether connections close after the answer in progress."""
        ...

    def opened(self, connection: asyncio.Protocol) -> None: ...

    def closed(self, connection: asyncio.Protocol) -> None: ...
