"""An oracle for crash tests: clients that journal what they did and what was acknowledged, and the check of it."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.processes import HOST
from tests.web import request

__all__ = ["Client", "Record", "violations"]

REQUEST_TIMEOUT_S = 5.0
OBJECTS_PER_CLIENT = 40


@dataclass
class Record:
    """What may be found under one file id: the contents of every state that is possible. None means deleted.

    An acknowledged operation leaves one possible state; one without an answer adds its own to those before.
    """

    possible: list[bytes | None] = field(default_factory=lambda: [None])
    acknowledged: int = 0

    def intend(self, state: bytes | None) -> None:
        self.possible.append(state)

    def acknowledge(self, state: bytes | None) -> None:
        self.possible = [state]
        self.acknowledged += 1


class Client(threading.Thread):
    """Puts, overwrites, deletes and reads its own file ids until stopped. Nobody else touches them."""

    def __init__(self, address: str, number: int, volume_ids: list[int], seed: int) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.stopping = threading.Event()
        self.records: dict[str, Record] = {}
        self.wrong: list[str] = []
        self.unanswered = 0
        self._random = random.Random(f"{seed}-{number}")
        self._fids = [
            f"{self._random.choice(volume_ids)},{number * 1000 + index:x}{self._random.getrandbits(32):08x}"
            for index in range(1, OBJECTS_PER_CLIENT + 1)
        ]

    def run(self) -> None:
        while not self.stopping.is_set():
            fid = self._random.choice(self._fids)
            try:
                self._step(fid, self.records.setdefault(fid, Record()))
            except (OSError, http.client.HTTPException):
                self.unanswered += 1
                self.stopping.wait(0.01)

    def _step(self, fid: str, record: Record) -> None:
        action = self._random.random()
        if action < 0.6:
            self._put(fid, record, self._random.randbytes(self._random.choice((1, 100, 1000, 20_000, 200_000))))
        elif action < 0.8:
            self._erase(fid, record)
        else:
            self.wrong += mismatch(self.address, fid, record)

    def _put(self, fid: str, record: Record, data: bytes) -> None:
        record.intend(data)
        fsync = "?fsync=true" if self._random.random() < 0.05 else ""
        answer = request("PUT", self.address, f"/{fid}{fsync}", body=data, timeout_s=REQUEST_TIMEOUT_S)
        if answer.status in (201, 204):
            record.acknowledge(data)

    def _erase(self, fid: str, record: Record) -> None:
        record.intend(None)
        answer = request("DELETE", self.address, f"/{fid}", timeout_s=REQUEST_TIMEOUT_S)
        if answer.status == 202:
            record.acknowledge(None)


def mismatch(address: str, fid: str, record: Record) -> list[str]:
    """What a GET shows that no possible state explains; answers other than 200 and 404 prove nothing."""
    answer = request("GET", address, f"/{fid}", timeout_s=REQUEST_TIMEOUT_S)
    if answer.status not in (200, 404):
        return []
    found = answer.body if answer.status == 200 else None
    if found in record.possible:
        return []
    shown = "nothing" if found is None else f"{len(found)} bytes"
    return [f"{fid}: {shown}, possible: {[None if s is None else len(s) for s in record.possible]}"]


def violations(clients: list[Client], serves: Callable[[], bool]) -> list[str]:
    """All that is wrong with what the clients wrote. The node must serve every id without an error now."""
    assert serves(), f"no node at {HOST}"
    wrong = [text for client in clients for text in client.wrong]
    for client in clients:
        for fid, record in client.records.items():
            answer = request("GET", client.address, f"/{fid}", timeout_s=REQUEST_TIMEOUT_S)
            if answer.status not in (200, 404):
                wrong.append(f"{fid}: status {answer.status}")
            wrong += mismatch(client.address, fid, record)
    return wrong
