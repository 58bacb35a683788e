"""The HTTP front process: ``python -m volumed.http.front <node.json>``, a gunicorn arbiter with the fronts as workers.

Environment: ``VOLUMED_ADMIN_FD`` and ``VOLUMED_PUBLIC_FD`` (absent when it is the same port) are bound sockets;
``VOLUMED_GO_FD`` is read until one byte says that the node is ready to open its ports (end of file: the supervisor is
gone). ``VOLUMED_NEEDLE_LANE=0`` sends every request through the framework, to compare.

Everything is imported before the fork; nothing that does not survive one (ZeroMQ, LMDB, an event loop, threads) is made
before it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from typing import Any

import msgspec
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from volumed.config.node import NodeConfig, load_node_config
from volumed.http import gunicorn_worker
from volumed.http.objects.throttle import make_bells, ring_bells
from volumed.logs import configure_logging
from volumed.nodetable import NodeTable
from volumed.processes import die_with_parent, set_title
from volumed.security.settings import load_security
from volumed.security.tls import load_tls

__all__ = ["FrontApplication", "main"]

_log = logging.getLogger("volumed.http.arbiter")
_STOP_S = 35
_STOP_WITH_PUBLIC_S = 310
_HUNG_S = 60
"""A front whose loop has not turned for so long is killed."""
_BACKLOG = 2048


class _ArbiterLogger(Logger):  # type: ignore[misc]
    """gunicorn's messages in our log; what it says about starting and stopping interests only those who debug it."""

    def setup(self, cfg: Any) -> None:
        del cfg
        self.error_log = logging.getLogger("gunicorn.error")
        self.error_log.handlers = []
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)
        self.access_log.handlers = []

    def reopen_files(self) -> None:
        """There are none."""

    def close_on_exec(self) -> None:
        """There are none."""


class FrontApplication(BaseApplication):  # type: ignore[misc]
    """The arbiter's configuration."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self._table = NodeTable(config.node_table_path())
        self.tls = load_tls(load_security(config.runtime_dir))
        self.bells = make_bells(len(self._table.fronts))
        self._slots: dict[int, int] = {}
        # A stop that reaches a new front before it has handlers of its own would be taken by the arbiter's, and lost.
        os.register_at_fork(before=gunicorn_worker.hold_signals, after_in_parent=gunicorn_worker.release_signals)
        super().__init__()

    def load_config(self) -> None:
        """Settings for gunicorn; nothing is read from files or its environment variables."""
        fds = [os.environ[name] for name in ("VOLUMED_ADMIN_FD", "VOLUMED_PUBLIC_FD") if name in os.environ]
        settings = {
            "bind": [f"fd://{fd}" for fd in fds],
            "workers": self.config.http_fronts,
            "worker_class": gunicorn_worker.FrontWorker,
            "preload_app": True,
            "backlog": _BACKLOG,
            "timeout": _HUNG_S,
            "graceful_timeout": _STOP_WITH_PUBLIC_S if len(fds) > 1 else _STOP_S,
            "worker_tmp_dir": self.config.runtime_dir,
            "control_socket_disable": True,
            "proc_name": "volumed",
            "logger_class": _ArbiterLogger,
            "on_starting": self._wait_for_go,
            "when_ready": self._ready,
            "pre_fork": self._give_slot,
            "post_fork": self._bind_to_arbiter,
            "child_exit": self._free_slot,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> None:
        """Nothing to load: importing the worker class imported everything."""

    def _wait_for_go(self, _arbiter: Any) -> None:
        fd = int(os.environ["VOLUMED_GO_FD"])
        if not os.read(fd, 1):
            raise SystemExit(0)
        os.close(fd)

    def _ready(self, _arbiter: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _log.info("http listening on port %d with %d fronts", self.config.port, self.config.http_fronts)

    def _give_slot(self, _arbiter: Any, worker: Any) -> None:
        """Slots of workers that are starting have no process id in the table yet."""
        set_title("volumed: http arbiter")  # gunicorn has given the process a name of its own
        taken = set(self._slots.values())
        free = (i for i, row in enumerate(self._table.fronts) if not row.pid and i not in taken)
        slot = next(free, None)
        if slot is None:
            raise SystemExit("no free front slot in the node table")
        worker.slot = self._slots[worker.age] = slot

    def _bind_to_arbiter(self, _arbiter: Any, worker: Any) -> None:
        os.environ["VOLUMED_PARENT_PID"] = str(worker.ppid)
        die_with_parent()

    def _free_slot(self, _arbiter: Any, worker: Any) -> None:
        slot = self._slots.pop(worker.age, None)
        if slot is not None:
            self._table.fronts[slot].clear()
            ring_bells(self._table, self.bells)
        # A front that was killed could not do it; a worker keeps what it has mapped.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.config.body_pool_path(worker.pid))


def main() -> None:
    """Run the arbiter; ends with its exit status."""
    die_with_parent()
    set_title("volumed: http arbiter")
    # Whoever started the node is told of its readiness by the supervisor.
    os.environ.pop("NOTIFY_SOCKET", None)
    config = load_node_config(sys.argv[1])
    if os.environ.get("VOLUMED_NEEDLE_LANE") == "0":
        config = msgspec.structs.replace(config, needle_lane=False)
    configure_logging("http", config.log_verbosity, as_json=config.log_json)
    FrontApplication(config).run()


if __name__ == "__main__":
    main()
