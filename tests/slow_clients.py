"""Clients that take their time: raw sockets that send or receive only what a test tells them to."""

from __future__ import annotations

import http.client
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.web import TIMEOUT_S, Response

__all__ = ["Client", "connect"]

_RECEIVE_BUFFER_BYTES = 4096


class Client:
    """One connection."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self.socket = socket.socket()
        # Before connecting, so that the server never sees a larger window.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect((host, int(port)))
        self._method = "GET"

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, method: str, target: str, *headers: str, body: bytes = b"", length: int | None = None) -> None:
        """Send a head and the first part of a body; ``length`` is what is announced, None: nothing."""
        lines = [f"{method} /{target} HTTP/1.1", "Host: test", *headers]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        self._method = method
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def hears(self, seconds: float) -> bool:
        """Whether anything comes, or the connection ends, within this time."""
        return bool(select.select([self.socket], [], [], seconds)[0])

    def receive_head(self) -> bytes:
        """The head of an answer, and not a byte more."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            if not byte:
                raise ConnectionError(f"closed after {head!r}")
            head += byte
        return head

    def answer(self) -> Response:
        """The whole answer."""
        answer = http.client.HTTPResponse(self.socket, method=self._method)
        answer.begin()
        return Response(answer.status, answer.headers, answer.read())

    def bodies(self, count: int) -> list[bytes]:
        """The bodies of so many answers to pipelined requests."""
        with self.socket.makefile("rb") as file:
            return [file.read(_length(iter(file.readline, b"\r\n"))) for _ in range(count)]

    def close_sending(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()


def _length(head: Iterator[bytes]) -> int:
    return next(int(line.split()[1]) for line in list(head) if line.startswith(b"Content-Length:"))


@contextmanager
def connect(address: str, count: int = 1) -> Iterator[list[Client]]:
    """So many clients of ``host:port``; closed in the end."""
    clients: list[Client] = []
    try:
        for _ in range(count):
            clients.append(Client(address))
        yield clients
    finally:
        for client in clients:
            client.close()
