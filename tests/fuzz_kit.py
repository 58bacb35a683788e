"""Hostile requests from a seed, and a client that reads whatever comes back.

`Generator.batch` makes requests whose framing is right and whose content is not: they go out on one connection, many at
once. `Generator.torn` makes bytes that need not be HTTP at all: each has a connection of its own.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.processes import HOST

__all__ = ["Answer", "BrokenAnswer", "Generator", "Hostile", "Targets", "send_batch", "send_torn"]

TIMEOUT_S = 60.0
NO_BODY = (204, 304)
NASTY = [
    b"", b"\0", b"%", b"%zz", b"%00", b"%2f", b"%2e%2e", b"..", b"//", b"\xff\xfe", b"\xc3\xa9", b"\xed\xa0\x80",
    b"-1", b"0", b"+1", b"1e9", b"0x10", b"9" * 25, b"18446744073709551616", b"2147483648", b"-9223372036854775809",
    b"true", b"null", b"'", b'"', b"\\", b";", b",", b"&", b"=", b"#", b" ", b"\t", b"<script>", b"a" * 300, b"{",
]  # fmt: skip


class Targets(NamedTuple):
    """What is stored on the node under test: paths of objects, an image among them, and a prefix for new ones."""

    objects: Sequence[bytes]
    image: bytes
    token: bytes


class Hostile(NamedTuple):
    """One request. ``head`` only says how to read the answer."""

    sent: bytes
    head: bool = False


class Answer(NamedTuple):
    """One response."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class BrokenAnswer(AssertionError):
    """What came back is not HTTP, or nothing came."""


class Generator:
    """Requests from one seed: the same seed makes the same requests."""

    def __init__(self, seed: int, targets: Targets) -> None:
        self._random = random.Random(seed)
        self._targets = targets
        self._kinds: list[Callable[[], Hostile]] = [
            self._read, self._range, self._condition, self._image, self._token, self._form, self._raw, self._delete,
            self._method,
        ]  # fmt: skip

    def batch(self, count: int) -> list[Hostile]:
        """Requests with right framing."""
        return [self._random.choice(self._kinds)() for _ in range(count)]

    def torn(self) -> bytes:
        """Bytes that may end anywhere and mean nothing."""
        r = self._random
        kind = r.randrange(6)
        if kind == 0:
            return r.randbytes(r.randrange(1, 400))
        whole, other = self._get_or_write(), self._get_or_write()
        if kind == 1:
            return whole[: r.randrange(1, len(whole) + 1)]
        if kind == 2:
            return self._flipped(whole)
        if kind == 3:
            return self._chunked()
        if kind == 4:
            return self._framed_wrongly()
        return self._spliced(whole, other)

    def _get_or_write(self) -> bytes:
        """Not HEAD: how the answer to a torn one is to be read cannot be known."""
        while (request := self._random.choice(self._kinds)()).head:
            pass
        return request.sent

    # Pieces

    def _junk(self) -> bytes:
        r = self._random
        return r.choice(NASTY) if r.random() < 0.8 else r.randbytes(r.randrange(12))

    def _escaped(self, text: bytes) -> bytes:
        """Bytes that may stand in a request line."""
        return b"".join(b"%c" % byte if 0x21 <= byte < 0x7F else b"%%%02x" % byte for byte in text)

    def _field(self, text: bytes) -> bytes:
        """Bytes that may stand in a header value."""
        return bytes(byte for byte in text if byte >= 0x20 and byte != 0x7F)

    def _fid(self) -> bytes:
        """A file id in one of its forms, with parts replaced."""
        r = self._random
        volume = r.choice([b"1", b"1", b"01", b"2", b"4294967297", self._junk()])
        key = r.choice([b"%02x" % r.randrange(0x20, 0x40), b"0" * r.randrange(20), self._junk()])
        cookie = r.choice([b"aaaaaaaa", b"AAAAAAAA", b"aaaaaaab", self._junk()])
        tail = r.choice([b"", b"", b".png", b"_1", b"_" + self._junk(), b"." + self._junk(), b"/" + self._junk()])
        slash = r.choice([b",", b",", b"/", self._junk()])
        return b"/" + self._escaped(volume + slash + key + cookie + tail)

    def _path(self) -> bytes:
        r = self._random
        return r.choice(self._targets.objects) if r.random() < 0.7 else self._fid()

    def _query(self, names: Sequence[bytes]) -> bytes:
        r = self._random
        pairs = [
            r.choice(names) + r.choice([b"=", b"=", b"", b"=="]) + self._escaped(r.choice([self._junk(), b"1", b"50"]))
            for _ in range(r.randrange(1, 5))
        ]
        return b"?" + r.choice([b"&", b"&", b";"]).join(pairs)

    def _request(
        self, method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]] = (), body: bytes = b""
    ) -> Hostile:
        lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: a"]
        lines += [b"%b: %b" % (name, self._field(value)) for name, value in headers]
        if body or method in (b"PUT", b"POST"):
            lines.append(b"Content-Length: %d" % len(body))
        return Hostile(b"\r\n".join(lines) + b"\r\n\r\n" + body, head=method == b"HEAD")

    # Kinds with right framing

    def _read(self) -> Hostile:
        names = (b"readDeleted", b"dl", b"cm", b"pretty", b"response-content-type", b"RESPONSE-EXPIRES",
                 b"response-content-disposition", b"collection", b"proxied", self._escaped(self._junk()))  # fmt: skip
        query = self._query(names) if self._random.random() < 0.6 else b""
        accept = [(b"Accept-Encoding", self._random.choice([b"gzip", b"gzip;q=0", self._junk()]))]
        return self._request(self._random.choice([b"GET", b"GET", b"HEAD"]), self._path() + query, accept)

    def _range(self) -> Hostile:
        r = self._random
        numbers = [b"0", b"1", b"5", b"15", b"16", b"-1", b"99999999", b"%d" % r.randrange(1 << 70), self._junk(), b""]
        items = [r.choice(numbers) + r.choice([b"-", b"-", b"", b"--"]) + r.choice(numbers) for _ in range(r.choice(
            [1, 1, 2, 3, 40]))]  # fmt: skip
        value = r.choice([b"bytes=", b"bytes=", b"bytes", b"Bytes=", b"items="]) + r.choice([b",", b", "]).join(items)
        return self._request(b"GET", self._path(), [(b"Range", value)])

    def _condition(self) -> Hostile:
        r = self._random
        values = [b"Sat, 21 Nov 2026 01:47:19 GMT", b"Xxx, 99 Nov 2026 25:61:61 GMT", b'"d5e10e8b"', b"*", self._junk()]
        names = [b"If-Modified-Since", b"If-None-Match", b"If-Range", b"Origin", b"Cookie", self._header_name()]
        headers = [(r.choice(names), r.choice(values)) for _ in range(r.randrange(1, 6))]
        return self._request(r.choice([b"GET", b"HEAD"]), self._path(), headers)

    def _header_name(self) -> bytes:
        r = self._random
        return b"".join(r.choice([b"x", b"-", b"A", b"9", b"_", b"!", b"~"]) for _ in range(r.randrange(1, 12)))

    def _image(self) -> Hostile:
        names = (b"width", b"height", b"mode", b"crop_x1", b"crop_y1", b"crop_x2", b"crop_y2")
        return self._request(b"GET", self._targets.image + self._query(names))

    def _token(self) -> Hostile:
        r = self._random
        parts = self._targets.token.split(b".")
        for _ in range(r.randrange(3)):
            at = r.randrange(len(parts))
            parts[at] = r.choice([self._junk(), self._flipped(parts[at]), parts[at][: r.randrange(9)]])
        token = self._field(b".".join(parts)) * r.choice([1, 1, 1, 2, 400])
        method = r.choice([b"GET", b"HEAD", b"PUT", b"DELETE"])
        path = self._path() if method in (b"GET", b"HEAD") else self._new_path()
        where = r.randrange(3)
        if where == 0:
            return self._request(method, path + b"?jwt=" + self._escaped(token))
        if where == 1:
            scheme = r.choice([b"Bearer ", b"bearer ", b"BEARER", b"Basic ", b""])
            return self._request(method, path, [(b"Authorization", scheme + token)])
        return self._request(method, path, [(b"Cookie", r.choice([b"AT=", b"at=", b"x; AT=", b"AT"]) + token)])

    def _form(self) -> Hostile:
        r = self._random
        boundary = r.choice([b"b", b"b", b"bbb", b"B" * 70, b'"b"', b""])
        pieces: list[bytes] = []
        for _ in range(r.randrange(4)):
            file = b'form-data; name="file"; filename="%b"' % self._junk()
            lines = [b"Content-Disposition: " + r.choice([file, b"form-data; name=ts", b"x"])]
            for _ in range(r.randrange(3)):
                name = r.choice([b"Content-Type", b"Content-Encoding", b"Content-MD5", b"Content-Transfer-Encoding"])
                value = r.choice([b"gzip", b"text/x", b"quoted-printable", self._junk()])
                lines.append(name + r.choice([b": ", b":", b" ", b""]) + value)
            end = r.choice([b"\r\n", b"\r\n", b"\n", b"\r"])
            pieces.append(b"--b" + end + end.join(lines) + end + end + r.randbytes(r.randrange(200)) + end)
        body = b"".join(pieces) + r.choice([b"--b--\r\n", b"--b--", b"--b", b"", b"--"])
        if r.random() < 0.3:
            body = self._flipped(body)
        kind = r.choice([b"multipart/form-data", b"multipart/form-data", b"multipart/mixed", b"form-data"])
        headers = [(b"Content-Type", kind + b"; boundary=" + boundary), (b"Content-MD5", self._junk())]
        return self._request(b"POST", self._new_path(), headers[: r.choice([1, 1, 2])], body)

    def _raw(self) -> Hostile:
        r = self._random
        names = (b"ts", b"ttl", b"cm", b"fsync", b"type", b"pretty", self._escaped(self._junk()))
        headers = [
            (r.choice([b"Content-Type", b"Content-Encoding", b"Content-Disposition", b"Content-MD5", b"Seaweed-X"]),
             r.choice([b"gzip", b"text/plain", b"application/x-www-form-urlencoded", b"a/b; c=d; c=e", self._junk()]))
            for _ in range(r.randrange(4))
        ]  # fmt: skip
        body = r.choice([b"\x1f\x8b" + r.randbytes(30), r.randbytes(r.randrange(300)), b"a=b&%zz", b"{}", b"x" * 3000])
        return self._request(r.choice([b"PUT", b"POST"]), self._new_path() + self._query(names), headers, body)

    def _new_path(self) -> bytes:
        r = self._random
        return b"/1,%xbbbbbbbb" % r.randrange(0x1000, 0x1200) if r.random() < 0.8 else self._fid()

    def _delete(self) -> Hostile:
        target = self._new_path() + self._query((b"ts", b"type", b"pretty"))
        return self._request(b"DELETE", target)

    def _method(self) -> Hostile:
        r = self._random
        method = r.choice([b"OPTIONS", b"PATCH", b"TRACE", b"get", b"X" * 60, b"M-SEARCH", self._header_name()])
        path = r.choice([b"/status", b"/healthz", b"/favicon.ico", b"/seaweedfsstatic/..%2f", b"/ui/index.html"])
        return self._request(method, r.choice([self._path(), path]))

    # Kinds with wrong framing

    def _flipped(self, data: bytes) -> bytes:
        r = self._random
        changed = bytearray(data)
        for _ in range(r.randrange(1, 5)):
            if changed:
                changed[r.randrange(len(changed))] = r.choice([0, 9, 10, 13, 32, 58, 255, r.randrange(256)])
        return bytes(changed)

    def _spliced(self, one: bytes, other: bytes) -> bytes:
        r = self._random
        return one[: r.randrange(len(one))] + other[r.randrange(len(other)) :]

    def _chunked(self) -> bytes:
        r = self._random
        sizes = [b"5", b"0", b"zz", b"-5", b"ffffffffffffffff", b"00000000000000000000005", b"5;x=y", b" 5", b"1000000"]
        body = b"".join(r.choice(sizes) + r.choice([b"\r\n", b"\n"]) + b"hello\r\n" for _ in range(r.randrange(1, 5)))
        head = b"PUT %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % self._new_path()
        return head + body + r.choice([b"0\r\n\r\n", b"", b"0\r\nx: y\r\n\r\n", b"0\r\n"])

    def _framed_wrongly(self) -> bytes:
        r = self._random
        lines = [b"PUT %b %b" % (self._new_path(), r.choice([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b""]))]
        framing = [b"Content-Length: 5", b"Content-Length: 6", b"Content-Length: +5", b"Content-Length: 5, 5",
                   b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding : chunked",
                   b"Expect: 100-continue", b"Expect: 200-ok", b"Connection: close", b"Upgrade: h2c",
                   b"Host: b"]  # fmt: skip
        lines += r.sample(framing, r.randrange(1, 5))
        lines += [b"%b: %b" % (self._header_name(), self._junk()) for _ in range(r.choice([0, 1, 3, 200]))]
        return r.choice([b"\r\n", b"\r\n", b"\n"]).join(lines) + b"\r\n\r\nhello"


class _Reader:
    """Reads responses from one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def answer(self, *, head: bool = False) -> Answer | None:
        """The next final response; None at a clean end. Raises `BrokenAnswer`."""
        while True:
            block = self._until(b"\r\n\r\n")
            if block is None:
                return None
            first, *lines = block.split(b"\r\n")
            words = first.split(b" ", 2)
            if len(words) < 2 or words[0] not in (b"HTTP/1.1", b"HTTP/1.0") or not words[1].isdigit():
                raise BrokenAnswer(f"no status line: {first[:80]!r}")
            status = int(words[1])
            if status >= 200:
                break
        headers = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon:
                raise BrokenAnswer(f"no header: {line[:80]!r}")
            headers[name.lower()] = value.strip()
        return Answer(status, headers, b"" if head or status in NO_BODY else self._body(headers))

    def _body(self, headers: dict[bytes, bytes]) -> bytes:
        if headers.get(b"transfer-encoding") == b"chunked":
            parts = []
            while size := int(self._line(), 16):
                parts.append(self._exactly(size))
                self._line()
            self._line()
            return b"".join(parts)
        if b"content-length" in headers:
            return self._exactly(int(headers[b"content-length"]))
        while self._more():
            pass
        body, self._buffer = self._buffer, b""
        return body

    def _line(self) -> bytes:
        line = self._until(b"\r\n")
        if line is None:
            raise BrokenAnswer("the answer ends in its chunks")
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._more():
                raise BrokenAnswer(f"{len(self._buffer)} of {size} bytes of a body")
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return body

    def _until(self, end: bytes) -> bytes | None:
        while end not in self._buffer:
            if not self._more():
                if self._buffer:
                    raise BrokenAnswer(f"the answer ends in {self._buffer[-80:]!r}")
                return None
        block, _, self._buffer = self._buffer.partition(end)
        return block

    def _more(self) -> bool:
        piece = self._connection.recv(1 << 18)
        self._buffer += piece
        return bool(piece)


def send_batch(port: int, requests: Sequence[Hostile]) -> list[Answer]:
    """The answers, one to each request, until the server closes the connection. Raises `BrokenAnswer`."""
    with socket.create_connection((HOST, port), timeout=TIMEOUT_S) as connection:
        connection.sendall(b"".join(request.sent for request in requests))
        reader = _Reader(connection)
        answers: list[Answer] = []
        for request in requests:
            try:
                answer = reader.answer(head=request.head)
            except BrokenAnswer as error:
                raise BrokenAnswer(f"{error} in answer to {request.sent[:2000]!r}") from None
            except TimeoutError:
                raise BrokenAnswer(f"no answer to {request.sent[:2000]!r}") from None
            if answer is None:
                break
            answers.append(answer)
            if answer.headers.get(b"connection") == b"close":
                break
        return answers


def send_torn(port: int, sent: bytes) -> list[Answer]:
    """All answers to some bytes after which the client ends its side. Raises `BrokenAnswer`."""
    with socket.create_connection((HOST, port), timeout=TIMEOUT_S) as connection:
        answers: list[Answer] = []
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            reader = _Reader(connection)
            while (answer := reader.answer()) is not None:
                answers.append(answer)
        except ConnectionError:
            pass  # closed while something was still coming
        except BrokenAnswer as error:
            raise BrokenAnswer(f"{error} in answer to {sent[:2000]!r}") from None
        except TimeoutError:
            raise BrokenAnswer(f"no end of the answer to {sent[:2000]!r}") from None
        return answers
