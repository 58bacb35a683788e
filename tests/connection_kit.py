"""A connection under test: fake transport, scripted handler, and a client that writes raw bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from volumed.bus.bodypool import BodyPool
from volumed.http.protocol.body import BodyError, BodyTooLarge
from volumed.http.protocol.connection import Connection
from volumed.http.protocol.exchange import Exchange
from volumed.http.protocol.message import Response

__all__ = ["HOST", "Client", "FakeHost", "FakeTransport", "Script", "get", "put", "run"]

HOST = b"Host: a\r\n"


class FakeTransport(asyncio.Transport):
    """Collects what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("10.0.0.9", 40000), "sockname": ("10.0.0.1", 8080)})
        self.sent = bytearray()
        self.closed = self.aborted = self.half_closed = False
        self.reading = True
        self.stuck = 0
        self.protocol: asyncio.Protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def writelines(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:  # type: ignore[override]
        self.sent += b"".join(parts)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        del low
        if self.stuck > (high or 0):
            self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.stuck


class Script:
    """A handler that answers each request with its method and path; some paths do more."""

    def __init__(self) -> None:
        self.now = True
        self.release = asyncio.Event()
        self.cancelled = False
        self.seen: list[Exchange] = []

    def answer_now(self, exchange: Exchange) -> bool:
        self.seen.append(exchange)
        if not self.now or not exchange.body.complete or exchange.request.path.startswith("/slow"):
            return False
        exchange.reply(self._echo(exchange, exchange.body.take_all()))
        return True

    async def answer(self, exchange: Exchange) -> None:
        path = exchange.request.path
        try:
            if path == "/slow":
                await self.release.wait()
            elif path == "/crash":
                raise ValueError("secret")
            elif path == "/reject":
                await exchange.send(Response(400, body=b"no"))
                return
            elif path == "/stream":
                await exchange.send(Response(200, body=_pieces(), content_length=None))
                return
            received = await exchange.body.read(1 << 20)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        except BodyTooLarge:
            await exchange.send(Response(400, body=b"too large"))
            return
        except BodyError as error:
            await exchange.send(Response(400, body=error.text.encode()))
            return
        await exchange.send(self._echo(exchange, bytes(received.data)))
        received.release()

    def _echo(self, exchange: Exchange, body: bytes) -> Response:
        text = f"{exchange.request.method} {exchange.request.path} ".encode()
        return Response(200, body=text + body if len(body) < 100 else text + str(len(body)).encode())


async def _pieces():  # type: ignore[no-untyped-def]
    for piece in (b"one", b"two"):
        yield piece


class FakeHost:
    """What the front is to its connections."""

    server_name = b"test"

    def __init__(self, idle_timeout_s: float = 30.0, pool: BodyPool | None = None) -> None:
        self.handler = Script()
        self.pool = pool
        self.loop = asyncio.get_running_loop()
        self.time = 100.0
        self.clock: Callable[[], float] = lambda: self.time
        self.idle_timeout_s = idle_timeout_s
        self.stopping = False
        self.limits_uploads = False
        self.open: set[Connection] = set()

    def opened(self, connection: Connection) -> None:
        self.open.add(connection)

    def closed(self, connection: Connection) -> None:
        self.open.discard(connection)


class Client:
    """A connection with its host and transport."""

    def __init__(self, host: FakeHost | None = None, *, public: bool = False) -> None:
        self.host = host or FakeHost()
        self.transport = FakeTransport()
        self.connection = self.transport.protocol = Connection(self.host, public=public)
        self.connection.connection_made(self.transport)

    def send(self, *segments: bytes) -> None:
        for segment in segments:
            self.connection.data_received(segment)

    async def settle(self) -> None:
        """Let every task run as far as it can."""
        for _ in range(20):
            await asyncio.sleep(0)

    @property
    def sent(self) -> bytes:
        return bytes(self.transport.sent)

    def statuses(self) -> list[int]:
        return [int(part[:3]) for part in self.sent.split(b"HTTP/1.1 ")[1:]]

    def bodies(self) -> list[bytes]:
        """Bodies of answers that all have a length."""
        found, rest = [], self.sent
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            found.append(rest[:length])
            rest = rest[length:]
        return found


def get(path: bytes, *headers: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (path, HOST, b"".join(line + b"\r\n" for line in headers))


def put(path: bytes, body: bytes, *headers: bytes) -> bytes:
    return b"PUT %b HTTP/1.1\r\n%bContent-Length: %d\r\n%b\r\n%b" % (
        path,
        HOST,
        len(body),
        b"".join(line + b"\r\n" for line in headers),
        body,
    )


def run(test: Callable[[], object]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]
