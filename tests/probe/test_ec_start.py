"""A node of four disks that finds shards spread over them in all ways, when it starts and when a disk comes back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster import Volumed
from tests.ec_sets import SHARDS, EncodedSet
from tests.grpc_kit import Call, Node
from tests.processes import wait_until
from tests.web import delete, get
from volumed.erasure.journal import decode_journal, encode_journal
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.probe

LIMIT_S = 60.0
HOUR_S = 3600
COOKIE = "00c0ffee"
NO_SIDECARS = ()

INDEX_ON_ONE, EMPTY_INDEX, NO_INDEX, PRUNED, OTHER_SOURCE, RECLAIMED, UNFINISHED, ARRIVED = range(21, 29)


class Rig(NamedTuple):
    files: EncodedSet
    dirs: list[Path]
    server: Volumed

    def mounted(self, volume_id: int) -> set[int]:
        """Ids of the shards that the node says it has."""
        with Node(self.server) as node:
            answer: Any = node.run(Call("VolumeEcShardsInfo", pb.VolumeEcShardsInfoRequest(volume_id=volume_id)))
        return set() if isinstance(answer, tuple) else {info.get("shardId", 0) for info in answer["ecShardInfos"]}

    def is_served(self, volume_id: int, *deleted: int) -> bool:
        """Whether all needles can be read, by any way there is, but for those that are deleted."""
        contents = self.files.volume.contents
        answers = {key: get(self.server.address, f"/{volume_id},{key:x}{COOKIE}") for key in contents}
        return all(
            answers[key].status == 404 if key in deleted else (answers[key].status, answers[key].body) == (200, data)
            for key, data in contents.items()
        )

    def names(self, volume_id: int, disk: int) -> set[str]:
        """Extensions of the volume's files in a data directory."""
        return {path.name.partition(".")[2] for path in self.dirs[disk].glob(f"{volume_id}.*")}


def lay_out(files: EncodedSet, dirs: list[Path]) -> None:
    first, second, third, fourth = dirs
    files.place(first, INDEX_ON_ONE, (0, 1))
    (first / f"{INDEX_ON_ONE}.ecj").write_bytes(encode_journal([7]))
    for directory, shard in ((second, 2), (third, 3), (fourth, 4)):
        files.place(directory, INDEX_ON_ONE, (shard,), NO_SIDECARS)

    files.place(first, EMPTY_INDEX, (0, 1), (".vif",))
    (first / f"{EMPTY_INDEX}.ecx").touch()
    files.place(third, EMPTY_INDEX, (2, 3, 4))

    for directory, shard in ((first, 0), (second, 1)):
        files.place(directory, NO_INDEX, (shard,), (".vif",))

    files.place_source(first, PRUNED)
    files.place(second, PRUNED, (0, 1))

    files.place_source(first, OTHER_SOURCE)
    with open(first / f"{OTHER_SOURCE}.dat", "ab") as dat:
        dat.write(bytes(8))
    files.place(second, OTHER_SOURCE, (0, 1))

    files.place_source(fourth, RECLAIMED)
    files.place(fourth, RECLAIMED, (0, 1), NO_SIDECARS)

    files.place_source(fourth, UNFINISHED)
    for name in ("ec00.encoding", "ec01.rebuilding", "ecx.mirror.tmp", "ec02", "ec03"):
        (fourth / f"{UNFINISHED}.{name}").touch()
    long_ago = time.time() - 2 * HOUR_S
    os.utime(fourth / f"{UNFINISHED}.ec02", (long_ago, long_ago))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    home = tmp_path_factory.mktemp("ec-start")
    files = EncodedSet(home / "set")
    dirs = [home / f"disk{number}" for number in range(4)]
    lay_out(files, dirs)
    with Volumed(home / "n", dirs=dirs) as server:
        yield Rig(files, dirs, server)


def test_everything_is_mounted_before_the_first_answer(rig: Rig) -> None:
    assert rig.mounted(INDEX_ON_ONE) == set(SHARDS)
    assert rig.mounted(EMPTY_INDEX) == set(SHARDS)
    assert rig.mounted(OTHER_SOURCE) == {0, 1}
    assert rig.mounted(NO_INDEX) == rig.mounted(PRUNED) == rig.mounted(RECLAIMED) == set()


def test_a_disk_without_index_and_journal_gets_its_own(rig: Rig) -> None:
    for disk in (1, 2, 3):
        assert {"ecx", "ecj", "vif"} <= rig.names(INDEX_ON_ONE, disk)
        assert (rig.dirs[disk] / f"{INDEX_ON_ONE}.ecx").read_bytes() == rig.files.content(".ecx")
        assert decode_journal((rig.dirs[disk] / f"{INDEX_ON_ONE}.ecj").read_bytes()) == [7]
    assert rig.is_served(INDEX_ON_ONE, 7)


def test_an_empty_index_is_replaced_by_the_real_one(rig: Rig) -> None:
    assert (rig.dirs[0] / f"{EMPTY_INDEX}.ecx").read_bytes() == rig.files.content(".ecx")
    assert rig.is_served(EMPTY_INDEX)


def test_shards_without_any_index_stay(rig: Rig) -> None:
    assert rig.names(NO_INDEX, 0) == {"ec00", "vif"}
    assert rig.names(NO_INDEX, 1) == {"ec01", "vif"}


def test_only_a_part_of_an_encode_whose_source_is_complete_goes(rig: Rig) -> None:
    assert rig.names(PRUNED, 1) == {"vif", "ecsum"}
    assert rig.names(OTHER_SOURCE, 1) == {"ec00", "ec01", "ecx", "ecj", "vif", "ecsum"}
    assert rig.is_served(PRUNED)
    assert f"removed {rig.dirs[1] / str(PRUNED)}.ec00: a part of an encode" in rig.server.log_path.read_text()


def test_what_was_not_finished_goes_and_the_volume_is_served(rig: Rig) -> None:
    assert rig.names(RECLAIMED, 3) == {"dat", "idx", "vif"}
    assert rig.names(UNFINISHED, 3) == {"dat", "idx", "vif", "ec03"}
    assert rig.is_served(RECLAIMED)
    assert rig.is_served(UNFINISHED)


def test_a_disk_that_comes_back_has_its_shards_again(rig: Rig) -> None:
    with Node(rig.server) as node:
        node.run(Call("VolumeEcShardsUnmount", pb.VolumeEcShardsUnmountRequest(volume_id=EMPTY_INDEX, shard_ids=[2])))
    killed = worker(rig.server)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: worker(rig.server) != killed, timeout_s=LIMIT_S, what="another worker")
    wait_until(lambda: rig.mounted(INDEX_ON_ONE) == set(SHARDS), timeout_s=LIMIT_S, what="all shards")
    wait_until(lambda: rig.is_served(INDEX_ON_ONE, 7), timeout_s=LIMIT_S, what="all needles")
    assert rig.mounted(EMPTY_INDEX) == set(SHARDS) - {2}, "what was unmounted on another disk stays so"


def worker(server: Volumed) -> int:
    """Of the first disk; OSError while there is none."""
    for pid in server.pids():
        if Path(f"/proc/{pid}/cmdline").read_text().startswith("volumed: disk 0"):
            return pid
    raise OSError("no worker")


def test_a_rescan_mounts_what_has_come(rig: Rig) -> None:
    rig.files.place(rig.dirs[2], ARRIVED)
    assert rig.mounted(ARRIVED) == set()
    rig.server.signal(signal.SIGHUP)
    wait_until(lambda: rig.mounted(ARRIVED) == set(SHARDS), timeout_s=LIMIT_S, what="the shards")
    assert rig.is_served(ARRIVED)


def test_a_deleted_volume_leaves_shards_what_they_need(rig: Rig) -> None:
    """Of the same id, with their index on another disk."""
    rig.files.place(rig.dirs[3], RECLAIMED, (0,), NO_SIDECARS)
    with Node(rig.server) as node:
        assert node.run(Call("VolumeDelete", pb.VolumeDeleteRequest(volume_id=RECLAIMED))) == {}
    assert rig.names(RECLAIMED, 3) == {"ec00", "vif"}


def test_all_is_there_after_a_restart(rig: Rig) -> None:
    assert delete(rig.server.address, f"{INDEX_ON_ONE},3{COOKIE}").status == 202
    rig.server.stop()
    rig.server.start()
    assert rig.mounted(INDEX_ON_ONE) == rig.mounted(EMPTY_INDEX) == set(SHARDS)
    assert rig.is_served(INDEX_ON_ONE, 3, 7)
    assert rig.is_served(EMPTY_INDEX)


def test_disks_share_an_index_directory(tmp_path: Path, rig: Rig) -> None:
    dirs, index = [tmp_path / "a", tmp_path / "b"], tmp_path / "index"
    rig.files.place(dirs[0], 9, (0, 1, 2), (".vif",))
    rig.files.place(dirs[1], 9, (3, 4), NO_SIDECARS)
    rig.files.place(index, 9, (), (".ecx",))
    with Volumed(tmp_path / "n", dirs=dirs, flags=[f"-dir.idx={index}"]) as server:
        here = rig._replace(dirs=dirs, server=server)
        assert here.mounted(9) == set(SHARDS)
        assert delete(server.address, f"9,5{COOKIE}").status == 202
        assert here.is_served(9, 5)
        assert decode_journal((index / "9.ecj").read_bytes()) == [5]
        assert here.names(9, 1) == {"ec03", "ec04", "vif"}
