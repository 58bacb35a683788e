"""Damage done to the files of encoded volumes: both servers find the same in every mode, and go on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.ec_damage import (
    LENGTHS,
    LONG,
    Damage,
    EncodedVolume,
    appended,
    checksums_of_one_mib,
    cut,
    flipped,
    lost,
    moved,
    other_sidecar,
    patched,
    row,
    row_folded,
    row_resized,
    stale,
)  # fmt: skip
from tests.ec_files_kit import mount, wait_for_shards
from tests.erasure_kit import NOW_NS
from tests.grpc_kit import Call, Node
from volumed.erasure.layout import MIB
from volumed.erasure.names import INDEX, JOURNAL, SIDECAR
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

INDEX_MODE, FULL, LOCAL, CHECKSUM, READS = 1, 2, 3, 4, 5
OLDER_NS, YOUNGER_NS = NOW_NS - 10**9, NOW_NS + 10**9

CASES: dict[str, list[Damage]] = {
    "nothing": [],
    "stray bytes in the index": [appended(INDEX, b"xy")],
    "an empty index": [cut(INDEX, 0)],
    "half a row": [cut(INDEX, 5)],
    "a shard cut in the first needle": [cut(".ec00", 50)],
    "a shard cut behind all needles": [cut(".ec02", MIB - 10)],
    "all shards cut": [cut(f".ec{shard:02}", 1000) for shard in range(5)],
    "a byte of data": [flipped(1, 30)],
    "a byte of a size": [flipped(1, 14)],
    "a byte of a needle in two shards": [flipped(2, 30)],
    "a broken sidecar": [patched(SIDECAR, 30, b"\x55\x66")],
    "an empty sidecar": [cut(SIDECAR, 0)],
    "no sidecar": [lost(SIDECAR)],
    "a sidecar of another generation": [other_sidecar(generation=3)],
    "two damaged shards": [flipped(1, 30), patched(".ec03", 77, b"zz")],
    "more damaged shards than parity": [flipped(1, 30), patched(".ec03", 77, b"zz"), patched(".ec04", 77, b"zz")],
    "a stale sidecar": [stale],
    "a lost shard": [lost(".ec00")],
    "a lost parity shard": [lost(".ec03")],
    "too many lost shards": [lost(".ec00", ".ec01", ".ec02")],
    "lost shards and a cut one": [lost(".ec00"), cut(".ec01", 100)],
    "lost shards and a damaged one": [lost(".ec00", ".ec01"), patched(".ec03", 77, b"zz")],
    "overlaps": [row(77, 16, 20), row(78, 24, 20), appended(INDEX, b"zz")],
    "a row behind the end": [row(77, 30 * MIB, 20)],
    "rows without a place": [row(78, 0, 5), row(79, 0, -1)],
    "a needle deleted in the index": [row_folded(5)],
    "a needle deleted in the index and its shard lost": [row_folded(5), lost(".ec02")],
    "another size in the index": [row_resized(1, 9)],
    "a size of 0 in the index": [row_resized(6, 0)],
    "a torn journal": [appended(JOURNAL, b"xyz")],
    "several damaged blocks": [
        checksums_of_one_mib,
        patched(".ec01", 5, b"zz"),
        patched(".ec01", MIB + 5, b"zz"),
        patched(".ec04", MIB + 5, b"zz"),
    ],
    "shards on two disks": [moved(3, 4)],
    "damage on the second disk": [flipped(1, 30), moved(0)],
    "a broken sidecar on the second disk": [moved(0, sidecar=b"junk")],
    "younger shards on the second disk": [moved(3, 4, encoded_at_ns=YOUNGER_NS)],
    "older shards on the second disk": [moved(0, encoded_at_ns=OLDER_NS)],
    "shards of an unknown run on the second disk": [moved(0, encoded_at_ns=0)],
    # What the reference does not find, or does not say: compared in some modes only.
    "a shard too short": [cut(".ec04", 100)],
    "a shard too long": [appended(".ec00", b"x" * 100)],
    "a byte of a key": [flipped(1, 11)],
}
VOLUMES = dict(enumerate(CASES, start=1))
IDS = {name: volume_id for volume_id, name in VOLUMES.items()}
FORCED = [IDS["nothing"], IDS["rows without a place"], IDS["a needle deleted in the index"]]
"""With the check of deleted needles."""
CUT = {name for name in CASES if "cut" in name or ("too " in name and "shard too" in name)}


def scrub(mode: int, *volume_ids: int, forced: bool = False) -> Call:
    request = pb.ScrubEcVolumeRequest(mode=mode, volume_ids=volume_ids, force_deleted_needles_check=forced)
    return Call("ScrubEcVolume", request)


STEPS: dict[str, Call] = {
    # The reference forgets servers after reads that fail: direct reads come first.
    **{f"{name}, mode {mode}": scrub(mode, IDS[name])
       for name in CASES for mode in (INDEX_MODE, LOCAL, FULL, READS, CHECKSUM)
       if not (name in CUT and mode == CHECKSUM) and not (name == "a byte of a key" and mode in (LOCAL, FULL, READS))},
    **{f"{VOLUMES[volume_id]}, mode {mode}, forced": scrub(mode, volume_id, forced=True)
       for volume_id in FORCED for mode in (FULL, READS)},
    "all": scrub(INDEX_MODE),
    "no such mode": scrub(99),
    "mode 0": scrub(0, 1),
    "no such volume": scrub(INDEX_MODE, 1, 500, 2),
    "no such mode, no such volume": scrub(99, 500),
    "some twice": scrub(INDEX_MODE, 2, 1, 2),
    "forced in another mode": scrub(INDEX_MODE, 1, forced=True),
    "forced in no mode": scrub(99, 500, forced=True),
}  # fmt: skip


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home: Path = tmp_path_factory.mktemp("volumes")
    for volume_id, name in VOLUMES.items():
        volume = EncodedVolume(home, volume_id, LONG if name == "several damaged blocks" else LENGTHS)
        for damage in CASES[name]:
            damage(volume)
    return home


def started(stack: ExitStack, kind: type[VolumeServer], home: Path, volumes: Path) -> Node:
    """Alone with a master, which knows all shards: the reference asks it for shards of its own, too."""
    shutil.copytree(volumes, home / "s")
    master = stack.enter_context(Master(home / "m"))
    dirs = [home / "s" / "d", home / "s" / "e"]
    server = stack.enter_context(kind(home / "s", master=master, dirs=dirs, volumes_max=len(CASES)))
    node = stack.enter_context(Node(server))
    for volume_id in VOLUMES:
        shards = [int(path.suffix[3:]) for path in (home / "s").glob(f"?/{volume_id}.ec[0-9][0-9]")]
        mount(node, volume_id, shards)
        wait_for_shards(master, volume_id, {shard: {server.address} for shard in shards})
    return node


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, volumes: Path) -> Iterator[tuple[Node, Node]]:
    with ExitStack() as stack:
        nodes = [
            started(stack, kind, tmp_path_factory.mktemp(kind.__name__), volumes) for kind in (WeedVolume, Volumed)
        ]
        yield nodes[0], nodes[1]


@pytest.fixture(scope="module")
def answers(both: tuple[Node, Node]) -> tuple[dict[str, Any], dict[str, Any]]:
    reference, ours = ({name: told(node.run(step)) for name, step in STEPS.items()} for node in both)
    return reference, ours


def told(answer: Any) -> Any:
    """Without the words that the reference has for a shard of its own that is of another run: who reads, knows."""
    if isinstance(answer, dict) and "details" in answer:
        pattern = r"read ec shard [\d.]+ from SELF: .* belongs to a different encode run"
        answer["details"] = [re.sub(pattern, "no known shard locations", text) for text in answer["details"]]
    return answer


@pytest.mark.parametrize("step", STEPS)
def test_both_find_the_same(answers: tuple[dict[str, Any], dict[str, Any]], step: str) -> None:
    reference, ours = answers
    assert ours[step] == reference[step]


@pytest.mark.parametrize(
    ("name", "shard", "length"),
    [
        ("a shard too short", 4, 100),
        ("a shard too long", 0, MIB + 100),
        ("a shard cut behind all needles", 2, MIB - 10),
    ],
)
def test_a_shard_of_another_length_is_named(both: tuple[Node, Node], name: str, shard: int, length: int) -> None:
    """Unlike the reference, which says that a short one is right as far as it goes."""
    volume_id = IDS[name]
    text = f"ec volume {volume_id} shard {shard}: size {length} != covered_size {MIB} (truncated or extended)"
    found = both[1].stub.ScrubEcVolume(scrub(CHECKSUM, volume_id).message)
    assert list(found.details) == [text]
    assert [(broken.shard_id, broken.size) for broken in found.broken_shard_infos] == [(shard, length)]


@pytest.mark.parametrize("mode", [LOCAL, FULL, READS])
def test_a_needle_of_another_id_is_found(both: tuple[Node, Node], mode: int) -> None:
    """Unlike the reference, which does not look at it."""
    volume_id = IDS["a byte of a key"]
    found = both[1].stub.ScrubEcVolume(scrub(mode, volume_id).message)
    assert list(found.broken_volume_ids) == [volume_id]
    assert "size mismatch" in found.details[0]
