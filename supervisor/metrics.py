"""Metrics and profiling of the node: the listeners, and the pushes to a gateway (docs/spec/http.md 6.5, 10).

All of it runs on threads of its own, which import what they need when they start: a node without metrics pays
nothing. What the supervisor knows is copied on its loop.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from supervisor.loop import Loop
from supervisor.processes import ProcessTable
from volumed.config.node import METRICS_PREFIX, NodeConfig
from volumed.metrics import families
from volumed.metrics.stated import Stated
from volumed.nodetable import NodeTable

__all__ = ["Metrics", "PushGateway"]

_log = logging.getLogger(__name__)

_SNAPSHOT_LIMIT_S = 5.0
_PUSH_INTERVAL_S = 15.0
_PUSH_LIMIT_S = 10.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/<pid>/stat behind the process's name
_USER_TICKS, _SYSTEM_TICKS, _RESIDENT_PAGES = 11, 12, 21


class PushGateway(NamedTuple):
    """Where the master wants metrics pushed to; an empty address or an interval of 0: nowhere."""

    address: str = ""
    interval_s: int = 0


class _Snapshot(NamedTuple):
    """What the loop hands to a thread that renders."""

    stated: list[Stated]
    processes: dict[str, int]


class Metrics:
    """Renders metrics, serves and pushes them."""

    def __init__(
        self,
        config: NodeConfig,
        loop: Loop,
        processes: ProcessTable,
        table: NodeTable,
        stated: Callable[[], list[Stated]],
    ) -> None:
        """``stated`` is called on the loop."""
        self._config = config
        self._loop = loop
        self._processes = processes
        self._table = table
        self._stated = stated
        self._stopping = threading.Event()

    def serve(self, metrics: socket.socket | None, debug: socket.socket | None) -> None:
        """Answer on the sockets that there are."""
        if metrics is not None:
            # DEVIATE: the reference has profiling pages here too, for everybody, asked for or not.
            self._listen("metrics", metrics, self.render, profiling=False)
        if debug is not None:
            self._listen("debug", debug, self.render if metrics is not None else None, profiling=True)

    def push_to(self, gateway: PushGateway) -> None:
        """Start to push."""
        if gateway.address and gateway.interval_s:
            threading.Thread(target=self._push, args=(gateway,), name="metrics push", daemon=True).start()

    def stop(self) -> None:
        """Push no more. Listeners end with the process, so that a stop can be watched."""
        self._stopping.set()

    def render(self) -> bytes:
        """The exposition (not on the loop). Raises `TimeoutError` when the loop does not answer."""
        from volumed.metrics.exporter import render

        answer: Future[_Snapshot] = Future()
        self._loop.post(lambda: answer.set_result(self._snapshot()))
        snapshot = answer.result(_SNAPSHOT_LIMIT_S)
        stated = [*snapshot.stated, *_process_samples(snapshot.processes)]
        return render(self._config.runtime_path(METRICS_PREFIX), stated)

    def _snapshot(self) -> _Snapshot:
        fronts = {f"http front {slot}": row.pid for slot, row in enumerate(self._table.fronts) if row.pid}
        return _Snapshot(self._stated(), {"supervisor": os.getpid(), **self._processes.pids(), **fronts})

    @staticmethod
    def _listen(name: str, listener: socket.socket, render: Callable[[], bytes] | None, *, profiling: bool) -> None:
        def serve() -> None:
            from supervisor.metrics_http import serve_pages

            serve_pages(listener, render, profiling=profiling)

        threading.Thread(target=serve, name=name, daemon=True).start()

    def _push(self, gateway: PushGateway) -> None:
        from supervisor.metrics_http import push

        interval_s = gateway.interval_s if gateway.interval_s > 0 else _PUSH_INTERVAL_S
        instance = f"{self._config.ip}%3A{self._config.port}"
        _log.info("pushing metrics to %s every %g s", gateway.address, interval_s)
        while True:
            try:
                push(gateway.address, f"/metrics/job/volumeServer/instance/{instance}", self.render(), _PUSH_LIMIT_S)
            except (OSError, ValueError) as error:
                _log.warning("push of metrics to %s: %s", gateway.address, error or type(error).__name__)
            if self._stopping.wait(interval_s):
                return


def _process_samples(processes: dict[str, int]) -> Iterator[Stated]:
    count = 0
    for name, pid in processes.items():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        count += 1
        ticks = int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
        yield Stated(families.PROCESS_CPU, (name,), ticks / _TICKS_PER_S)
        yield Stated(families.PROCESS_MEMORY, (name,), int(fields[_RESIDENT_PAGES]) * _PAGE_BYTES)
    yield Stated(families.PROCESSES, (), count)
