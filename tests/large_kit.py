"""Large objects that no test holds in memory, and the memory of a node while it handles them."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import random
import re
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.processes import Server
from tests.pss import roles

__all__ = ["BLOCK", "Answer", "Growth", "Pattern", "exchange", "watch_memory"]

BLOCK = 1 << 20
TIMEOUT_S = 120.0
SAMPLE_S = 0.01


class Pattern:
    """``length`` bytes, the same for the same seed; with ``text`` they compress to a small part."""

    def __init__(self, length: int, *, seed: int = 1, text: bool = False) -> None:
        self.length = length
        noise = random.Random(seed).randbytes(BLOCK)
        self._block = (noise[:1024].hex().encode() + b"\n") * 512 if text else noise
        self._text = text

    def read(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` to ``end`` in pieces."""
        end = self.length if end is None else end
        while start < end:
            number, at = divmod(start, BLOCK)
            # Each block differs, so that one in the wrong place is seen.
            mark = b"%015d\n" % number
            piece = (mark + self._block[len(mark) : BLOCK])[at : at + min(BLOCK - at, end - start)]
            start += len(piece)
            yield piece

    def digest(self, start: int = 0, end: int | None = None) -> str:
        """SHA-256 of a part."""
        return digest(self.read(start, end))


def digest(pieces: Iterable[bytes]) -> str:
    """SHA-256 of all pieces."""
    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()


class Answer(NamedTuple):
    """What came back; long bodies as their hash alone."""

    status: int
    headers: http.client.HTTPMessage
    digest: str
    length: int
    start: bytes
    """The first 64 KiB."""


def exchange(
    method: str,
    address: str,
    path: str,
    *,
    body: Iterable[bytes] | None = None,
    length: int | None = None,
    headers: dict[str, str] | None = None,
    pause_s: float = 0.0,
) -> Answer:
    """Send a body of ``length`` bytes piece by piece (None: chunked), and read the answer likewise, after a pause."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    try:
        fields = dict(headers or {})
        if length is not None:
            fields["Content-Length"] = str(length)
        connection.request(method, path, body=body, headers=fields, encode_chunked=body is not None and length is None)
        response = connection.getresponse()
        time.sleep(pause_s)
        total, size, start = hashlib.sha256(), 0, b""
        while piece := response.read(BLOCK):
            total.update(piece)
            size += len(piece)
            start = start or piece[: 64 << 10]
        return Answer(response.status, response.headers, total.hexdigest(), size, start)
    finally:
        connection.close()


class Growth:
    """By how much memory was above the start, at most, in bytes."""

    def __init__(self, node: Server) -> None:
        found = roles(node)
        self._fronts = found["http front"]
        self._pids = node.pids()
        self._before = self._sample()
        self.front = 0
        """Resident size of one front, shared and file pages included."""
        self.node = 0
        """Proportional size of all processes together."""

    def look(self) -> None:
        """Take a sample."""
        now = self._sample()
        self.front = max([self.front, *(now[pid][0] - self._before[pid][0] for pid in self._fronts)])
        total = sum(pss for _, pss in now.values()) - sum(pss for _, pss in self._before.values())
        self.node = max(self.node, total)

    def _sample(self) -> dict[int, tuple[int, int]]:
        return {pid: _rss_and_pss(pid) for pid in self._pids}

    def __str__(self) -> str:
        return f"front +{self.front / BLOCK:.1f} MiB, node +{self.node / BLOCK:.1f} MiB"


@contextlib.contextmanager
def watch_memory(node: Server) -> Iterator[Growth]:
    """Sample all processes until the block ends. None of them may end."""
    growth = Growth(node)
    done = threading.Event()

    def run() -> None:
        while not done.wait(SAMPLE_S):
            growth.look()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield growth
    finally:
        done.set()
        thread.join()
        growth.look()


def _rss_and_pss(pid: int) -> tuple[int, int]:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    rss, pss = (re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE) for name in ("Rss", "Pss"))
    assert rss, pid
    assert pss, pid
    return int(rss[1]) << 10, int(pss[1]) << 10
