"""Sending a case, reading the answers, and what must be equal in them."""

from __future__ import annotations

import contextlib
import email.utils
import re
import socket
import time
import zlib
from typing import BinaryIO, NamedTuple

from tests.interop.differential.kit import Case
from tests.processes import HOST

__all__ = ["Answer", "Differences", "differences", "exchange"]

TIMEOUT_S = 30
NOW_S = 600
SHOWN_BYTES_MAX = 1000
REPEATED = " | "
"""Between the values of a header that comes more than once."""

VARYING_HEADERS = {
    "Date": re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"),
    "X-Amz-Request-Id": re.compile(r"[0-9A-F]{24}"),
}
"""Different in every answer. What has this form is taken for equal; that it is there is compared."""
FRAMING = ("Content-Length", "Transfer-Encoding")
VARYING_TEXT = [
    (re.compile(rb"\b[0-9a-f]{60}\b"), b"BOUNDARY"),
    (re.compile(HOST.encode() + rb":\d{5}"), b"ADDRESS"),
]
"""Random boundaries, and the server's own address (ports of tests have five digits)."""
MEASURED = re.compile(
    rb'("(?:all|used|free|percent_free|percent_used|ModifiedAtSecond)": ?)[^,}\s]+|("(?:dir|Version)": ?)"[^"]*"'
)
"""Values of /status that are no property of the stored objects."""
CHECKSUM = re.compile(rb'"eTag":"[0-9a-f]{8}"|^\{"size":\d+\}$')

Differences = dict[str, tuple[str | bytes | None, str | bytes | None]]
"""What differs (`status`, `body`, the name of a header; `answers` when their number does): (reference, volumed)."""


class Answer(NamedTuple):
    """One response. No status: the connection was closed without one."""

    status: str
    headers: dict[str, str]
    body: bytes


def exchange(address: str, case: Case) -> list[Answer]:
    """Send a case on a new connection and read the answers, interim ones included."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as client:
        with contextlib.suppress(ConnectionError):  # answered and closed before all was sent
            client.sendall(case.data)
        if case.cut:
            client.shutdown(socket.SHUT_WR)
        reader = client.makefile("rb")
        answers = []
        try:
            for method in case.methods:
                answers.append(_read(reader, method))
                while answers[-1].status.startswith("HTTP/1.1 1"):
                    client.sendall(case.later)
                    answers.append(_read(reader, method))
            if case.until_closed:
                answers.append(Answer("", {}, _read_rest(client, reader)))
        except TimeoutError:
            raise AssertionError(f"{case.name}: no answer from {address}") from None
    return [_normal(case, answer) for answer in answers]


def differences(reference: list[Answer], ours: list[Answer]) -> Differences:
    """What differs between the answers to one case; of several requests the first that differs counts."""
    if len(reference) != len(ours):
        return {"answers": (str(len(reference)), str(len(ours)))}
    for expected, found in zip(reference, ours, strict=True):
        if expected != found:
            return _between(expected, found)
    return {}


def _between(expected: Answer, found: Answer) -> Differences:
    both: Differences = {"status": (expected.status, found.status), "body": (expected.body, found.body)}
    # With another status it is another answer: its headers follow from that.
    if expected.status == found.status:
        for name in sorted(expected.headers | found.headers):
            both[name] = (expected.headers.get(name), found.headers.get(name))
    if expected.body != found.body and _length_fits(expected) and _length_fits(found):
        both.pop("Content-Length", None)
    return {what: (_shown(pair[0]), _shown(pair[1])) for what, pair in both.items() if pair[0] != pair[1]}


def _length_fits(answer: Answer) -> bool:
    return answer.headers.get("Content-Length") == str(len(answer.body))


def _shown(value: str | bytes | None) -> str | bytes | None:
    """Long bodies are told apart by their checksums."""
    if isinstance(value, bytes) and len(value) > SHOWN_BYTES_MAX:
        return f"{len(value)} bytes, {zlib.crc32(value):08x}"
    return value


def _read_rest(client: socket.socket, reader: BinaryIO) -> bytes:
    """What comes after the last answer. The server may have closed with bytes of ours unread, and reset."""
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_WR)
    try:
        return reader.read()
    except ConnectionResetError:
        return b""


def _read(reader: BinaryIO, method: str) -> Answer:
    try:
        status = reader.readline().decode().rstrip()
    except ConnectionResetError:
        status = ""
    headers: dict[str, str] = {}
    while line := reader.readline().decode("latin-1").rstrip("\r\n"):
        name, _, value = line.partition(":")
        value = value.strip()
        headers[name] = f"{headers[name]}{REPEATED}{value}" if name in headers else value
    return Answer(status, headers, _read_body(reader, method, status, headers))


def _read_body(reader: BinaryIO, method: str, status: str, headers: dict[str, str]) -> bytes:
    if not status or method == "HEAD" or re.search(r" (1..|204|304) ", status):
        return b""
    if headers.get("Transfer-Encoding") == "chunked":
        body = b""
        while size := int(reader.readline(), 16):
            body += reader.read(size)
            reader.readline()
        reader.readline()
        return body
    if "Content-Length" in headers:
        return reader.read(int(headers["Content-Length"]))
    assert headers.get("Connection") == "close" or status.startswith("HTTP/1.0"), "no end of the body"
    return reader.read()


def _normal(case: Case, answer: Answer) -> Answer:
    """Without what differs by its nature."""
    headers = {name: _normal_header(name, value) for name, value in answer.headers.items()}
    if _is_now(answer.headers.get("Last-Modified", "")):
        headers["Last-Modified"] = "NOW"
    body = answer.body
    for pattern, word in VARYING_TEXT:
        body = pattern.sub(word, body)
    if case.measured:
        body = MEASURED.sub(rb"\1\2VARIES", body)
        headers = {name: value for name, value in headers.items() if name not in FRAMING}
    if case.zipped:
        body = CHECKSUM.sub(b"VARIES", body)
        headers = {name: "VARIES" if name == "Etag" else value for name, value in headers.items()}
        if b"VARIES" in body or headers.get("Content-Encoding") == "gzip":
            headers["Content-Length"] = "VARIES"
        if headers.get("Content-Encoding") == "gzip" and body.startswith(b"\x1f\x8b"):
            body = zlib.decompressobj(31).decompress(body)
    return Answer(answer.status, headers, body)


def _is_now(date: str) -> bool:
    """Whether an object without a time of its own got that of its upload."""
    parsed = email.utils.parsedate_to_datetime(date) if VARYING_HEADERS["Date"].fullmatch(date) else None
    return parsed is not None and abs(parsed.timestamp() - time.time()) < NOW_S


def _normal_header(name: str, value: str) -> str:
    pattern = VARYING_HEADERS.get(name)
    if pattern is not None:
        return REPEATED.join("VARIES" if pattern.fullmatch(one) else one for one in value.split(REPEATED))
    for varying, word in VARYING_TEXT:
        value = varying.sub(word, value.encode("latin-1")).decode("latin-1")
    return value
