"""Processes that end, the pauses before their successors, and the loop they are watched on."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from supervisor.jobs import Jobs
from supervisor.loop import Loop
from supervisor.notify import Notifier
from supervisor.processes import GrowingDelay, Process, ProcessTable, describe_exit
from supervisor.runtime_dir import RuntimeDir
from supervisor.shutdown import stop_all
from supervisor.sockets import NodeSockets, PortUnavailable
from supervisor.state import StateFile
from volumed.bus.calls import ServerState
from volumed.config.address import grpc_address, http_address, join_host_port
from volumed.config.node import NodeConfig
from volumed.errors import NodeError, VolumedError


def test_first_restart_is_at_once_then_pauses_double_to_the_limit():
    delay = GrowingDelay(0.1, 1.0, 30.0)
    assert [delay.after(1.0) for _ in range(7)] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_long_life_starts_the_pauses_again():
    delay = GrowingDelay(0.1, 10.0, 30.0)
    for _ in range(4):
        delay.after(1.0)
    assert delay.after(30.0) == 0.0
    assert delay.after(1.0) == 0.1


def test_pauses_that_never_are_nothing():
    delay = GrowingDelay(5.0, 60.0, float("inf"), at_once=False)
    assert [delay.after(1e9) for _ in range(6)] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    delay.reset()
    assert delay.after(0.0) == 5.0


def test_exit_in_words():
    assert describe_exit(3) == "exit status 3"
    assert describe_exit(-9) == "killed by SIGKILL"


def spawn(loop: Loop, tmp_path: Path, monkeypatch, source: str, fds=None) -> tuple[ProcessTable, list[int], Process]:
    """Run a module with the given source; statuses are collected and the loop is stopped at its end."""
    (tmp_path / "child.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    table, statuses = ProcessTable(loop), []

    def ended(_: Process, status: int) -> None:
        statuses.append(status)
        loop.stop()

    return table, statuses, table.spawn("child", "child", ["x"], ended, fds)


def test_a_child_gets_arguments_descriptors_and_its_parent(tmp_path, monkeypatch):
    loop = Loop()
    read_fd, write_fd = os.pipe()
    source = (
        "import os, sys\n"
        "fd = int(os.environ['OUT_FD'])\n"
        "ok = int(os.environ['VOLUMED_PARENT_PID']) == os.getppid() and os.getpgid(0) == os.getpid()\n"
        "os.write(fd, f'{sys.argv[1]} {ok}'.encode())\n"
        "sys.exit(7)\n"
    )
    table, statuses, _ = spawn(loop, tmp_path, monkeypatch, source, {"OUT_FD": write_fd})
    assert len(table) == 1
    loop.run()
    assert (os.read(read_fd, 100), statuses, len(table)) == (b"x True", [7], 0)
    os.close(read_fd)
    os.close(write_fd)


def test_a_killed_child_is_reported_with_its_signal(tmp_path, monkeypatch):
    loop = Loop()
    _, statuses, process = spawn(loop, tmp_path, monkeypatch, "import signal; signal.pause()")
    process.signal(signal.SIGKILL)
    loop.run()
    assert statuses == [-signal.SIGKILL]


class FakeKeeper:
    name = "fake"

    def __init__(self, table: ProcessTable, process: Process | None, *, ignores_stop: bool = False) -> None:
        self.table = table
        self.process = process
        self.ignores_stop = ignores_stop
        self.killed = False

    @property
    def running(self) -> bool:
        return self.process is not None and len(self.table) > 0

    def stop(self) -> None:
        if self.process and not self.ignores_stop:
            self.process.signal(signal.SIGTERM)

    def kill(self) -> None:
        self.killed = True
        if self.process:
            self.process.signal(signal.SIGKILL)


@pytest.mark.parametrize("stubborn", [False, True])
def test_stop_all_waits_and_kills_what_does_not_stop(stubborn, tmp_path, monkeypatch):
    loop = Loop()
    (tmp_path / "child.py").write_text("import signal; signal.pause()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    table = ProcessTable(loop)
    process = table.spawn("child", "child", [], lambda *_: None)
    keeper = FakeKeeper(table, process, ignores_stop=stubborn)
    stop_all([keeper, FakeKeeper(table, None)], 0.05, loop, table, loop.stop)
    loop.run()
    assert len(table) == 0
    assert keeper.killed == stubborn


def test_loop_runs_timers_in_order_and_survives_a_failing_action():
    loop, seen = Loop(), []
    loop.call_later(0.01, lambda: seen.append(2))
    loop.call_later(0.0, lambda: seen.append(1 // 0))
    loop.call_later(0.0, lambda: seen.append(1))
    loop.call_later(0.0, lambda: seen.append(3)).cancel()
    loop.call_later(0.02, loop.stop)
    loop.run()
    assert seen == [1, 2]


def test_loop_delivers_signals():
    loop, seen = Loop(), []
    before = signal.getsignal(signal.SIGUSR1)

    def deliver(number: signal.Signals) -> None:
        seen.append(number)
        loop.stop()

    try:
        loop.on_signals([signal.SIGUSR1], deliver)
        os.kill(os.getpid(), signal.SIGUSR1)
        loop.run()
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]


def test_jobs_hand_their_outcome_to_the_loop():
    loop, seen = Loop(), []
    jobs = Jobs(loop, "test", threads=1)

    def fail() -> None:
        raise VolumedError("no")

    def finish(text: str) -> None:
        seen.append((text, threading.current_thread() is threading.main_thread()))
        if len(seen) == 3:
            loop.stop()

    jobs.submit(lambda: "yes", finish, lambda error: finish(error.text))
    jobs.submit(fail, lambda _: finish("?"), lambda error: finish(error.text))
    jobs.submit(lambda: 1 // 0, lambda _: finish("?"), lambda error: finish(type(error).__name__))
    loop.run()
    jobs.close()
    assert seen == [("yes", True), ("no", True), ("NodeError", True)]


def config(tmp_path: Path, **fields) -> NodeConfig:
    return NodeConfig(**{"runtime_dir": str(tmp_path), "map_dir": "", "state_dir": "", "disks": (), **fields})


def test_ports_are_taken_but_closed(tmp_path):
    sockets = NodeSockets(config(tmp_path, bind_ip="127.0.0.1", port=0, public_port=0, grpc_port=0))
    port = sockets.admin.getsockname()[1]
    taken = config(tmp_path, bind_ip="127.0.0.1", port=port, public_port=port, grpc_port=0)
    with pytest.raises(PortUnavailable, match=f"listen tcp 127.0.0.1:{port}: bind: address already in use"):
        NodeSockets(taken)
    sockets.close()
    again = NodeSockets(taken)
    assert again.public is None
    assert list(again.inherited()) == ["VOLUMED_ADMIN_FD"]
    again.close()


def test_the_grpc_port_is_held_against_others_and_open_to_our_front(tmp_path):
    import socket

    sockets = NodeSockets(config(tmp_path, bind_ip="127.0.0.1", port=0, public_port=0, grpc_port=0))
    port = sockets._reservation.getsockname()[1]
    for other in ("port", "grpc_port"):
        ports = {"port": 0, "public_port": 0, "grpc_port": 0} | {other: port}
        with pytest.raises(PortUnavailable):
            NodeSockets(config(tmp_path, bind_ip="127.0.0.1", **ports))
    with socket.socket() as front:
        front.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        front.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        front.bind(("127.0.0.1", port))
        front.listen()
        socket.create_connection(("127.0.0.1", port)).close()
    sockets.close()


def test_unknown_host_is_a_bind_failure(tmp_path):
    with pytest.raises(PortUnavailable, match="lookup no.such.host.invalid"):
        NodeSockets(config(tmp_path, bind_ip="no.such.host.invalid", port=0, grpc_port=0))


@pytest.fixture
def small_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("supervisor.runtime_dir._SHARED_MEMORY", str(tmp_path))
    return tmp_path


def test_runtime_directory_is_private_and_removes_what_a_killed_node_left(small_memory):
    first = RuntimeDir({})
    assert Path(first.path).stat().st_mode & 0o777 == 0o700
    second = RuntimeDir({})
    assert Path(first.path).is_dir(), "its owner lives"
    os.close(first._lock_fd)  # as the kernel does for a killed owner
    third = RuntimeDir({})
    assert not Path(first.path).exists()
    for left in (second, third):
        left.remove()
    assert list(small_memory.iterdir()) == []


def test_runtime_directory_falls_back_to_what_systemd_gives(tmp_path, monkeypatch):
    monkeypatch.setattr("supervisor.runtime_dir._SHARED_MEMORY", str(tmp_path / "missing"))
    runtime = RuntimeDir({"RUNTIME_DIRECTORY": str(tmp_path)})
    assert Path(runtime.path).parent == tmp_path
    runtime.remove()


def test_state_file_has_the_bytes_of_the_reference(tmp_path):
    state = StateFile(str(tmp_path))
    state.load()
    assert state.current == ServerState(False, 0)
    assert state.replace(ServerState(True, 0)) == ServerState(True, 1)
    assert (tmp_path / "state.pb").read_bytes() == bytes.fromhex("08011001")
    assert (tmp_path / "state.pb").stat().st_mode & 0o777 == 0o644
    assert state.replace(ServerState(False, 1)) == ServerState(False, 2)
    assert (tmp_path / "state.pb").read_bytes() == bytes.fromhex("1002")
    again = StateFile(str(tmp_path))
    again.load()
    assert again.current == ServerState(False, 2)


def test_state_of_another_version_is_refused(tmp_path):
    state = StateFile(str(tmp_path))
    with pytest.raises(VolumedError) as caught:
        state.replace(ServerState(True, 4))
    assert caught.value.text == "version mismatch for VolumeServerState (got 0, want 4)"
    assert not (tmp_path / "state.pb").exists()


def test_state_that_cannot_be_written_keeps_the_old_one(tmp_path):
    state = StateFile(str(tmp_path / "missing"))
    with pytest.raises(VolumedError):
        state.replace(ServerState(True, 0))
    assert state.current == ServerState(False, 0)


def test_damaged_state_is_an_error(tmp_path):
    (tmp_path / "state.pb").write_bytes(b"\xff\xff")
    with pytest.raises(NodeError):
        StateFile(str(tmp_path)).load()


def test_notifier_speaks_to_systemd_and_hides_it_from_children(tmp_path, monkeypatch):
    import socket

    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        notifier = Notifier()
        assert "NOTIFY_SOCKET" not in os.environ
        notifier.ready("1 disk")
        notifier.stopping()
        assert receiver.recv(100) == b"READY=1\nSTATUS=1 disk"
        assert receiver.recv(100) == b"STOPPING=1\nSTATUS=stopping"


def test_notifier_without_systemd_is_silent(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready("x")


@pytest.mark.parametrize(
    ("address", "http", "grpc"),
    [
        ("h:9333", "h:9333", "h:19333"),
        ("h:9333.5000", "h:9333", "h:5000"),
        ("[::1]:9333", "[::1]:9333", "[::1]:19333"),
        ("10.0.0.1:80.81", "10.0.0.1:80", "10.0.0.1:81"),
        ("plain", "plain", "plain"),
    ],
)
def test_addresses(address, http, grpc):
    assert (http_address(address), grpc_address(address)) == (http, grpc)


def test_ipv6_hosts_are_bracketed():
    assert join_host_port("::1", 80) == "[::1]:80"
