"""Servers as child processes of a test or a benchmark: started, awaited, stopped, and never left behind.

Every server runs in a session of its own, so that all processes it starts are found by the session id, and dies
with the process that started it (``PR_SET_PDEATHSIG``). Its working directory and ``HOME`` are private, its
environment is minimal: configuration of the machine cannot leak in.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = [
    "HOST", "Server", "ServerError", "forget_closed", "free_port", "log_tails", "session_pids", "stop_all",
    "wait_until",
]

HOST = "127.0.0.1"
POLL_S = 0.02
KILL_WAIT_S = 30.0
LOG_TAIL_BYTES = 32 << 10

# Below the range from which the kernel picks source ports of outgoing connections (32768 and up): a port that is
# free now is not taken by a client a moment later.
PORT_RANGE = range(12_000, 32_000)
PORTS_AT_ONCE = 250

_DYING_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")

_servers: list[Server] = []


class ServerError(AssertionError):
    """A server did not do what was asked in time; the message ends with the tail of its log."""


def free_port() -> int:
    """A TCP port on which nothing listens, never given out twice by this process, nor by another one while it runs."""
    with _choosing_port:
        for port in _own_ports:
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((HOST, port))
                return port
    raise ServerError("no free port")


def _claimed_ports() -> Iterator[int]:
    """Between choice and use, and while its server is down, only a claim keeps other test processes off a port: the
    name of a Unix socket for some ports in a row, which the kernel gives back when the process ends."""
    for start in PORT_RANGE[::PORTS_AT_ONCE]:
        with socket.socket(socket.AF_UNIX) as claim, contextlib.suppress(OSError):
            claim.bind(f"\0volumed tests {start}")
            claim.detach()
            yield from range(start, start + PORTS_AT_ONCE)


_own_ports = _claimed_ports()
_choosing_port = threading.Lock()


def wait_until(condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Poll until ``condition`` holds. OSErrors count as "not yet". Raises ServerError after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while True:
        why = ""
        try:
            if condition():
                return
        except OSError as error:
            why = f" ({error!r})"
        if time.monotonic() > deadline:
            raise ServerError(f"not within {timeout_s:g} s: {what}{why}")
        time.sleep(POLL_S)


def session_pids(session: int) -> list[int]:
    """Live processes (zombies left out) of one session, from /proc, leader first."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            # After the command's closing bracket: state, parent, process group, session.
            with contextlib.suppress(OSError):
                state, _, _, sid = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:4]
                # The first thread of a process may have ended before others, which still hold files and ports.
                ended = state in "ZX" and len(os.listdir(f"/proc/{entry}/task")) < 2
                if int(sid) == session and not ended:
                    found.append(int(entry))
    return sorted(found)


class Server:
    """One server process with all its children. A context manager; ``start`` may follow ``stop`` or ``kill``.

    Subclasses set ``name``, ``command`` and ``ready``.
    """

    name = "server"
    start_timeout_s = 60.0
    stop_timeout_s = 25.0
    """Less than the 30 s that clients get to finish: whom nobody keeps busy must not wait for them."""

    def __init__(self, home: Path) -> None:
        """``home`` becomes the private working directory; it is created."""
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.log_path = home / "server.log"
        self.closed = False
        self._process: subprocess.Popen[bytes] | None = None
        _servers.append(self)

    def command(self) -> list[str]:
        """The argument vector."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """The whole environment of the process."""
        keep = {key: os.environ[key] for key in ("PATH", "LANG", "GOMAXPROCS") if key in os.environ}
        return keep | {"HOME": str(self.home), "TMPDIR": str(self.home)}

    def ready(self) -> bool:
        """Whether the server serves; polled, may raise OSError."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """Process id of the leader, which is also the id of its session."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the leader lives."""
        return self._process is not None and self._process.poll() is None

    def pids(self) -> list[int]:
        """The leader and all its descendants that live."""
        return session_pids(self.pid)

    def start(self) -> Self:
        """Start and wait until ready. Raises ServerError when it ends early or takes too long."""
        self.launch()
        try:
            wait_until(self._ready_or_dead, timeout_s=self.start_timeout_s, what=f"{self.name} ready")
            if not self.running:
                raise ServerError(f"{self.name} ended with status {self._leader().returncode} at start")
        except ServerError as error:
            self.destroy()
            raise ServerError(f"{error}\n{self.log_tail()}") from None
        return self

    def launch(self) -> None:
        """Start without waiting."""
        assert not self.running, f"{self.name} runs already"
        with open(self.log_path, "ab") as log:
            # No `preexec_fn`: it needs a fork of this process, in which the gRPC library, when it has channels open,
            # sometimes aborts.
            self._process = subprocess.Popen(
                [*_DYING_WITH_PARENT, *self.command()], cwd=self.home, env=self.environment(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the leader alone."""
        self._leader().send_signal(number)

    def stop(self) -> None:
        """SIGTERM; the leader must exit with 0, and no descendant may outlive it."""
        self.signal(signal.SIGTERM)
        self.wait_exit(expected=0)
        if left := self.pids():
            raise ServerError(f"{self.name}: processes {left} outlive their leader\n{self.log_tail()}")

    def wait_exit(self, *, expected: int | None = None) -> int:
        """Wait for the leader's end and return its status (negative: a signal)."""
        try:
            status = self._leader().wait(self.stop_timeout_s)
        except subprocess.TimeoutExpired:
            raise ServerError(f"{self.name} does not end\n{self.log_tail()}") from None
        if expected is not None and status != expected:
            raise ServerError(f"{self.name} ended with {status}, not {expected}\n{self.log_tail()}")
        return status

    def kill(self) -> None:
        """SIGKILL the leader and wait until it and all its descendants are gone (they must die with it)."""
        self._leader().kill()
        self._leader().wait(KILL_WAIT_S)
        wait_until(lambda: not self.pids(), timeout_s=KILL_WAIT_S, what=f"descendants of {self.name} gone")

    def destroy(self) -> None:
        """Kill whatever lives of the server; for teardown, whatever happened before."""
        if self._process is None:
            return
        if self.running:
            self._process.kill()
        self._process.wait(KILL_WAIT_S)
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """``destroy`` for good."""
        self.destroy()
        self.closed = True

    def log_tail(self) -> str:
        """The last kilobytes of what the server printed."""
        if not self.log_path.exists():
            return ""
        with open(self.log_path, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _leader(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    def _ready_or_dead(self) -> bool:
        return not self.running or self.ready()


def log_tails() -> Iterator[tuple[str, str]]:
    """(name, log tail) of every server used since ``forget_closed``; shown with a failing test."""
    for server in _servers:
        yield f"{server.name} ({server.log_path})", server.log_tail()


def forget_closed() -> None:
    """Drop the servers that earlier tests have closed."""
    _servers[:] = [server for server in _servers if not server.closed]


@atexit.register
def stop_all() -> None:
    """Kill every server that is still there."""
    for server in _servers:
        server.close()
