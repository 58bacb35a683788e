"""The small HTTP server of metrics and profiling pages, and the client of the push gateway (docs/spec/http.md 6.5, 10).

Few connections at a time, each for one request and a limited time: nobody who scrapes slowly, or means ill, can hold
up the node.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from volumed.metrics.exporter import CONTENT_TYPE
from volumed.profiling.pages import Page, is_profiling_path, plain_page, profiling_page

__all__ = ["push", "serve_pages"]

_log = logging.getLogger(__name__)

_CONNECTIONS_MAX = 8
_IDLE_LIMIT_S = 10.0
_CONNECTION_LIMIT_S = 90.0
"""Longer than the longest profile."""
_BACKLOG = 16

Render = Callable[[], bytes]


def serve_pages(listener: socket.socket, render: Render | None, *, profiling: bool) -> None:
    """Serve for ever. ``listener`` is bound; without ``render`` there are no metrics."""
    _Server(listener, render, profiling).serve_forever()


def push(address: str, path: str, content: bytes, timeout_s: float) -> None:
    """PUT metrics to a gateway. Raises `OSError`, also when it does not answer with success."""
    connection = http.client.HTTPConnection(address, timeout=timeout_s)
    try:
        connection.request("PUT", path, content, {"Content-Type": CONTENT_TYPE})
        answer = connection.getresponse()
        if answer.status // 100 != 2:
            raise OSError(f"status {answer.status}")
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__} {error}") from None
    finally:
        connection.close()


class _Server(ThreadingHTTPServer):
    """One thread per connection, up to a limit; further ones are closed."""

    def __init__(self, listener: socket.socket, render: Render | None, profiling: bool) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.render = render
        self.profiling = profiling
        self._free = threading.Semaphore(_CONNECTIONS_MAX)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.listen(_BACKLOG)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        late = threading.Timer(_CONNECTION_LIMIT_S, _break_off, (request,))
        late.daemon = True
        late.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            late.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        _log.debug("a connection from %s failed", client_address[0], exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One request per connection."""

    server: _Server
    timeout = _IDLE_LIMIT_S

    def _serve(self) -> None:
        page = self._page()
        self.send_response_only(page.status)
        self.send_header("Date", self.date_time_string())
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = _serve

    def _page(self) -> Page:
        target = urlsplit(self.path)
        if target.path == "/metrics" and self.server.render is not None:
            try:
                return Page(200, CONTENT_TYPE, self.server.render())
            except TimeoutError:
                return plain_page(503, "the supervisor is busy")
        if self.server.profiling and is_profiling_path(target.path):
            return profiling_page(target.path, target.query)
        return plain_page(404, "404 page not found")

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)


def _break_off(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
