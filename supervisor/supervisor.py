"""The order of start and stop (docs/spec/http.md 1, 11).

Start: configuration → ports taken, not open → workers and fronts started → a master found and every disk settled →
gRPC opens → HTTP opens → heartbeat. Stop: farewell to the master → stopping is announced while requests are still
served → fronts → workers → runtime directory removed → exit.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from supervisor.bus import SupervisorBus
from supervisor.cluster import ClusterMember
from supervisor.disk_keeper import DiskKeeper
from supervisor.disks import OPENING_LIMIT_S, PING_INTERVAL_S
from supervisor.ec_start import EcStart
from supervisor.front_keeper import FrontKeeper
from supervisor.jobs import Jobs
from supervisor.loop import Loop
from supervisor.master_calls import MasterCalls, MasterCluster
from supervisor.membership import Membership
from supervisor.metrics import Metrics, PushGateway
from supervisor.metrics_state import NodeView, state_samples
from supervisor.node import Node
from supervisor.notify import Notifier
from supervisor.processes import ProcessTable, describe_exit
from supervisor.read_history import ReadHistory, count_reads
from supervisor.requests import Cluster, Requests
from supervisor.security import SecurityKeeper
from supervisor.shutdown import stop_all
from supervisor.sockets import NodeSockets
from supervisor.standalone import IdStore, Standalone
from supervisor.state import StateFile
from volumed.bus import calls, events
from volumed.bus.caller import Caller
from volumed.config.node import BODY_POOL_PREFIX, NodeConfig, write_node_config
from volumed.errors import VolumedError
from volumed.grpc.channels import Channels
from volumed.metrics.stated import Stated
from volumed.nodetable import create_node_table

__all__ = ["EXIT_FATAL", "PROGRAMS", "Programs", "Supervisor"]

_log = logging.getLogger(__name__)

EXIT_FATAL = 255
_EXIT_DUPLICATE = 1

_FRONT_PROBE_S = 0.01
_FRONT_STOP_LIMIT_S = 330.0
"""Active requests get up to 5 minutes (http.md 11); the fronts themselves hold to their shorter limits."""
_WORKER_STOP_LIMIT_S = 30.0
_RESCAN_TIMEOUT_S = 600.0
_CREATIONS_AT_ONCE = 8
_FRONT_ROWS_SPARE = 4


class Programs(NamedTuple):
    """Modules that the children run; tests replace them."""

    worker: str = "workers"
    http: str = "volumed.http.front"
    grpc: str = "volumed.grpc.front"


PROGRAMS = Programs()


class Supervisor:
    """One run of the node, from taken ports to the exit status."""

    def __init__(
        self,
        config: NodeConfig,
        security: SecurityKeeper,
        sockets: NodeSockets,
        notifier: Notifier,
        programs: Programs = PROGRAMS,
    ) -> None:
        self._config = config
        self._security = security
        self._sockets = sockets
        self._notifier = notifier
        self._started_at_s = time.time()
        self._loop = Loop()
        self._processes = ProcessTable(self._loop)
        self._node = Node(config)
        self._state = StateFile(config.disks[0].idx_directory)
        self._table = create_node_table(
            config.node_table_path(), len(config.disks), 2 * config.http_fronts + _FRONT_ROWS_SPARE
        )
        self._metrics = Metrics(config, self._loop, self._processes, self._table, self._stated)
        node_json = write_node_config(config)
        self._file_jobs = Jobs(self._loop, "state", threads=1)
        self._security_jobs = Jobs(self._loop, "security", threads=1)
        self._rescans = [Jobs(self._loop, f"rescan-{disk.disk_id}", threads=1) for disk in config.disks]
        self._cluster: Membership
        requests = Requests(self, self._node, self._state, self._file_jobs, self._join_cluster())
        self._bus = SupervisorBus(self._loop, config.supervisor_endpoint(), self._on_event, requests.handle)
        self._keepers = [
            DiskKeeper(disk, self._table, self._loop, self._processes, (programs.worker, node_json), self._disk_changed)
            for disk in self._node.disks
        ]
        self._http = FrontKeeper(
            "http fronts",
            (programs.http, node_json),
            self._loop,
            self._processes,
            sockets.inherited(),
            self._http_ended,
        )
        self._grpc = FrontKeeper(
            "grpc front",
            (programs.grpc, node_json),
            self._loop,
            self._processes,
            {},
            self._grpc_ended,
            self._grpc_ready,
        )
        self._ec_start = EcStart(self._loop, self._call_worker, self._serving_disks, len(config.disks))
        self._reads = ReadHistory()
        self._state_is_settled = False
        self._opening = False
        self._ready = False
        self._stopping = False
        self._announcing = False
        self._exit_status = 0

    def _join_cluster(self) -> Cluster:
        """Set ``_cluster``; who answers requests about other nodes."""
        config = self._config
        if config.standalone:
            ids = IdStore(config.state_dir, config.disks[0].directory)
            jobs = Jobs(self._loop, "new volumes", threads=_CREATIONS_AT_ONCE)
            self._cluster = alone = Standalone(config, self._node, ids, jobs, self._caller)
            return alone
        channels = Channels(self._security.grpc)
        self._cluster = member = ClusterMember(
            config,
            channels,
            self._loop,
            self._node,
            lambda: self._state.current,
            self._master_found,
            self._tell_options,
            self._tell_backends,
            lambda: self._stop(_EXIT_DUPLICATE),
        )
        master = MasterCalls(config.masters, channels, lambda: member.current_master, config.ip, config.port)
        return MasterCluster(master, channels, self._loop)

    @cached_property
    def _caller(self) -> Caller:
        return Caller()

    def run(self) -> int:
        """Serve until stopped; the exit status."""
        self._loop.on_signals((signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGHUP), self._on_signal)
        for keeper in self._keepers:
            keeper.start()
        self._http.start()
        self._grpc.start()
        self._metrics.serve(self._sockets.metrics, self._sockets.debug)
        self._file_jobs.submit(self._state.load, lambda _: self._state_settled(), self._state_unreadable)
        self._loop.call_later(OPENING_LIMIT_S, self._state_settled)
        self._cluster.start()
        self._loop.call_later(PING_INTERVAL_S, self._tick)
        self._loop.run()
        self._bus.close()
        self._table.close()
        self._sockets.close()
        return self._exit_status

    # --- start

    def _state_settled(self) -> None:
        """The state is loaded, or its disk hangs and it is not waited for any longer."""
        self._state_is_settled = True
        self._open_when_settled()

    def _state_unreadable(self, error: VolumedError) -> None:
        self._fatal(error.text)

    def _master_found(self, gateway: PushGateway) -> None:
        self._metrics.push_to(gateway)
        self._open_when_settled()

    def _open_when_settled(self) -> None:
        """Open the gRPC port once a master is known and no disk is worth waiting for."""
        if self._opening or self._stopping or not self._state_is_settled or not self._cluster.found:
            return
        if all(disk.behaviour.settled for disk in self._node.disks):
            self._opening = True
            self._ec_start.begin(self._open_grpc)

    def _open_grpc(self) -> None:
        if not self._stopping:
            self._grpc.open_port()

    def _serving_disks(self) -> list[int]:
        return [disk.config.disk_id for disk in self._node.disks if disk.behaviour.serves]

    def _call_worker(self, disk_id: int, request: calls.Request, timeout_s: float) -> Any:
        """On a thread that may wait."""
        endpoint = self._config.worker_endpoint(disk_id, self._node.disks[disk_id].epoch)
        return self._caller.call(endpoint, request, timeout_s)

    def _grpc_ready(self) -> None:
        """gRPC takes calls: open HTTP, whose first answer promises that."""
        if not self._ready and not self._stopping:
            self._sockets.allow_listening()
            self._http.open_port()
            self._cluster.ports_opened()
            self._await_http()

    def _await_http(self) -> None:
        if self._stopping:
            return
        if not any(self._table.live_fronts()):
            self._loop.call_later(_FRONT_PROBE_S, self._await_http)
            return
        self._ready = True
        serving = sum(disk.behaviour.serves for disk in self._node.disks)
        status = f"{serving} of {len(self._node.disks)} disks serve on {self._config.node_id}"
        _log.info("volumed %s ready: %s", self._config.node_id, status)
        self._notifier.ready(status)
        if self._config.standalone:
            self._greet()

    def _greet(self) -> None:
        """Tell a newcomer how to store and fetch a file."""
        url = f"{self._security.scheme}://{self._config.node_id}"
        lines = (
            f"volumed is ready on {url}; store a file and fetch it again:",
            f"""  fid=$(curl -s {url}/dir/assign | sed 's/.*"fid":"\\([^"]*\\)".*/\\1/'); """
            f"curl -F file=@README.md {url}/$fid",
            f"  curl {url}/$fid",
        )
        os.write(1, ("\n".join(lines) + "\n").encode())

    def _http_ended(self, status: int) -> None:
        self._front_ended(status)
        for row in self._table.fronts:
            row.clear()
        for pool in Path(self._config.runtime_dir).glob(f"{BODY_POOL_PREFIX}*"):
            pool.unlink(missing_ok=True)

    def _grpc_ended(self, status: int) -> None:
        self._node.forget_copies()
        self._front_ended(status)

    def _front_ended(self, status: int) -> None:
        """A front that cannot even start once is a configuration error, not something to try for ever."""
        if not self._serves:
            self._fatal(f"a front could not start: {describe_exit(status)}")

    @property
    def _serves(self) -> bool:
        """Fronts may have answered clients before this loop has noticed that they are ready."""
        return self._ready or any(self._table.live_fronts())

    # --- events and calls

    def _on_event(self, event: events.WorkerEvent, identity: bytes) -> None:
        if not self._node.is_current(event.disk_id, event.epoch):
            return
        keeper = self._keepers[event.disk_id]
        if keeper.identity is None:
            keeper.identity = identity
            self._bus.send_event(identity, self._cluster.options)
            if self._cluster.backends is not None:
                self._bus.send_event(identity, self._cluster.backends)
        match event:
            case events.DiskReport():
                if self._node.take_report(event):
                    self._capacity_changed()
                self._cluster.volumes_reported()
            case events.VolumesChanged():
                self._cluster.volumes_changed(self._node.take_changes(event))
            case events.ShardsChanged():
                self._cluster.shards_changed(self._node.take_shard_changes(event))
            case events.DiskReady():
                keeper.opened(event)
                self._ec_start.disk_ready(event.disk_id)
            case events.DiskFailed():
                keeper.failed(event)
            case events.DiskHealth():
                keeper.probed(event)
            case events.Pong():
                was_away = not keeper.disk.behaviour.serves
                keeper.answered(event)
                if was_away and keeper.disk.behaviour.serves:
                    self._ec_start.disk_answers(event.disk_id)

    def _disk_changed(self) -> None:
        self._capacity_changed()
        self._open_when_settled()

    def _capacity_changed(self) -> None:
        """One message for all that happens in this turn of the loop: a worker that is restarted at once never leaves
        the master's view."""
        if not self._announcing:
            self._announcing = True
            self._loop.post(self._announce)

    def _announce(self) -> None:
        self._announcing = False
        self._cluster.capacity_changed()

    def _tell_options(self) -> None:
        self._tell_workers(self._cluster.options)

    def _tell_backends(self) -> None:
        if self._cluster.backends is not None:
            self._tell_workers(self._cluster.backends)

    def _tell_workers(self, event: events.SupervisorEvent) -> None:
        for keeper in self._keepers:
            if keeper.identity is not None:
                self._bus.send_event(keeper.identity, event)

    def _tick(self) -> None:
        now_s = time.monotonic()
        for keeper in self._keepers:
            ping = keeper.tick(now_s)
            if ping is not None and keeper.identity is not None:
                self._bus.send_event(keeper.identity, ping)
        self._loop.call_later(PING_INTERVAL_S, self._tick)
        self._reads.observe(now_s, count_reads(self._config.metrics_path("http-")))

    def status(self) -> calls.NodeStatusView:
        """For ``/status`` and the status page."""
        others = set(self._processes.pids().values()) | {row.pid for row in self._table.live_fronts()}
        return self._node.status(
            self._state.current,
            self._cluster.current_master,
            self._started_at_s,
            len(others) + 1,
            self._reads.view(),
        )

    def _stated(self) -> list[Stated]:
        view = NodeView(self._config, self._node, self._table, self._started_at_s, self._cluster.disconnections)
        return state_samples(view)

    def leave_cluster(self) -> None:
        """Deregister, go on serving (grpc.md 3.27)."""
        self._table.set_left_cluster()
        self._cluster.leave(lambda: _log.info("left the cluster"))

    # --- stop

    def _on_signal(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP:
            self._reload()
        elif not self._stopping:
            _log.info("%s: stopping", number.name)
            self._stop(0, self._config.pre_stop_s if self._serves else 0.0)

    def _reload(self) -> None:
        if self._stopping:
            return
        _log.info("reloading")
        self._security.reload(self._security_jobs, self._table.security_changed)
        for disk in self._node.disks:
            if disk.behaviour.serves:
                self._rescan(disk.config.disk_id)

    def _rescan(self, disk_id: int) -> None:
        self._rescans[disk_id].submit(
            lambda: self._call_worker(disk_id, calls.RescanDisk(), _RESCAN_TIMEOUT_S),
            lambda _: None,
            lambda error: _log.warning("rescan: %s", error.text),
        )

    def _fatal(self, text: str) -> None:
        _log.error("%s", text)
        self._stop(EXIT_FATAL)

    def _stop(self, status: int, pre_stop_s: float = 0.0) -> None:
        """Graceful stop; a second call changes nothing."""
        if self._stopping:
            return
        self._stopping = True
        self._metrics.stop()
        self._exit_status = status
        self._notifier.stopping()
        self._table.set_stopping()

        def left() -> None:
            self._loop.call_later(pre_stop_s, self._stop_fronts)

        self._cluster.leave(left)

    def _stop_fronts(self) -> None:
        fronts = (self._http, self._grpc)
        stop_all(fronts, _FRONT_STOP_LIMIT_S, self._loop, self._processes, self._stop_workers)

    def _stop_workers(self) -> None:
        stop_all(self._keepers, _WORKER_STOP_LIMIT_S, self._loop, self._processes, self._loop.stop)
