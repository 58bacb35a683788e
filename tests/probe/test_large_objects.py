"""Objects larger than the memory they may cost: written and read by a real node, and interrupted in the middle.

``VOLUMED_LARGE_MB=1024`` runs them at full size.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Volumed
from tests.large_kit import BLOCK, Answer, Growth, Pattern, exchange, watch_memory
from tests.processes import wait_until
from tests.pss import roles
from tests.web import BOUNDARY, assign, get, upload

pytestmark = [pytest.mark.probe, pytest.mark.timeout(300)]

SIZE = int(os.environ.get("VOLUMED_LARGE_MB", "120")) << 20
FRONT_BYTES_MAX = 48 << 20
NODE_BYTES_MAX = 80 << 20
INTERRUPTED = 40 << 20
LIMIT_S = 60.0
NOISE = Pattern(SIZE)
TEXT = Pattern(SIZE, text=True)
FORM_HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
    "Content-Type: application/x-noise\r\n\r\n"
).encode()
FORM_TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
FORM_TYPE = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


class Node(Volumed):
    """Two fronts, one disk, one volume."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, volumes_max=1, flags=["-fileSizeLimitMB=1100", "-fronts=2"])
        self.keys = iter(range(0x100, 0x200))

    def fid(self) -> str:
        """An unused file id in the one volume."""
        volume_id = assign(self.address).fid.partition(",")[0]
        return f"{volume_id},{next(self.keys):x}aabbccdd"

    def put(self, pattern: Pattern, fid: str, query: str = "", **headers: str) -> Answer:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        path, length = f"/{fid}?{query}", pattern.length
        return exchange("PUT", self.address, path, body=pattern.read(), length=length, headers=names)

    def files(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self.dirs[0].iterdir()}

    def spools(self) -> list[str]:
        """Files without a name that the worker holds on its disk."""
        workers = roles(self)["worker"]
        if len(workers) != 1:
            raise OSError("a worker ends or starts")
        (worker,) = workers
        found = []
        for link in Path(f"/proc/{worker}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(os.readlink(link))
        return [path for path in found if path.startswith(str(self.dirs[0])) and path.endswith("(deleted)")]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("large")) as node:
        # What is paid once is no part of what an object costs.
        for fid in (node.fid() for _ in range(6)):
            assert upload(node.address, fid, bytes(3 << 20)).status == 201
            assert get(node.address, f"/{fid}").status == 200
        yield node


@contextlib.contextmanager
def bounded(node: Node, capsys: pytest.CaptureFixture[str], what: str) -> Iterator[Growth]:
    with watch_memory(node) as growth:
        yield growth
    if "VOLUMED_LARGE_MB" in os.environ:
        with capsys.disabled():
            print(f"\n{what}, {SIZE >> 20} MiB: {growth}")  # noqa: T201
    assert growth.front < FRONT_BYTES_MAX, f"{what}: {growth}"
    assert growth.node < NODE_BYTES_MAX, f"{what}: {growth}"


def test_a_raw_object(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    fid = node.fid()
    with bounded(node, capsys, "raw upload"):
        stored = node.put(NOISE, fid, Content_Type="application/x-noise")
    assert (stored.status, json.loads(stored.start)["size"]) == (201, SIZE)
    with bounded(node, capsys, "unchanged upload"):
        assert node.put(NOISE, fid).status == 204
    with bounded(node, capsys, "download"):
        whole = exchange("GET", node.address, f"/{fid}")
    assert (whole.status, whole.length, whole.digest) == (200, SIZE, NOISE.digest())
    with bounded(node, capsys, "slow reader"):
        slow = exchange("GET", node.address, f"/{fid}", pause_s=0.5)
    assert slow.digest == whole.digest
    first, last = SIZE // 3, SIZE - 4321
    with bounded(node, capsys, "one range"):
        part = exchange("GET", node.address, f"/{fid}", headers={"Range": f"bytes={first}-{last - 1}"})
    assert (part.status, part.digest) == (206, NOISE.digest(first, last))
    with bounded(node, capsys, "several ranges"):
        parts = exchange("GET", node.address, f"/{fid}", headers={"Range": f"bytes=0-9,{first}-{last - 1}"})
    assert parts.status == 206
    assert parts.length == int(parts.headers["Content-Length"]) > last - first
    assert exchange("HEAD", node.address, f"/{fid}").headers["Content-Length"] == str(SIZE)
    wait_until(lambda: node.spools() == [], timeout_s=LIMIT_S, what="no spool")


@pytest.mark.parametrize("announced", [True, False], ids=["length", "chunked"])
def test_a_form(node: Node, capsys: pytest.CaptureFixture[str], announced: bool) -> None:
    def body() -> Iterator[bytes]:
        yield FORM_HEAD
        yield from NOISE.read()
        yield FORM_TAIL

    fid = node.fid()
    length = len(FORM_HEAD) + SIZE + len(FORM_TAIL) if announced else None
    with bounded(node, capsys, "form"):
        stored = exchange("POST", node.address, f"/{fid}", body=body(), length=length, headers=FORM_TYPE)
    assert (stored.status, json.loads(stored.start)["name"]) == (201, "a.bin")
    found = exchange("GET", node.address, f"/{fid}")
    assert (found.digest, found.headers["Content-Type"]) == (NOISE.digest(), "application/x-noise")


def test_text_that_is_compressed(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    fid = node.fid()
    before = node.files()
    with bounded(node, capsys, "text upload"):
        stored = node.put(TEXT, fid, Content_Type="text/plain")
    assert (stored.status, json.loads(stored.start)["size"]) == (201, SIZE)
    (dat,) = (name for name in before if name.endswith(".dat"))
    assert node.files()[dat] - before[dat] < SIZE * 0.9
    with bounded(node, capsys, "decompressed download"):
        plain = exchange("GET", node.address, f"/{fid}")
    assert (plain.digest, plain.headers["Content-Length"]) == (TEXT.digest(), str(SIZE))
    with bounded(node, capsys, "range of it"):
        part = exchange("GET", node.address, f"/{fid}", headers={"Range": f"bytes={SIZE - 5}-"})
    assert part.start == b"".join(TEXT.read(SIZE - 5))
    assert exchange("HEAD", node.address, f"/{fid}").headers["Content-Length"] == str(SIZE)
    packed = exchange("GET", node.address, f"/{fid}", headers={"Accept-Encoding": "gzip"})
    assert (packed.headers["Content-Encoding"], packed.length < SIZE * 0.9) == ("gzip", True)


def test_a_small_upload_that_grows(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    fid = node.fid()
    bomb = gzip.compress(bytes(BLOCK), mtime=0) * (SIZE // BLOCK)
    stored = upload(node.address, fid, bomb, headers={"Content-Encoding": "gzip", "Content-Type": "a/b"})
    assert stored.json()["size"] == SIZE
    with bounded(node, capsys, "growing download"):
        plain = exchange("GET", node.address, f"/{fid}")
    assert (plain.status, plain.length) == (200, SIZE)


def test_an_expanded_manifest(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    chunk = Pattern(SIZE // 2)
    fids = [node.fid(), node.fid()]
    for fid in fids:
        assert node.put(chunk, fid, Content_Type="a/b").status == 201
    chunks = [{"fid": fid, "offset": at * chunk.length, "size": chunk.length} for at, fid in enumerate(fids)]
    fid = node.fid()
    assert upload(node.address, fid, json.dumps({"chunks": chunks}).encode(), query="cm=true").status == 201
    with bounded(node, capsys, "expanded manifest"):
        whole = exchange("GET", node.address, f"/{fid}")
    assert (whole.status, whole.length) == (200, 2 * chunk.length)


class Upload:
    """A PUT of which only the first half was sent."""

    def __init__(self, node: Node, pattern: Pattern) -> None:
        self._rest = pattern.read(pattern.length // 2)
        self.connection = http.client.HTTPConnection(node.address, timeout=60)
        self.fid = node.fid()
        self.connection.putrequest("PUT", f"/{self.fid}")
        self.connection.putheader("Content-Length", str(pattern.length))
        self.connection.endheaders()
        for piece in pattern.read(0, pattern.length // 2):
            self.connection.send(piece)

    def finish(self) -> tuple[int, bytes]:
        for piece in self._rest:
            self.connection.send(piece)
        response = self.connection.getresponse()
        return response.status, response.read()


@pytest.mark.parametrize("victim", ["client", "http front", "worker"])
def test_an_end_in_the_middle_leaves_nothing(tmp_path: Path, victim: str) -> None:
    with Node(tmp_path) as node, contextlib.ExitStack() as stack:
        kept = node.fid()
        pattern = Pattern(INTERRUPTED)
        assert node.put(pattern, kept).status == 201
        files = node.files()
        begun = Upload(node, pattern)
        stack.callback(begun.connection.close)
        wait_until(lambda: len(node.spools()) == 1, timeout_s=LIMIT_S, what="a spool")
        assert node.files() == files
        # The volume is free while a body arrives.
        assert upload(node.address, node.fid(), b"meanwhile").status == 201
        files = node.files()
        if victim == "client":
            begun.connection.close()
        elif victim == "worker":
            os.kill(roles(node)["worker"][0], signal.SIGKILL)
            status, text = begun.finish()
            assert (status, b"failed to write to local disk: " in text) == (500, True)
        else:
            for pid in roles(node)["http front"]:
                os.kill(pid, signal.SIGKILL)
            with pytest.raises((OSError, http.client.HTTPException)):
                begun.finish()
        wait_until(lambda: node.spools() == [], timeout_s=LIMIT_S, what="no spool")
        wait_until(lambda: get(node.address, f"/{kept}").status == 200, timeout_s=LIMIT_S, what="the node serves")
        assert node.files() == files
        assert exchange("GET", node.address, f"/{kept}").digest == pattern.digest()
        assert get(node.address, f"/{begun.fid}").status == 404
        assert node.put(pattern, begun.fid).status == 201


def test_a_disk_without_room_gives_it_back(tmp_path: Path) -> None:
    """A limit on the length of the worker's files stands for a full disk: first the spool, then the volume is over."""
    with Node(tmp_path) as node:
        pattern = Pattern(INTERRUPTED)
        assert node.put(pattern, node.fid()).status == 201
        files = node.files()
        (worker,) = roles(node)["worker"]
        unlimited = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        for limit in (INTERRUPTED // 2, INTERRUPTED + (INTERRUPTED // 2)):
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (limit, unlimited[1]))
            refused = node.put(pattern, node.fid())
            assert refused.status == 500
            assert refused.start.startswith(b'{"error":"failed to write to local disk: ')
            assert b"file too large" in refused.start
            wait_until(lambda: node.spools() == [], timeout_s=LIMIT_S, what="no spool")
            assert node.files() == files
        resource.prlimit(worker, resource.RLIMIT_FSIZE, unlimited)
        fid = node.fid()
        assert node.put(pattern, fid, "fsync=true").status == 201
        assert exchange("GET", node.address, f"/{fid}").digest == pattern.digest()
