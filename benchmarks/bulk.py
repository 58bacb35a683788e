"""Large objects: raw sockets and large buffers, since wrk reads 8 KB at a time and would measure itself."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

from benchmarks.load import Load, LoadError, percentile
from benchmarks.servers import Target

__all__ = ["get_objects", "put_objects"]

RECEIVE_BYTES = 1 << 20
TIMEOUT_S = 30.0


class Connection:
    """One keep-alive HTTP connection that knows just enough to count answers."""

    def __init__(self, address: str) -> None:
        """``address`` is ``host:port``."""
        host, _, port = address.partition(":")
        self._host = host
        self._socket = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)
        # Head and body go out in two pieces; the second must not wait for an acknowledgement of the first.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))

    def get(self, path: str) -> None:
        """GET and drop the body. Raises LoadError unless the status is 200."""
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        self._receive(b"200", path)

    def put(self, path: str, body: bytes) -> None:
        """PUT. Raises LoadError unless the status is 201."""
        head = f"PUT {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode())
        self._socket.sendall(body)
        self._receive(b"201", path)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _receive(self, status: bytes, path: str) -> None:
        got, end = 0, -1
        while end < 0:
            got += self._receive_some(got)
            end = bytes(self._buffer[:got]).find(b"\r\n\r\n")
        head = bytes(self._buffer[:end])
        if head[9:12] != status:
            raise LoadError(f"{path}: {head[:80]!r}")
        left = _content_length(head) - (got - end - 4)
        while left > 0:
            left -= self._receive_some(0)

    def _receive_some(self, at: int) -> int:
        count = self._socket.recv_into(self._buffer[at:])
        if not count:
            raise LoadError("the server closed the connection")
        return count


def get_objects(target: Target, *, connections: int, seconds: float, first_key: int, count: int) -> Load:
    """GET the needles ``first_key`` … ``first_key + count - 1`` in turn for ``seconds``."""
    keys = itertools.count()
    deadline = time.monotonic() + seconds

    def request(connection: Connection) -> bool:
        if time.monotonic() > deadline:
            return False
        connection.get(target.path(first_key + next(keys) % count))
        return True

    return _run(target.address, connections, request)


def put_objects(target: Target, *, connections: int, first_key: int, count: int, body_bytes: int) -> Load:
    """PUT ``count`` new needles of ``body_bytes`` random bytes."""
    body = os.urandom(body_bytes)
    keys = iter(range(first_key, first_key + count))

    def request(connection: Connection) -> bool:
        key = next(keys, None)
        if key is None:
            return False
        connection.put(target.path(key), body)
        return True

    return _run(target.address, connections, request)


def _run(address: str, connections: int, request: Callable[[Connection], bool]) -> Load:
    """Call ``request`` from one thread per connection until it returns False, without having sent anything."""
    latencies: list[float] = []
    failures: list[Exception] = []

    def client() -> None:
        try:
            with contextlib.closing(Connection(address)) as connection:
                latencies.extend(_timed(connection, request))
        except (OSError, LoadError) as error:
            failures.append(error)

    threads = [threading.Thread(target=client, daemon=True) for _ in range(connections)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    if failures:
        raise LoadError(str(failures[0]))
    latencies.sort()
    return Load(len(latencies), seconds, percentile(latencies, 0.5) * 1e3, percentile(latencies, 0.99) * 1e3)


def _timed(connection: Connection, request: Callable[[Connection], bool]) -> Iterator[float]:
    began = time.perf_counter()
    while request(connection):
        ended = time.perf_counter()
        yield ended - began
        began = ended


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise LoadError(f"no Content-Length in {head!r}")
