"""Blocking calls from threads, for the gRPC front: one I/O thread owns the sockets, callers wait for futures."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from volumed.bus.calls import Request
from volumed.bus.pending import PendingCalls
from volumed.errors import DiskUnavailable, RetryError, VolumedError

__all__ = ["Caller"]

_log = logging.getLogger(__name__)

_CONNECT_RETRIES_MAX = 20
"""Attempts, 100 ms apart, before a peer that was never reached counts as gone."""

_IDLE_S = 60.0
"""How long a connection without calls is kept: endpoints of dead workers are never used again."""

_EVENTS = zmq.EVENT_CONNECTED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_DISCONNECTED


class _Peer:
    """The connection to one endpoint. Used by the I/O thread only."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.endpoint = endpoint
        self.calls = PendingCalls()
        self.used_at = time.monotonic()
        self.gone = False
        self._retries = 0
        self.socket = context.socket(zmq.DEALER)
        self.socket.hwm = 0
        self.socket.linger = 0
        self.monitor = self.socket.get_monitor_socket(_EVENTS)
        self.socket.connect(endpoint)

    def receive(self) -> None:
        """Complete the calls whose answers are there."""
        with contextlib.suppress(zmq.Again):
            while True:
                self.calls.answer(memoryview(self.socket.recv(zmq.NOBLOCK)))

    def watch(self) -> None:
        """Take note of what happened to the connection."""
        event = recv_monitor_message(self.monitor)["event"]
        if event == zmq.EVENT_CONNECTED:
            self._retries = 0
        elif event == zmq.EVENT_CONNECT_RETRIED:
            self._retries += 1
        self.gone = event == zmq.EVENT_DISCONNECTED or self._retries > _CONNECT_RETRIES_MAX

    def close(self, error: VolumedError) -> None:
        self.calls.fail_all(error)
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close()


class Caller:
    """Thread-safe; one per process."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._posted: deque[Callable[[], None]] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._peers: dict[str, _Peer] = {}
        self._poller = zmq.Poller()
        self._poller.register(self._wake_fd, zmq.POLLIN)
        self._actions: dict[Any, Callable[[], None]] = {self._wake_fd: self._run_posted}
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="bus", daemon=True)
        self._thread.start()

    def call(self, endpoint: str, request: Request, timeout_s: float) -> Any:
        """The result, of type ``type(request).Result``. Raises what the peer raised, `DiskUnavailable` when the
        peer ended, and `RetryError` when it did not answer in time; in both cases the outcome is unknown."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._post(lambda: self._send(endpoint, request, future))
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError:
            # The future is the I/O thread's to complete: it might do so at this moment.
            raise RetryError(f"no answer to {type(request).__name__} within {timeout_s:g} s, outcome unknown") from None

    def close(self) -> None:
        """Fail what waits and end the thread."""
        self._closing = True
        self._post(lambda: None)
        self._thread.join()
        os.close(self._wake_fd)

    def _post(self, action: Callable[[], None]) -> None:
        self._posted.append(action)
        os.eventfd_write(self._wake_fd, 1)

    # On the I/O thread

    def _run(self) -> None:
        while not self._closing:
            for source, _ in self._poller.poll(int(_IDLE_S * 1000)):
                action = self._actions.get(source)
                if action is not None:
                    action()
            self._drop_peers()
        for peer in list(self._peers.values()):
            self._drop(peer, RetryError("the front is stopping"))

    def _run_posted(self) -> None:
        os.eventfd_read(self._wake_fd)
        while self._posted:
            self._posted.popleft()()

    def _send(self, endpoint: str, request: Request, future: concurrent.futures.Future[Any]) -> None:
        peer = self._peers.get(endpoint)
        if peer is None:
            peer = self._peers[endpoint] = _Peer(self._context, endpoint)
            for source, action in ((peer.socket, peer.receive), (peer.monitor, peer.watch)):
                self._poller.register(source, zmq.POLLIN)
                self._actions[source] = action
        peer.used_at = time.monotonic()
        _, frame = peer.calls.add(request, future)
        peer.socket.send(frame, zmq.NOBLOCK)

    def _drop_peers(self) -> None:
        """Forget connections that broke, or that nobody uses."""
        now = time.monotonic()
        for peer in list(self._peers.values()):
            if peer.gone:
                _log.debug("connection to %s is lost", peer.endpoint)
                self._drop(peer, DiskUnavailable("the process that was asked ended, outcome unknown"))
            elif not peer.calls and now > peer.used_at + _IDLE_S:
                self._drop(peer, RetryError("idle"))

    def _drop(self, peer: _Peer, error: VolumedError) -> None:
        del self._peers[peer.endpoint]
        for source in (peer.socket, peer.monitor):
            self._poller.unregister(source)
            del self._actions[source]
        peer.close(error)
