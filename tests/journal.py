"""What a store must hold after any crash: a journal of operations, and clients that keep one while they work.

An operation is journalled before it is sent (*intended*) and again when its answer came (*acknowledged*). The latest
acknowledged operation on an object must hold. One without an answer may have happened or not, so it adds an
outcome that is allowed too; its object is left alone until `Journal.settle` has seen which it was, so that no late
operation can meet a newer one.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

__all__ = ["Client", "Journal", "fingerprint", "run_clients"]

ABSENT = "absent"
TIMEOUT_S = 20.0
SIZES = [0, 1, 100, 1000, 1000, 1000, 5000, 60_000, 200_000, 1_500_000]
KEYS_MAX = 60
PAUSE_MIN_S, PAUSE_MAX_S = 0.02, 0.5
"""After a failure; the longer, the more there were in a row."""


def fingerprint(status: int, body: bytes) -> str:
    """What a read of an object says about its state."""
    if status == 404:
        return ABSENT
    return hashlib.sha256(body).hexdigest() if status == 200 else f"status {status}"


@dataclass
class Entry:
    """One object: its acknowledged state, and others that unanswered operations may have given it."""

    acknowledged: str = ABSENT
    possible: set[str] = field(default_factory=set)

    @property
    def is_certain(self) -> bool:
        return not self.possible


class Journal:
    """All objects by file id. Every object has one writer, so entries need no lock."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.acknowledged_count = 0
        self.unanswered_count = 0
        self._lock = threading.Lock()

    def add(self, fid: str) -> None:
        """A new object. Raises AssertionError when the file id was handed out before."""
        with self._lock:
            assert fid not in self.entries, f"file id {fid} was assigned twice"
            self.entries[fid] = Entry()

    @contextlib.contextmanager
    def operation(self, fid: str, outcome: str) -> Iterator[None]:
        """Intend on entry, acknowledge on exit; an exception leaves the operation unanswered."""
        entry = self.entries[fid]
        entry.possible.add(outcome)
        try:
            yield
        except BaseException:
            with self._lock:
                self.unanswered_count += 1
            raise
        entry.possible.clear()
        entry.acknowledged = outcome
        with self._lock:
            self.acknowledged_count += 1

    def settle(self, read: Callable[[str], str]) -> list[str]:
        """Read every object; return one line per object that is in no allowed state."""
        violations = []
        for fid, entry in self.entries.items():
            found = read(fid)
            if found != entry.acknowledged and found not in entry.possible:
                violations.append(f"{fid}: found {found}, acknowledged {entry.acknowledged}, or {entry.possible}")
            entry.acknowledged = found
            entry.possible.clear()
        return violations


class Unanswered(Exception):
    """Neither done nor refused, as far as the client knows; or there was nothing to do."""


class Client(threading.Thread):
    """Writes, overwrites and deletes its own objects over one connection until told to stop."""

    def __init__(
        self, address: str, journal: Journal, fids: list[str], seed: int, stop: threading.Event, collection: str = ""
    ) -> None:
        """``fids`` are the objects of this client from earlier rounds; new ones are appended."""
        super().__init__(daemon=True)
        self.failure: BaseException | None = None
        self._journal = journal
        self._fids = fids
        self._random = random.Random(seed)
        self._stop_event = stop
        self._collection = collection
        self._connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)

    def run(self) -> None:
        """Work; ``failure`` says what should not have happened."""
        pause_s = PAUSE_MIN_S
        try:
            while not self._stop_event.is_set():
                with contextlib.suppress(OSError, http.client.HTTPException, Unanswered):
                    self._step()
                    pause_s = PAUSE_MIN_S
                    continue
                self._connection.close()
                self._stop_event.wait(pause_s)
                # Each failure may leave an object behind that cannot be used: a disk that is away for long must not
                # use them up.
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
        except BaseException as error:
            self.failure = error
        finally:
            self._connection.close()

    def _step(self) -> None:
        if self._connection.sock is None:
            self._connection.connect()  # before an operation is intended: what was never sent has no outcome
        fid = self._choose()
        if fid is None:
            raise Unanswered
        if self._random.random() < 0.2:
            with self._journal.operation(fid, ABSENT):
                self._request("DELETE", f"/{fid}", None, {202, 404})
            return
        data = self._random.randbytes(self._random.choice(SIZES))
        query = "?fsync=true" if self._random.random() < 0.1 else ""
        with self._journal.operation(fid, fingerprint(200, data)):
            self._request("PUT", f"/{fid}{query}", data, {201, 204})

    def _choose(self) -> str | None:
        """An object whose state is certain, or a new one."""
        if len(self._fids) < KEYS_MAX and self._random.random() < 0.3:
            fid = self._assign()
            self._journal.add(fid)
            self._fids.append(fid)
            return fid
        certain = [fid for fid in self._fids if self._journal.entries[fid].is_certain]
        return self._random.choice(certain) if certain else None

    def _assign(self) -> str:
        # Without a disk in service there is no room.
        answer = self._request("GET", f"/dir/assign?collection={self._collection}", None, {200, 406})
        fid = answer.partition(b'"fid":"')[2].partition(b'"')[0].decode()
        if not fid:
            raise Unanswered
        return fid

    def _request(self, method: str, path: str, body: bytes | None, expected: set[int]) -> bytes:
        self._connection.request(method, path, body, {"Content-Type": "application/octet-stream"})
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status not in expected:
            if answer.status < 500:
                raise AssertionError(f"{method} {path}: {answer.status} {text[:200]!r}")
            raise Unanswered
        return text


@contextlib.contextmanager
def run_clients(
    address: str, journal: Journal, owned: list[list[str]], seed: int, collection: str = ""
) -> Iterator[None]:
    """Clients at work while the body runs, one per list of ``owned`` file ids. Raises what one of them met."""
    stop = threading.Event()
    clients = [
        Client(address, journal, fids, seed * 1000 + number, stop, collection) for number, fids in enumerate(owned)
    ]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        stop.set()
        for client in clients:
            client.join(2 * TIMEOUT_S)
    for client in clients:
        assert not client.is_alive(), "a request hangs"
        if client.failure:
            raise client.failure
