"""Keeps a front alive: the gunicorn arbiter of the HTTP fronts, or the gRPC front."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping

from supervisor.loop import Loop
from supervisor.processes import GrowingDelay, Process, ProcessTable

__all__ = ["FrontKeeper"]

_RESTART_DELAYS_S = (0.1, 10.0, 30.0)


class FrontKeeper:
    """Owns one front process.

    A front prepares itself, then waits for one byte from the pipe ``VOLUMED_GO_FD`` before it opens its port, so that
    start-up happens beside the loading of disks. With ``on_ready`` it also gets ``VOLUMED_READY_FD``, to which it
    writes a byte when it serves.
    """

    def __init__(
        self,
        name: str,
        program: tuple[str, str],
        loop: Loop,
        processes: ProcessTable,
        inherited: Mapping[str, int],
        on_exit: Callable[[int], None],
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._module, self._node_json = program
        self._loop = loop
        self._processes = processes
        self._inherited = dict(inherited)
        self._on_exit = on_exit
        self._on_ready = on_ready
        self._process: Process | None = None
        self._go_fd = -1
        self._open = False
        self._stopping = False
        self._delay = GrowingDelay(*_RESTART_DELAYS_S)

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start the process; it opens its port after `open_port`."""
        if self._stopping:
            return
        wait_fd, self._go_fd = os.pipe2(os.O_CLOEXEC)
        fds = {"VOLUMED_GO_FD": wait_fd} | self._inherited
        ready_fds = os.pipe2(os.O_CLOEXEC) if self._on_ready else None
        if ready_fds:
            fds["VOLUMED_READY_FD"] = ready_fds[1]
        self._process = self._processes.spawn(self.name, self._module, [self._node_json], self._ended, fds)
        os.close(wait_fd)
        if ready_fds:
            os.close(ready_fds[1])
            self._watch_ready(ready_fds[0])
        if self._open:
            self._go()

    def open_port(self) -> None:
        """Let this process, and every successor, open its port."""
        self._open = True
        self._go()

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.signal(number)

    def stop(self) -> None:
        """Ask it to finish what is in progress and end."""
        self._stopping = True
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def _go(self) -> None:
        if self._go_fd >= 0:
            # It may have just ended; its successor gets a pipe of its own.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._go_fd, b"1")
            self._close_go()

    def _close_go(self) -> None:
        if self._go_fd >= 0:
            os.close(self._go_fd)
            self._go_fd = -1

    def _watch_ready(self, fd: int) -> None:
        def read() -> None:
            self._loop.remove_reader(fd)
            ready = os.read(fd, 1)
            os.close(fd)
            if ready and self._on_ready is not None:
                self._on_ready()

        self._loop.add_reader(fd, read)

    def _ended(self, process: Process, status: int) -> None:
        self._process = None
        self._close_go()
        if self._stopping:
            return
        self._on_exit(status)
        self._loop.call_later(self._delay.after(process.lived_s), self.start)
