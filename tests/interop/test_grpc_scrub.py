"""Damage done to the files of mounted volumes: both servers find the same, and go on."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster import Master, Volumed, WeedVolume
from tests.grpc_kit import Call, Node, Put, allocate, batch_delete, status
from tests.metrics_kit import Scrape, scrape
from tests.processes import free_port
from volumed.formats.idx import pack_row
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

BINARY = {"Content-Type": "application/x-thing"}
INDEX, FULL, LOCAL, CHECKSUM, READS = 1, 2, 3, 4, 5
LONG = bytes(range(256)) * (20 << 10)
"""5 MiB: checked in pieces."""
DATA_AT = 8 + 20

Damage = Callable[[Path], None]


def patched(extension: str, at: int | None, content: bytes) -> Damage:
    """Bytes written into a file, at its end for None."""

    def damage(base: Path) -> None:
        path = base.with_suffix(extension)
        fd = os.open(path, os.O_RDWR)
        os.pwrite(fd, content, path.stat().st_size if at is None else at)
        os.close(fd)

    return damage


def shortened(extension: str, to: int) -> Damage:
    """A negative length counts from the end."""

    def damage(base: Path) -> None:
        path = base.with_suffix(extension)
        os.truncate(path, to if to >= 0 else path.stat().st_size + to)

    return damage


def without_index(base: Path) -> None:
    base.with_suffix(".idx").rename(base.with_suffix(".gone"))


DAMAGES: dict[str, Damage] = {
    "none": lambda _: None,
    "a flipped byte": patched(".dat", DATA_AT + 1, b"X"),
    "half a row": shortened(".idx", -2),
    "a row that overlaps": patched(".idx", None, pack_row(77, 16, 20)),
    "no data": shortened(".dat", 8),
    "no rows": shortened(".idx", 0),
    "no index": without_index,
    "foreign data": patched(".dat", None, bytes(16)),
    "a row far behind the end": patched(".idx", None, pack_row(77, 1 << 20, 20)),
    "another size": patched(".dat", 8 + 12, b"\0\0\0\1"),
    "rows without a place": patched(".idx", None, pack_row(77, 0, -1) + pack_row(78, 0, 5)),
    "another data length": patched(".dat", 8 + 16, b"\xff"),
    "a flipped byte of a long record": patched(".dat", DATA_AT + (1 << 20), b"X"),
    "no end of a long record": shortened(".dat", 1 << 20),
}
VOLUMES = dict(enumerate(DAMAGES, start=1))


def fill(node: Node, volume_id: int) -> None:
    first = LONG if "long" in VOLUMES[volume_id] else b"data 1"
    path = f"{volume_id},{{}}?ts=1700000000"
    node.run(allocate(volume_id))
    node.run(Put(path.format("0111111111"), first, BINARY))
    for key in (2, 3, 4):
        node.run(Put(path.format(f"{key:02x}11111111"), b"data %d" % key, BINARY))
    node.run(Put(path.format("0311111111"), b"overwritten", BINARY))
    node.run(batch_delete(f"{volume_id},0211111111"))
    node.run(Put(path.format("0511111111"), b"", BINARY))


def scrub(mode: int, *volume_ids: int, mark: bool = False) -> Call:
    request = pb.ScrubVolumeRequest(mode=mode, volume_ids=volume_ids, mark_broken_volumes_readonly=mark)
    return Call("ScrubVolume", request)


EMPTY_NODE = [scrub(FULL), scrub(INDEX), scrub(99)]
STEPS = [
    *(scrub(mode, volume_id) for volume_id in VOLUMES for mode in (INDEX, FULL)),
    scrub(LOCAL, 2), scrub(READS, 4), scrub(FULL), scrub(INDEX), scrub(INDEX, 1, 1, 99), scrub(INDEX, 4, 1, 4),
    scrub(CHECKSUM, 1), scrub(0, 1), scrub(99, 1), scrub(99, 55), scrub(99),
    scrub(INDEX, 1, 4, mark=True), scrub(INDEX, 4, 6, mark=True), status(4), status(1),
    Put("4,0911111111", b"refused"), Put("1,0911111111", b"taken"), scrub(FULL, 1),
]  # fmt: skip


class Outcome(NamedTuple):
    """What a server has answered, and what it has counted then."""

    answers: list[Any]
    counted: Scrape


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Outcome]:
    home: Path = tmp_path_factory.mktemp("scrub")
    with ExitStack() as stack:
        both = []
        for kind in (WeedVolume, Volumed):
            master = stack.enter_context(Master(home / f"{kind.__name__}-master"))
            port = free_port()
            flags = [f"-metricsPort={port}"]
            server = stack.enter_context(
                kind(home / kind.__name__, master=master, volumes_max=len(VOLUMES), flags=flags)
            )
            node = stack.enter_context(Node(server))
            found = [node.run(step) for step in EMPTY_NODE]
            for volume_id, damage in VOLUMES.items():
                fill(node, volume_id)
                DAMAGES[damage](server.dirs[0] / str(volume_id))
            found += [node.run(step) for step in STEPS]
            both.append(Outcome(found, scrape(port)))
    return both[0], both[1]


@pytest.mark.parametrize("index", range(len(EMPTY_NODE) + len(STEPS)))
def test_both_find_the_same(outcomes: tuple[Outcome, Outcome], index: int) -> None:
    reference, ours = outcomes
    assert ours.answers[index] == reference.answers[index], (EMPTY_NODE + STEPS)[index]


def test_both_count_the_same(outcomes: tuple[Outcome, Outcome]) -> None:
    """Except for a mode without a name, which an empty server of the reference makes a label of."""
    reference, ours = (
        {
            (name, *labels): value > 0 if name.endswith("_seconds") else value
            for (name, labels), value in outcome.counted.values.items()
            if name.startswith("SeaweedFS_volumeServer_scrub_")
            and not name.endswith("_created")
            and ("mode", "99") not in labels
        }
        for outcome in outcomes
    )
    assert ours == reference
    assert len(ours) > 4
