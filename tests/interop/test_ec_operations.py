"""Generate, rebuild, decode and delete of erasure coded volumes: answers and files like the real server's."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Master, Volumed, WeedVolume
from tests.grpc_kit import Call, Node, Put, allocate, batch_delete
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

COOKIE = "c0ffee11"
ALL = list(range(32))
BYTES = random.Random(1).randbytes(20_000)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """The reference and ours, with two disks each and masters of their own."""
    home = tmp_path_factory.mktemp("ec")
    with (
        Master(home / "m") as one,
        Master(home / "n") as two,
        WeedVolume(home / "w", master=one, dirs=[home / "w0", home / "w1"]) as weed,
        Volumed(home / "v", master=two, dirs=[home / "v0", home / "v1"]) as ours,
        Node(weed) as weed_node,
        Node(ours) as our_node,
    ):
        yield [weed_node, our_node]


def rpc(name: str, volume_id: int, **fields: Any) -> Call:
    return Call(name, getattr(pb, f"{name}Request")(volume_id=volume_id, **fields))


def generate(volume_id: int, **fields: Any) -> Call:
    return rpc("VolumeEcShardsGenerate", volume_id, **fields)


def delete(volume_id: int, *shard_ids: int, **fields: Any) -> Call:
    return rpc("VolumeEcShardsDelete", volume_id, shard_ids=shard_ids, **fields)


def volume(volume_id: int, needles: int = 3, deleted: Sequence[int] = (), **fields: Any) -> list[Any]:
    """A volume, some needles in it, and some deletions."""
    return [
        allocate(volume_id, **fields),
        *(Put(f"{volume_id},{key:x}{COOKIE}", BYTES) for key in range(1, needles + 1)),
        *(batch_delete(f"{volume_id},{key:x}{COOKIE}") for key in deleted),
    ]


def files(node: Node, volume_id: int, collection: str = "") -> dict[str, int]:
    """Names and lengths of a volume's files, wherever they are. A `.vif` has any length."""
    base = f"{collection}_{volume_id}." if collection else f"{volume_id}."
    found = {}
    for directory in node.server.dirs:
        for path in directory.iterdir():
            if path.name.startswith(base):
                found[path.name] = -1 if path.suffix == ".vif" else path.stat().st_size
    return found


def path_of(node: Node, name: str) -> Path:
    """The file, on whichever disk."""
    (found,) = (directory / name for directory in node.server.dirs if (directory / name).exists())
    return found


def observe(node: Node, steps: Sequence[Any], volume_id: int, collection: str = "") -> list[Any]:
    """The answers, and the files after each step. A step is a call, or something to do to the files."""
    seen: list[Any] = []
    for step in steps:
        seen.append(step(node) if callable(step) else node.run(step))
        seen.append(files(node, volume_id, collection))
    return seen


def same(nodes: list[Node], steps: Sequence[Any], volume_id: int, collection: str = "") -> list[Any]:
    """What both do."""
    theirs, ours = (observe(node, steps, volume_id, collection) for node in nodes)
    assert ours == theirs
    return ours


def make(*names: str) -> Callable[[Node], None]:
    """Put files beside those of the first disk."""

    def act(node: Node) -> None:
        for name in names:
            (node.server.dirs[0] / name).write_bytes(b"x")

    return act


def remove(*names: str) -> Callable[[Node], None]:
    def act(node: Node) -> None:
        for name in names:
            path_of(node, name).unlink()

    return act


GENERATED = {f"{{}}.ec{shard:02}" for shard in range(14)} | {"{}.ecx", "{}.ecsum"}


def test_generate(nodes: list[Node]) -> None:
    same(nodes, [generate(99), generate(99, collection="c")], 99)
    seen = same(nodes, [*volume(1, deleted=[2]), generate(1, collection="c"), generate(1), generate(1)], 1)
    assert {name.format(1) for name in GENERATED} <= seen[-1].keys()
    same(nodes, [*volume(2, 0), generate(2)], 2)
    same(nodes, [*volume(3, 2, deleted=[1, 2], collection="pics"), generate(3), generate(3, collection="pics")], 3, "pics")


def test_generate_removes_what_is_stale(nodes: list[Node]) -> None:
    stale = make(*(f"4.{name}" for name in ("ec00", "ec20", "ecx", "ecj", "ecsum", "ecsum.v3", "ec01.v2", "ecx.v2", "ecj.v2", "vif.v2", "dat.v1")))
    same(nodes, [*volume(4), stale, generate(4)], 4)


def test_delete(nodes: list[Node]) -> None:
    made = [*volume(5), generate(5)]
    same(nodes, [delete(99, 1), delete(99, full_teardown=True), *made], 5)
    same(nodes, [delete(5), delete(5, 0, 3, 31, 99), delete(5, *range(13)), delete(5, 13)], 5)
    same(nodes, [generate(5), delete(5, full_teardown=True)], 5)
    gone = remove("5.dat", "5.idx")
    same(nodes, [generate(5), rpc("VolumeUnmount", 5), gone, delete(5, *range(14))], 5)


def test_delete_of_generations(nodes: list[Node]) -> None:
    staged = make("6.ec00.v1", "6.ec00.v2", "6.ecx.v1", "6.ecj.v1", "6.ecsum.v1", "6.vif.v1", "6.dat.v1", "6.ec03.v3")
    older = delete(6, 0, delete_generations_older_than=2)
    same(nodes, [*volume(6), generate(6), staged, older, delete(6, delete_generations_older_than=9)], 6)


def test_fenced_teardown(nodes: list[Node]) -> None:
    def fence(limit: int) -> Call:
        return delete(7, full_teardown=True, encode_ts_ns=limit)

    same(nodes, [*volume(7), generate(7), fence(1), fence(2**62)], 7)
    same(nodes, [generate(7), remove("7.vif"), fence(2**62), delete(7, full_teardown=True)], 7)
