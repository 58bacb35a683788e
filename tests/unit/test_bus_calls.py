"""Calls end to end inside one process: `router` behind a ROUTER, `caller` and `supervisor_link` in front of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from tests.bus_kit import Node
from volumed.bus import calls
from volumed.bus.caller import Caller
from volumed.bus.router import CallRouter, Reply
from volumed.bus.supervisor_link import SupervisorLink
from volumed.errors import DiskUnavailable, NodeError, RetryError, VolumedError, VolumeExists

Handler = Callable[[Any, Reply], None]


class CallServer:
    """A ROUTER on a thread, at the supervisor's endpoint."""

    def __init__(self, endpoint: str, handle: Handler) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.bind(endpoint)
        self._router = CallRouter(calls.SupervisorRequest, handle, lambda *parts: self._socket.send_multipart(parts))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._socket.poll(5):
                identity, frame = self._socket.recv_multipart()
                self._router.receive(identity, memoryview(frame))
        self._socket.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._context.term()


def handle(request: Any, reply: Reply) -> None:
    """One behaviour per request type."""
    match request:
        case calls.GetState():
            reply.result(calls.ServerState(maintenance=True, version=4))
        case calls.LeaveCluster():
            reply.result()
        case calls.PlaceVolume(volume_id=volume_id):
            raise VolumeExists.of(volume_id)
        case calls.ConfirmPlacement():
            raise ValueError("a bug")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.table.close()


@pytest.fixture
def server(node: Node) -> Iterator[CallServer]:
    made = CallServer(node.config.supervisor_endpoint(), handle)
    yield made
    made.close()


@pytest.fixture
def caller() -> Iterator[Caller]:
    made = Caller()
    yield made
    made.close()


@pytest.mark.usefixtures("server")
def test_results_are_typed(node: Node, caller: Caller) -> None:
    endpoint = node.config.supervisor_endpoint()
    assert caller.call(endpoint, calls.GetState(), 5.0) == calls.ServerState(maintenance=True, version=4)
    assert caller.call(endpoint, calls.LeaveCluster(), 5.0) == calls.Empty()


@pytest.mark.usefixtures("server")
def test_domain_errors_arrive_as_they_were_raised(node: Node, caller: Caller) -> None:
    with pytest.raises(VolumeExists, match="Volume Id 7 already exists!"):
        caller.call(node.config.supervisor_endpoint(), calls.PlaceVolume(7, ""), 5.0)


@pytest.mark.usefixtures("server")
def test_a_bug_is_logged_and_answered(node: Node, caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NodeError, match="^a bug$"):
        caller.call(node.config.supervisor_endpoint(), calls.ConfirmPlacement(7), 5.0)
    assert "ValueError: a bug" in caplog.text


@pytest.mark.usefixtures("server")
def test_a_request_for_somebody_else_is_refused(node: Node, caller: Caller) -> None:
    with pytest.raises(VolumedError, match="unknown call"):
        caller.call(node.config.supervisor_endpoint(), calls.RescanDisk(), 5.0)


@pytest.mark.usefixtures("server")
def test_no_answer_in_time(node: Node, caller: Caller) -> None:
    with pytest.raises(RetryError, match=r"no answer to NodeStatus within 0.02 s"):
        caller.call(node.config.supervisor_endpoint(), calls.NodeStatus(), 0.02)


@pytest.mark.usefixtures("server")
def test_an_answer_that_comes_in_the_moment_it_is_given_up(
    node: Node, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is decoded while the caller leaves; the calls of all others go through the same thread."""
    endpoint, given_up, decode = node.config.supervisor_endpoint(), threading.Event(), msgspec.msgpack.decode

    def decode_late(*args: Any, **kwargs: Any) -> Any:
        assert given_up.wait(30.0)
        return decode(*args, **kwargs)

    with monkeypatch.context() as late:
        late.setattr(msgspec.msgpack, "decode", decode_late)
        with pytest.raises(RetryError):
            caller.call(endpoint, calls.GetState(), 0.5)
        given_up.set()
        assert caller.call(endpoint, calls.LeaveCluster(), 30.0) == calls.Empty()


def test_a_call_to_a_process_that_ends_fails_at_once(node: Node, caller: Caller) -> None:
    arrived = threading.Event()
    server = CallServer(node.config.supervisor_endpoint(), lambda *_: arrived.set())
    errors: list[Exception] = []

    def ask() -> None:
        try:
            caller.call(node.config.supervisor_endpoint(), calls.NodeStatus(), 60.0)
        except DiskUnavailable as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert arrived.wait(30.0)
    server.close()
    thread.join(30.0)
    assert [str(error) for error in errors] == ["the process that was asked ended, outcome unknown"]


@pytest.mark.usefixtures("server")
def test_threads_get_their_own_answers(node: Node, caller: Caller) -> None:
    got: list[str] = []

    def ask(volume_id: int) -> None:
        for _ in range(20):
            with pytest.raises(VolumeExists, match=f"Volume Id {volume_id} already"):
                caller.call(node.config.supervisor_endpoint(), calls.PlaceVolume(volume_id, ""), 5.0)
        got.append("done")

    threads = [threading.Thread(target=ask, args=(volume_id,)) for volume_id in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4


@pytest.mark.usefixtures("server")
def test_the_same_calls_from_a_loop(node: Node) -> None:
    async def test() -> None:
        link = SupervisorLink(asyncio.get_running_loop(), node.config)
        try:
            state, failure = await asyncio.gather(
                link.call(calls.GetState(), 5.0), link.call(calls.PlaceVolume(7, ""), 5.0), return_exceptions=True
            )
            assert state == calls.ServerState(maintenance=True, version=4)
            assert isinstance(failure, VolumeExists)
            with pytest.raises(RetryError, match="the supervisor did not answer within"):
                await link.call(calls.NodeStatus(), 0.02)
            waiting = link.call(calls.NodeStatus(), 5.0)
        finally:
            link.close()
        with pytest.raises(RetryError, match="stopping"):
            await waiting

    asyncio.run(test())
