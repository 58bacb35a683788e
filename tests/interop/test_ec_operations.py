"""Generate, rebuild, decode and delete of erasure coded volumes: answers and files like the real server's."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Master, Volumed, WeedVolume
from tests.grpc_kit import Call, Node, Put, allocate, batch_delete, readonly, rpc
from tests.metrics_kit import scrape
from tests.processes import free_port
from tests.web import get, request

pytestmark = pytest.mark.interop

COOKIE = "c0ffee11"
ALL = list(range(32))
REBUILD = "SeaweedFS_volumeServer_ec_rebuild"
BYTES = random.Random(1).randbytes(20_000)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """The reference and ours, with two disks each and masters of their own."""
    home = tmp_path_factory.mktemp("ec")
    with (
        Master(home / "m") as one,
        Master(home / "n") as two,
        WeedVolume(home / "w", master=one, dirs=[home / "w0", home / "w1"], flags=metrics_port()) as weed,
        Volumed(home / "v", master=two, dirs=[home / "v0", home / "v1"], flags=metrics_port()) as ours,
        Node(weed) as weed_node,
        Node(ours) as our_node,
    ):
        yield [weed_node, our_node]


def metrics_port() -> list[str]:
    return [f"-metricsPort={free_port()}"]


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
    """Names and lengths of a volume's files, wherever they are. A `.vif` has any length.

    Empty files say nothing: ours keeps an empty journal (R2), the reference an empty shard that it could not make."""
    base = f"{collection}_{volume_id}." if collection else f"{volume_id}."
    found = {}
    for directory in node.server.dirs:
        for path in directory.iterdir():
            if path.name.startswith(base) and (size := path.stat().st_size):
                found[path.name] = -1 if path.suffix == ".vif" else size
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
    steps = [*volume(3, 2, deleted=[1, 2], collection="pics"), generate(3), generate(3, collection="pics")]
    same(nodes, steps, 3, "pics")


def test_generate_removes_what_is_stale(nodes: list[Node]) -> None:
    names = ["ec00", "ec20", "ecx", "ecj", "ecsum", "ecsum.v3", "ec01.v2", "ecx.v2", "ecj.v2", "vif.v2", "dat.v1"]
    stale = make(*(f"4.{name}" for name in names))
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


def mount(volume_id: int, *shard_ids: int, **fields: Any) -> Call:
    return rpc("VolumeEcShardsMount", volume_id, shard_ids=shard_ids, **fields)


def unmount(volume_id: int) -> Call:
    return rpc("VolumeEcShardsUnmount", volume_id, shard_ids=ALL)


def rebuild(volume_id: int, **fields: Any) -> Call:
    return rpc("VolumeEcShardsRebuild", volume_id, **fields)


def decode(volume_id: int, **fields: Any) -> Call:
    return rpc("VolumeEcShardsToVolume", volume_id, **fields)


def encoded(volume_id: int, needles: int = 3, deleted: Sequence[int] = (), **fields: Any) -> list[Any]:
    """Shards of a volume that is gone itself."""
    return [
        *volume(volume_id, needles, deleted, **fields),
        generate(volume_id, **fields),
        rpc("VolumeUnmount", volume_id),
        remove(*(f"{base(volume_id, **fields)}{extension}" for extension in (".dat", ".idx"))),
    ]


def base(volume_id: int, collection: str = "") -> str:
    return f"{collection}_{volume_id}" if collection else str(volume_id)


def change(name: str, content: bytes, offset: int = 0) -> Callable[[Node], None]:
    def act(node: Node) -> None:
        with open(path_of(node, name), "r+b") as file:
            file.seek(offset)
            file.write(content)

    return act


def cut(name: str, length: int) -> Callable[[Node], None]:
    def act(node: Node) -> None:
        with open(path_of(node, name), "r+b") as file:
            file.truncate(length)

    return act


def configure(name: str, **fields: Any) -> Callable[[Node], None]:
    """Change the geometry in a `.vif`."""

    def act(node: Node) -> None:
        path = path_of(node, name)
        info = json.loads(path.read_bytes())
        info["ecShardConfig"] |= fields
        path.write_text(json.dumps(info))

    return act


def move(*names: str) -> Callable[[Node], None]:
    """To the other disk."""

    def act(node: Node) -> None:
        for name in names:
            source = path_of(node, name)
            (other,) = (directory for directory in node.server.dirs if directory != source.parent)
            source.rename(other / name)

    return act


def test_rebuild(nodes: list[Node]) -> None:
    same(nodes, [rebuild(99), rebuild(99, collection="c")], 99)
    lost = remove("11.ec00", "11.ec05", "11.ec13")
    same(nodes, [*encoded(11), rebuild(11), rebuild(11, collection="c"), lost, rebuild(11), rebuild(11)], 11)
    same(nodes, [cut("11.ec03", 0), rebuild(11), change("11.ec04", b"wrong"), rebuild(11)], 11)
    same(nodes, [remove("11.ecsum"), rebuild(11), remove("11.ecsum", "11.ec01"), rebuild(11)], 11)
    same(nodes, [remove("11.ecx"), rebuild(11)], 11)
    assert count_rebuilds(nodes[0]) == count_rebuilds(nodes[1])


def count_rebuilds(node: Node) -> dict[str, float | None]:
    """As the node's metrics tell, by result."""
    (flag,) = [flag for flag in node.server.flags if flag.startswith("-metricsPort=")]
    metrics = scrape(int(flag.partition("=")[2]))
    total, seconds = f"{REBUILD}_total", f"{REBUILD}_seconds_count"
    found = {result: metrics.value(total, result=result) for result in ("success", "failure")}
    assert {result: metrics.value(seconds, result=result) for result in found} == found
    return found


def test_what_cannot_be_rebuilt(nodes: list[Node]) -> None:
    same(nodes, [*encoded(12), remove(*(f"12.ec{shard:02}" for shard in range(5))), rebuild(12)], 12)
    same(nodes, [*encoded(13), *(change(f"13.ec{shard:02}", b"wrong") for shard in range(5)), rebuild(13)], 13)
    same(nodes, [remove("13.ec09"), rebuild(13), rebuild(13, unsafe_ignore_sidecar=True)], 13)
    same(nodes, [*encoded(14), change("14.ecsum", b"XXXX"), rebuild(14)], 14)
    same(nodes, [remove("14.ec00"), rebuild(14, unsafe_ignore_sidecar=True)], 14)
    same(nodes, [*encoded(15), remove("15.ecsum", "15.ec02"), cut("15.ec01", 1000), rebuild(15)], 15)
    same(nodes, [configure("15.vif", blockSize="5"), rebuild(15), configure("15.vif", dataShards=0), rebuild(15)], 15)
    assert count_rebuilds(nodes[0]) == count_rebuilds(nodes[1])


def test_rebuild_over_two_disks(nodes: list[Node]) -> None:
    there = [f"16.ec{shard:02}" for shard in range(5)]
    same(nodes, [*encoded(16), move(*there), remove("16.ec00", "16.ec13"), rebuild(16)], 16)
    same(nodes, [cut("16.ec01", 0), change("16.ec02", b"wrong"), remove("16.ec12"), rebuild(16)], 16)


def test_decode(nodes: list[Node]) -> None:
    same(nodes, [decode(99), *encoded(21, deleted=[2]), decode(21)], 21)
    steps = [mount(21, *range(9)), decode(21), mount(21, 9), decode(21, collection="c"), decode(21)]
    same(nodes, [*steps, rpc("VolumeMount", 21), rpc("VolumeStatus", 21), rpc("VolumeSyncStatus", 21)], 21)
    same(nodes, [*encoded(22, 2, deleted=[1, 2]), mount(22, *range(14)), decode(22)], 22)
    same(nodes, [*encoded(23, collection="pics"), mount(23, *range(14), collection="pics")], 23, "pics")
    same(nodes, [decode(23, collection="pics"), unmount(23), decode(23, collection="pics")], 23, "pics")


def to_disk(number: int, *names: str) -> Callable[[Node], None]:
    """Move files there."""

    def act(node: Node) -> None:
        for name in names:
            path_of(node, name).rename(node.server.dirs[number] / name)

    return act


@pytest.mark.parametrize("index_disk", [0, 1])
def test_decode_from_two_disks(nodes: list[Node], index_disk: int) -> None:
    vid = 24 + index_disk
    names = [f"{vid}.ec{shard:02}" for shard in range(14)]
    split = [to_disk(index_disk, f"{vid}.ecx", f"{vid}.vif", *names[:5]), to_disk(1 - index_disk, *names[5:])]
    made = [*encoded(vid), *split, remove(f"{vid}.ecsum")]
    theirs, ours = (observe(node, [*made, mount(vid, *range(14)), decode(vid)], vid) for node in nodes)
    assert ours[-2] == theirs[-2] == {}
    # DEVIATE: the reference leaves `.dat` and `.idx` on different disks, where nothing finds them together.
    disk = path_of(nodes[1], f"{vid}.dat").parent
    assert path_of(nodes[1], f"{vid}.idx").parent == disk
    assert nodes[1].run(rpc("VolumeMount", vid)) == {}
    for key in range(1, 4):
        assert get(nodes[1].server.address, f"/{vid},{key:x}{COOKIE}").body == BYTES


def test_a_mounted_volume_takes_the_decoded_files_over(nodes: list[Node]) -> None:
    """What was acknowledged, before or afterwards, is still there when it is mounted again (R10)."""
    address = nodes[1].server.address
    for step in [*volume(27), generate(27), mount(27, *range(14)), Put(f"27,4{COOKIE}", b"after the encode")]:
        nodes[1].run(step)
    before = nodes[1].run(rpc("VolumeStatus", 27))
    assert nodes[1].run(decode(27)) == {}
    assert nodes[1].run(Put(f"27,5{COOKIE}", b"after the decode")) == 201
    for _ in range(2):
        assert get(address, f"/27,1{COOKIE}").body == BYTES
        assert get(address, f"/27,4{COOKIE}").body == b"after the encode", "although the shards do not have it"
        assert get(address, f"/27,5{COOKIE}").body == b"after the decode"
        nodes[1].run(unmount(27))
        assert nodes[1].run(rpc("VolumeUnmount", 27)) == {}
        assert nodes[1].run(rpc("VolumeMount", 27)) == {}
    assert int(before["fileCount"]) == 4
    assert int(nodes[1].run(rpc("VolumeStatus", 27))["fileCount"]) == 5


def test_what_is_deleted_beside_its_shards_stays_deleted_without_them(nodes: list[Node]) -> None:
    """A volume that was decoded is read before its shards, until they are removed. One that was encoded takes no
    deletions: it goes."""
    ours, address = nodes[1], nodes[1].server.address
    later = [Put(f"29,{key}{COOKIE}") for key in (6, 7, 8)]
    for step in [*volume(29, 5), generate(29), mount(29, *range(14)), *later]:
        ours.run(step)
    deleted = (1, 2, 4, 6, 7)
    assert request("DELETE", address, f"/29,1{COOKIE}").status == 202
    assert ours.run(batch_delete(f"29,2{COOKIE}"))["results"][0]["status"] == 202
    assert ours.run(rpc("VolumeEcBlobDelete", 29, file_key=4, version=3)) == {}, "another server has found it"
    assert request("DELETE", address, f"/29,6{COOKIE}").status == 202, "the shards do not have it"
    assert ours.run(batch_delete(f"29,7{COOKIE}"))["results"][0]["status"] == 202
    assert {key for key in range(1, 9) if get(address, f"/29,{key}{COOKIE}").status == 404} == set(deleted)
    ours.run(readonly(29))
    assert request("DELETE", address, f"/29,3{COOKIE}").status == 202
    ours.run(unmount(29))
    ours.run(delete(29, *range(14)))
    assert {key for key in range(1, 9) if get(address, f"/29,{key}{COOKIE}").status == 404} == set(deleted)


def status(node: Node, volume_id: int, keys: int) -> dict[int, int]:
    """What a client gets, by key from 1 on."""
    return {key: get(node.server.address, f"/{volume_id},{key}{COOKIE}").status for key in range(1, keys + 1)}


def test_a_volume_whose_encode_is_given_up_knows_what_was_deleted_meanwhile(nodes: list[Node]) -> None:
    """It was read-only: the deletions went to the shards. What was written anew before stays."""
    ours = nodes[1]
    for step in [*volume(30, 5), generate(30), mount(30, *range(14))]:
        ours.run(step)
    assert ours.run(batch_delete(f"30,3{COOKIE}"))["results"][0]["status"] == 202
    assert ours.run(Put(f"30,3{COOKIE}", b"anew")) == 201
    ours.run(readonly(30))
    assert request("DELETE", ours.server.address, f"/30,1{COOKIE}").status == 202
    assert ours.run(batch_delete(f"30,2{COOKIE}"))["results"][0]["status"] == 202
    expected = {1: 404, 2: 404, 3: 200, 4: 200, 5: 200}
    ours.run(unmount(30))
    assert ours.run(delete(30, full_teardown=True)) == {"fullTeardownDone": True}
    assert status(ours, 30, 5) == expected
    assert ours.run(rpc("VolumeStatus", 30))["isReadOnly"], "still"
    ours.run(rpc("VolumeMarkWritable", 30))
    for step in ("VolumeUnmount", "VolumeMount"):
        assert ours.run(rpc(step, 30)) == {}
    assert status(ours, 30, 5) == expected


def test_so_does_one_that_lies_unmounted_beside_its_shards(nodes: list[Node]) -> None:
    """As after a restart."""
    ours = nodes[1]
    for step in [*volume(32, 3), generate(32), mount(32, *range(14)), rpc("VolumeUnmount", 32)]:
        ours.run(step)
    assert request("DELETE", ours.server.address, f"/32,1{COOKIE}").status == 202
    assert ours.run(delete(32, full_teardown=True)) == {"fullTeardownDone": True}
    assert status(ours, 32, 3) == {1: 404, 2: 404, 3: 404}, "still unmounted"
    assert ours.run(rpc("VolumeMount", 32)) == {}
    assert status(ours, 32, 3) == {1: 404, 2: 200, 3: 200}


def test_what_is_deleted_between_a_decode_and_the_mount_stays_deleted(nodes: list[Node]) -> None:
    """Shards alone take deletions then, and are removed afterwards."""
    ours = nodes[1]
    observe(ours, [*encoded(31, 5), mount(31, *range(14)), batch_delete(f"31,1{COOKIE}")], 31)
    assert ours.run(decode(31)) == {}
    assert request("DELETE", ours.server.address, f"/31,2{COOKIE}").status == 202
    assert ours.run(rpc("VolumeMount", 31)) == {}
    expected = {1: 404, 2: 404, 3: 200, 4: 200, 5: 200}
    assert status(ours, 31, 5) == expected
    ours.run(unmount(31))
    ours.run(delete(31, *range(14)))
    assert ours.run(Put(f"31,2{COOKIE}", b"anew")) == 201
    for step in ("VolumeUnmount", "VolumeMount"):
        assert ours.run(rpc(step, 31)) == {}
    assert status(ours, 31, 5) == expected | {2: 200}


def test_staged_volumes(nodes: list[Node]) -> None:
    def adopt(**fields: Any) -> Call:
        return decode(28, from_staged=True, **fields)

    def stage(*extensions: str) -> Callable[[Node], None]:
        def act(node: Node) -> None:
            for extension in extensions:
                path_of(node, f"28{extension}").rename(node.server.dirs[0] / f"28{extension}.copying")

        return act

    steps = [adopt(), adopt(disk_type="ssd"), *volume(28), adopt(), rpc("VolumeUnmount", 28), stage(".dat")]
    steps += [adopt(disk_type="ssd"), adopt(), stage(".idx"), adopt(), stage(".vif"), adopt(), adopt()]
    same(nodes, steps, 28)
    assert get(nodes[1].server.address, f"/28,1{COOKIE}").body == BYTES
