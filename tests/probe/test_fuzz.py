"""Tens of thousands of hostile requests: only declared answers, no traceback, bounded memory, and service goes on.

``VOLUMED_FUZZ_CASES`` and ``VOLUMED_FUZZ_SEED`` ask for more, or for others.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jwt
import pytest
from PIL import Image

from tests.cluster import Volumed
from tests.fuzz_kit import Answer, BrokenAnswer, Generator, Targets, send_batch, send_torn
from tests.pss import roles
from tests.web import assign, get, upload

pytestmark = [pytest.mark.probe, pytest.mark.timeout(600)]

CASES = int(os.environ.get("VOLUMED_FUZZ_CASES", "52000"))
SEED = int(os.environ.get("VOLUMED_FUZZ_SEED", "1"))
BATCH, TORN = 40, 10
"""Requests on one connection, and torn ones after them."""
THREADS = 2
GROWTH_BYTES_MAX = 96 << 20
NORMAL_ANSWER_S = 10.0
"""For one client among the hostile ones on a busy machine."""
DECLARED = {200, 201, 202, 204, 206, 301, 304, 307, 400, 401, 404, 413, 416, 417, 431, 500, 501, 505}
FAILURES = (
    b"failed to write to local disk: ", b"volume ", b"Deletion Failed: ", b"Load chunks manifest error: ",
    b"Delete chunks error: ",
)  # fmt: skip
"""How the texts of a 500 begin."""
KEY = "a key for signing that is longer than thirty-two bytes"
COOKIE = "aaaaaaaa"
NORMAL, CONTENT = "1,ffff5eed5eed", b"what everybody else does here"
"""No hostile request can hit upon its cookie."""


class Fuzzed(NamedTuple):
    node: Volumed
    targets: Targets
    normal: dict[str, str]
    """Headers with which `NORMAL` can be read."""


def token(fid: str) -> str:
    return jwt.encode({"exp": int(time.time()) + 86400, "fid": fid}, KEY, "HS256")


def picture() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((90, 60)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(params=["open", "with keys"])
def fuzzed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fuzzed]:
    flags = ["-fileSizeLimitMB=4", "-images.fix.orientation", "-fronts=2", "-readMode=local"]
    if request.param == "with keys":
        security = tmp_path / "security.toml"
        security.write_text(f'[jwt.signing]\nkey = "{KEY}"\n[jwt.signing.read]\nkey = "{KEY}"\n')
        flags.append(f"-securityFile={security}")
    with Volumed(tmp_path / "node", flags=flags) as node:
        while assign(node.address).fid.partition(",")[0] != "1":
            pass
        text = b"All work and no play makes Jack a dull boy.\n" * 60
        chunks = [{"fid": NORMAL, "offset": at, "size": len(CONTENT)} for at in (0, len(CONTENT))]
        stored = {
            "01": (b"0123456789abcdef", ""), "02": (b"\0" * 8, ""), "03": (b"", ""),
            "04": (gzip.compress(text, mtime=0), ""),
            "05": (picture(), ""), "06": (bytes(range(256)) * 5000, ""), "07": (b"short-lived", "ttl=7d"),
            "08": (json.dumps({"chunks": chunks}).encode(), "cm=true"),
            "09": (b'{"chunks": [{"fid": "1,99ffffffff", "size": 4}]}', "cm=true"),
        }  # fmt: skip
        for key, (data, query) in stored.items():
            fid = f"1,{key}{COOKIE}"
            headers = {"Authorization": f"Bearer {token(fid)}", "Seaweed-Pair": "value"}
            if key == "04":
                headers |= {"Content-Encoding": "gzip", "Content-Type": "text/plain"}
            assert upload(node.address, fid, data, query=query, headers=headers).status == 201
        paths = [f"/1,{key}{COOKIE}".encode() for key in stored]
        targets = Targets(paths, paths[4] + b".png", token(f"1,01{COOKIE}").encode())
        normal = {"Authorization": f"Bearer {token(NORMAL)}"}
        assert upload(node.address, NORMAL, CONTENT, headers=normal).status == 201
        yield Fuzzed(node, targets, normal)


class Assault:
    """Threads that send, and what they saw."""

    def __init__(self, fuzzed: Fuzzed, cases: int) -> None:
        self._fuzzed = fuzzed
        self._rounds = cases // (BATCH + TORN) // THREADS
        self.statuses: Counter[int] = Counter()
        self.problems: list[str] = []
        self.sent = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(SEED * THREADS + i,)) for i in range(THREADS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self, timeout_s: float) -> None:
        for thread in self._threads:
            thread.join(timeout_s)

    def _run(self, seed: int) -> None:
        generator = Generator(seed, self._fuzzed.targets)
        port = self._fuzzed.node.port
        for _ in range(self._rounds):
            if self.problems:
                return
            try:
                batch = generator.batch(BATCH)
                while batch:
                    answers = send_batch(port, batch)
                    for request, answer in zip(batch, answers, strict=False):
                        self._check(request.sent, answer)
                    # A connection that was closed without an answer has refused the request in front.
                    batch = batch[max(1, len(answers)) :]
                for _ in range(TORN):
                    sent = generator.torn()
                    for answer in send_torn(port, sent):
                        self._check(sent, answer)
            except (BrokenAnswer, OSError) as error:
                self.problems.append(repr(error))
            with self._lock:
                self.sent += BATCH + TORN

    def _check(self, sent: bytes, answer: Answer) -> None:
        with self._lock:
            self.statuses[answer.status] += 1
        if answer.status not in DECLARED:
            self.problems.append(f"status {answer.status} for {sent[:2000]!r}")
        elif answer.status == 500 and answer.headers.get(b"content-type") == b"application/json":
            error = json.loads(answer.body)["error"].encode()
            if not error.startswith(FAILURES):
                self.problems.append(f"500 {error!r} for {sent[:2000]!r}")


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that no file backs."""
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) << 10 for row in rows if row.startswith("RssAnon"))


def test_hostile_requests(fuzzed: Fuzzed, capsys: pytest.CaptureFixture[str]) -> None:
    node = fuzzed.node
    warm_up = Assault(fuzzed, 2000)
    warm_up.start()
    warm_up.join(120)
    assert not warm_up.problems, warm_up.problems[0]
    processes = roles(node)
    pids = [*processes["http front"], *processes["worker"], node.pid]
    before = {pid: anonymous_bytes(pid) for pid in pids}

    assault = Assault(fuzzed, CASES // 2)
    assault.start()
    slowest = 0.0
    while assault.running:
        started = time.monotonic()
        answer = get(node.address, f"/{NORMAL}", headers=fuzzed.normal)
        slowest = max(slowest, time.monotonic() - started)
        assert (answer.status, answer.body) == (200, CONTENT)
        assault.join(0.2)

    with capsys.disabled():
        sys.stdout.write(f"\n{assault.sent} hostile requests, slowest normal one {slowest:.2f} s\n")
    assert not assault.problems, assault.problems[0]
    assert slowest < NORMAL_ANSWER_S
    assert {pid: anonymous_bytes(pid) for pid in pids if anonymous_bytes(pid) - before[pid] > GROWTH_BYTES_MAX} == {}
    assert get(node.address, "/healthz").status == 200
    assert "Traceback" not in node.log_path.read_text(errors="replace")
