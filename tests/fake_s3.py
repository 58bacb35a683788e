"""An object store in a thread of the test: it counts what is asked, and can fail, hang, or cut answers short."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["FakeS3"]


class FakeS3:
    """Objects by ``bucket/key``. A context manager."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        """Method, path with query, headers in lower case."""
        self.failing: Callable[[str, str], int] = lambda _method, _path: 0
        """The status to answer a request with instead; 0 = none."""
        self.hanging = threading.Event()
        """While it is set no request is answered."""
        self.resumed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def works(self) -> None:
        """From now on, also for who waits."""
        self.failing = lambda _method, _path: 0
        self.hanging.clear()
        self.resumed.set()

    def hangs(self) -> None:
        """From now on, until it works."""
        self.resumed.clear()
        self.hanging.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resumed.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a request."""
        self.asked.append((method, path, headers))
        if self.hanging.is_set():
            self.resumed.wait(60)
        if status := self.failing(method, path):
            return status, {}, b"<Error><Code>Whatever</Code><Message>because &amp; so</Message></Error>"
        url = urlsplit(path)
        key, query = unquote(url.path.removeprefix("/")), parse_qs(url.query, keep_blank_values=True)
        if "uploadId" in query or "uploads" in query:
            return self._parts(method, key, query, body)
        if method == "PUT":
            self.objects[key] = body
            return 200, {}, b""
        if method == "DELETE":
            self.objects.pop(key, None)
            return 204, {}, b""
        if key not in self.objects:
            return 404, {}, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>"
        return self._object(method, self.objects[key], headers)

    def _object(self, method: str, content: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if method == "HEAD":
            return 200, {"Content-Length": str(len(content))}, b""
        first, _, last = headers["range"].removeprefix("bytes=").partition("-")
        return 206, {}, content[int(first) : int(last) + 1]

    def _parts(
        self, method: str, key: str, query: dict[str, list[str]], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if "uploads" in query:
            self.uploads["an id"] = {}
            return 200, {}, b"<UploadId>an id</UploadId>"
        parts = self.uploads["an id"]
        if method == "PUT":
            parts[int(query["partNumber"][0])] = body
            return 200, {"ETag": f'"{len(parts)}"'}, b""
        del self.uploads["an id"]
        if method == "POST":
            self.objects[key] = b"".join(parts[number] for number in sorted(parts))
        return 200 if method == "POST" else 204, {}, b""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                named = {name.lower(): value for name, value in self.headers.items()}
                status, headers, content = store.answer(self.command, self.path, named, body)
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
