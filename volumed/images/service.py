"""A front's way to the image process: started with the first image, one image at a time, killed when it takes too long.

Nothing here decodes anything, and nothing of Pillow is imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from volumed.errors import NodeError, RetryError
from volumed.formats.needle import Buffer
from volumed.helpers import start_helper
from volumed.images.job import REPLY_HEAD, REQUEST_HEAD, ImageJob, encode_job

__all__ = ["SOURCE_BYTES_MAX", "ImageFailed", "ImageService", "ImagesBusy", "Times"]

_log = logging.getLogger(__name__)

SOURCE_BYTES_MAX = 64 << 20
"""Larger files are left as they are."""
_RESULT_BYTES_MAX = 256 << 20
_ADMITTED_MAX = 64
_ADMITTED_BYTES_MAX = 4 * SOURCE_BYTES_MAX
_COMMAND = (sys.executable, "-m", "volumed.images.child")


class ImageFailed(NodeError):
    """The image process crashed or was killed over this image."""


class ImagesBusy(RetryError):
    """Too many images wait already, or this one has waited too long."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds."""

    image: float = 20.0
    """Longest time for one image, start of the process included."""
    wait: float = 30.0
    """Longest wait for its turn."""
    idle: float = 60.0
    """After so long without an image the process ends."""


class _Child:
    """A running image process."""

    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    def __init__(self, command: Sequence[str]) -> None:
        # Not in a helper thread, with whose end the child would be killed.
        self._process, self._socket = start_helper(command)
        _log.debug("image process started, pid %d", self._process.pid)

    async def connect(self) -> None:
        """To be awaited before the first question."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)

    async def ask(self, data: Buffer, job: ImageJob) -> bytes | None:
        """Raises `OSError` or `EOFError` when the process ends, `ImageFailed` when it talks nonsense."""
        encoded = encode_job(job)
        self._writer.write(REQUEST_HEAD.pack(len(encoded), len(data)) + encoded)
        self._writer.write(data)
        await self._writer.drain()
        changed, length = REPLY_HEAD.unpack(await self._reader.readexactly(REPLY_HEAD.size))
        if length > _RESULT_BYTES_MAX:
            raise ImageFailed("the image process returned too much")
        image = await self._reader.readexactly(length)
        return image if changed else None

    @property
    def ended(self) -> bool:
        """Whether somebody else has killed it."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """End it at once; its exit status is collected in a thread."""
        self._process.kill()
        if hasattr(self, "_writer"):
            self._writer.transport.abort()
        else:
            self._socket.close()
        asyncio.get_running_loop().run_in_executor(None, self._process.wait)


class ImageService:
    """One per front; everything on the loop. ``command`` and ``times`` are for tests."""

    def __init__(self, command: Sequence[str] = _COMMAND, times: Times | None = None) -> None:
        self._command = command
        self._times = times or Times()
        self._turn = asyncio.Lock()
        self._admitted = 0
        self._admitted_bytes = 0
        self._child: _Child | None = None
        self._idle: asyncio.TimerHandle | None = None

    async def transform(
        self, size: int, load: Callable[[], Awaitable[Buffer]], job: ImageJob
    ) -> bytes | None:
        """Transform the file of ``size`` bytes that ``load`` reads; None when it is to be used as it is.

        Raises `ImagesBusy`, `ImageFailed`, and what ``load`` raises.
        """
        if size > SOURCE_BYTES_MAX:
            return None
        with self._admit(size):
            # Before the turn: a disk that hangs must not hold up images of the others.
            data = await load()
            async with self._its_turn():
                return await self._ask(data, job)

    def close(self) -> None:
        """Kill the process. On the loop."""
        if self._idle is not None:
            self._idle.cancel()
        if self._child is not None:
            self._child.kill()
            self._child = None

    @contextlib.contextmanager
    def _admit(self, size: int) -> Iterator[None]:
        """Bound the memory of all that is loaded or waits."""
        if self._admitted >= _ADMITTED_MAX or self._admitted_bytes + size > _ADMITTED_BYTES_MAX:
            raise ImagesBusy("too many images wait")
        self._admitted += 1
        self._admitted_bytes += size
        try:
            yield
        finally:
            self._admitted -= 1
            self._admitted_bytes -= size

    @contextlib.asynccontextmanager
    async def _its_turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._times.wait):
                await self._turn.acquire()
        except TimeoutError:
            raise ImagesBusy("an image has waited too long") from None
        try:
            yield
        finally:
            self._turn.release()

    async def _ask(self, data: Buffer, job: ImageJob) -> bytes | None:
        if self._idle is not None:
            self._idle.cancel()
        if self._child is not None and self._child.ended:
            self.close()
        try:
            async with asyncio.timeout(self._times.image):
                if self._child is None:
                    self._child = _Child(self._command)
                    await self._child.connect()
                image = await self._child.ask(data, job)
        except TimeoutError:
            self.close()
            raise ImageFailed(f"an image took more than {self._times.image:g} s") from None
        except (OSError, EOFError) as error:
            self.close()
            raise ImageFailed(f"the image process ended: {error}") from None
        except BaseException:
            # A cancelled request leaves an answer behind that would be taken for the next one's.
            self.close()
            raise
        self._idle = asyncio.get_running_loop().call_later(self._times.idle, self.close)
        return image
