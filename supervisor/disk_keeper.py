"""Keeps one worker per disk alive, and the disk's state true (states: ``supervisor.disks``)."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable

from supervisor.disks import DiskEvent, DiskWatch, transition
from supervisor.loop import Loop
from supervisor.node import Disk
from supervisor.processes import GrowingDelay, Process, ProcessTable, describe_exit
from volumed.bus import events
from volumed.nodetable import DiskState, NodeTable

__all__ = ["DiskKeeper"]

_log = logging.getLogger(__name__)

_CRASH_DELAYS_S = (0.1, 10.0, 30.0)
"""First pause, longest pause, life after which a crash counts as the first again."""
_FAILURE_DELAYS_S = (5.0, 60.0, float("inf"))


class DiskKeeper:
    """Owns the worker process of one disk."""

    def __init__(
        self,
        disk: Disk,
        table: NodeTable,
        loop: Loop,
        processes: ProcessTable,
        program: tuple[str, str],
        on_change: Callable[[], None],
    ) -> None:
        self.disk = disk
        self.identity: bytes | None = None
        """Address of the worker on the bus; None until it has spoken."""
        self._table = table
        self._row = table.disks[disk.config.disk_id]
        self._loop = loop
        self._processes = processes
        self._module, self._node_json = program
        self._on_change = on_change
        self._process: Process | None = None
        self._watch = DiskWatch(time.monotonic())
        self._crash_delay = GrowingDelay(*_CRASH_DELAYS_S)
        self._failure_delay = GrowingDelay(*_FAILURE_DELAYS_S, at_once=False)
        self._stopping = False

    @property
    def name(self) -> str:
        return f"worker of disk {self.disk.config.disk_id} ({self.disk.config.directory})"

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start a worker under a new epoch, so that nothing meant for its predecessor reaches it."""
        if self._stopping:
            return
        disk = self.disk
        disk.epoch += 1
        disk.problem = ""
        self._row.start_epoch(disk.epoch)
        self._watch = DiskWatch(time.monotonic())
        self.identity = None
        arguments = [self._node_json, str(disk.config.disk_id), str(disk.epoch)]
        try:
            self._process = self._processes.spawn(self.name, self._module, arguments, self._ended)
        except OSError as error:
            self._fail(f"cannot start a worker: {error}")
            self._retry(self._failure_delay.after(0.0))
            return
        self._take(DiskEvent.SPAWNED)

    def opened(self, message: events.DiskReady) -> None:
        """The worker has loaded everything."""
        self.disk.uuid = message.uuid
        self.disk.error = ""
        self._row.set_map_path(message.map_path)
        self._failure_delay.reset()
        self._take(self._watch.ready())

    def probed(self, message: events.DiskHealth) -> None:
        """The worker's probes find something wrong, or nothing any more."""
        self.disk.problem = message.problem
        if message.problem and self.disk.behaviour.serves:
            self._take(DiskEvent.DEGRADED)

    def failed(self, message: events.DiskFailed) -> None:
        """The worker cannot open its disk and ends."""
        self._fail(message.reason)

    def answered(self, message: events.Pong) -> None:
        """The worker's loop is alive."""
        event = self._watch.answered(message.sequence)
        if event is not None:
            self._take(event)

    def tick(self, now_s: float) -> events.Ping | None:
        """Once per ping interval: look at the clock; the ping to send, if the worker can be reached."""
        event = self._watch.check(now_s)
        if event is not None:
            self._take(event)
        return None if self.identity is None else events.Ping(self._watch.next_ping(now_s))

    def stop(self) -> None:
        """Ask the worker to flush, close and end. One that hangs would not hear it; a kill loses nothing that was
        acknowledged."""
        self._stopping = True
        if self._process is not None:
            may_hang = self.disk.state in (DiskState.STUCK, DiskState.FAILED)
            self._process.signal(signal.SIGKILL if may_hang else signal.SIGTERM)

    def kill(self) -> None:
        if self._process is not None:
            self._process.signal(signal.SIGKILL)

    def _ended(self, process: Process, status: int) -> None:
        self._process = None
        self.identity = None
        self.disk.tasks = []
        if self._stopping:
            return
        told_us = self.disk.state is DiskState.FAILED
        if not self.disk.error:
            self.disk.error = f"worker ended: {describe_exit(status)}"
        self._take(DiskEvent.EXITED)
        if self.disk.state is DiskState.FAILED:
            self.disk.forget_volumes()
        delay = self._failure_delay if told_us else self._crash_delay
        self._retry(delay.after(process.lived_s))

    def _retry(self, delay_s: float) -> None:
        if delay_s:
            self._loop.call_later(delay_s, self.start)
        else:
            self.start()

    def _fail(self, reason: str) -> None:
        self.disk.error = reason
        self.disk.forget_volumes()
        self._watch = DiskWatch(time.monotonic())  # the worker's last answers must not make the disk serve again
        self._take(DiskEvent.FAILED)

    def _take(self, event: DiskEvent) -> None:
        if event is DiskEvent.READY and self.disk.problem:
            event = DiskEvent.DEGRADED
        before = self.disk.state
        after = transition(before, event)
        if after is before:
            return
        self.disk.state = after
        self.disk.changed_at_s = time.time()
        self._row.set_state(after)
        self._table.changed()
        level = logging.ERROR if after in (DiskState.FAILED, DiskState.STUCK) else logging.INFO
        why = self.disk.error or self.disk.problem
        reason = f": {why}" if why else ""
        _log.log(
            level,
            "disk %d (%s) is %s, was %s%s",
            self.disk.config.disk_id,
            self.disk.config.directory,
            after.name.lower(),
            before.name.lower(),
            reason,
        )
        self._on_change()
