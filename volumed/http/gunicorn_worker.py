"""The gunicorn worker class of the HTTP fronts: process setup around `volumed.http.server.FrontServer`.

Only the documented parts of gunicorn's worker interface are used: its constructor's attributes, `init_signals`, `run`
and `notify`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import Any

import uvloop
from gunicorn.workers.base import Worker  # type: ignore[import-untyped]

from volumed.config.node import NodeConfig
from volumed.http.objects.throttle import Throttle
from volumed.http.server import FrontServer
from volumed.metrics.front import FrontMetrics
from volumed.metrics.page import MetricsPage
from volumed.nodetable import NodeTable
from volumed.processes import set_title, use_batch_scheduling

__all__ = ["FrontWorker", "hold_signals", "release_signals"]

_log = logging.getLogger(__name__)
_NOTIFY_S = 1.0


def hold_signals() -> None:
    """Let signals wait; called before the fork."""
    signal.pthread_sigmask(signal.SIG_BLOCK, Worker.SIGNALS)


def release_signals() -> None:
    """Take the signals that waited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, Worker.SIGNALS)


class FrontWorker(Worker):  # type: ignore[misc]
    """One front. The application object carries configuration, bells and TLS; ``slot`` is set before the fork."""

    sockets: list[Any]
    ppid: int
    slot: int = 0

    def init_signals(self) -> None:
        """The loop takes them in `run`; until then the arbiter's handlers must not be inherited."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        # A terminal's interrupt is for the supervisor, which stops everybody in order.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        release_signals()

    def run(self) -> None:
        """Serve until the arbiter says stop."""
        config: NodeConfig = self.app.config
        set_title(f"volumed: http front {self.slot}")
        use_batch_scheduling()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(config))

    async def _serve(self, config: NodeConfig) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        table = NodeTable(config.node_table_path())
        row = table.fronts[self.slot]
        row.claim(os.getpid())
        metrics = FrontMetrics(MetricsPage(config.metrics_path(f"http-{self.slot}")))
        throttle = Throttle(config, table, self.slot, self.app.bells, loop)
        server = FrontServer(config, table, row, loop, metrics, throttle, self.app.tls)
        for listener, public in zip(self.sockets, (False, True), strict=False):
            server.listen(listener.sock, public=public)
        beat = loop.create_task(self._beat(stop))
        await stop.wait()
        await server.stop()
        throttle.close()
        beat.cancel()

    async def _beat(self, stop: asyncio.Event) -> None:
        """Tell the arbiter that the loop turns, and notice when the arbiter is gone."""
        while True:
            self.notify()
            if os.getppid() != self.ppid:
                _log.error("the arbiter is gone")
                stop.set()
            await asyncio.sleep(_NOTIFY_S)


