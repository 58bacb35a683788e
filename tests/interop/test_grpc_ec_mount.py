"""VolumeEcShardsMount, Unmount and Info against ``weed volume`` and volumed: the same files, calls and answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Master, Volumed, WeedVolume
from tests.ec_files_kit import wait_for_shards
from tests.ec_sets import SHARDS, SIDECARS, EncodedSet
from tests.grpc_kit import Call, Node
from tests.processes import wait_until
from volumed.erasure.code import Ratio
from volumed.erasure.sidecar import decode_sidecar, encode_sidecar
from volumed.formats.vif import EcShardConfig, VolumeInfo, decode_vif, encode_vif
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

Place = Callable[[EncodedSet, Sequence[Path]], None]
"""Puts files into the three directories of a server."""


def mount(volume_id: int, *shards: int, collection: str = "", disk_type: str = "") -> Call:
    message = pb.VolumeEcShardsMountRequest(
        volume_id=volume_id, collection=collection, shard_ids=shards, source_disk_type=disk_type
    )
    return Call("VolumeEcShardsMount", message)


def unmount(volume_id: int, *shards: int, encode_ts_ns: int = 0) -> Call:
    message = pb.VolumeEcShardsUnmountRequest(volume_id=volume_id, shard_ids=shards, encode_ts_ns=encode_ts_ns)
    return Call("VolumeEcShardsUnmount", message)


def info(volume_id: int) -> Call:
    return Call("VolumeEcShardsInfo", pb.VolumeEcShardsInfoRequest(volume_id=volume_id))


def all_on_one(files: EncodedSet, dirs: Sequence[Path]) -> None:
    files.place(dirs[0], 501)


def index_on_one(files: EncodedSet, dirs: Sequence[Path]) -> None:
    files.place(dirs[0], 502, (0, 1))
    files.place(dirs[1], 502, (2, 3), ())
    files.place(dirs[2], 502, (4,), ())


def no_index(files: EncodedSet, dirs: Sequence[Path]) -> None:
    files.place(dirs[1], 503, SHARDS, (".vif",))


def empty_index(files: EncodedSet, dirs: Sequence[Path]) -> None:
    files.place(dirs[1], 504, SHARDS, (".vif",))
    (dirs[1] / "504.ecx").touch()


def empty_shards(files: EncodedSet, dirs: Sequence[Path]) -> None:
    files.place(dirs[0], 505, (2, 3))
    for directory in dirs[:2]:
        (directory / "505.ec00").touch()
    (dirs[0] / "505.ec01").touch()
    files.place(dirs[2], 505, (1,), ())


def with_info(name: int, content: bytes, sidecar: bytes | None = None) -> Place:
    def place(files: EncodedSet, dirs: Sequence[Path]) -> None:
        files.place(dirs[1], name, SHARDS, (".ecx",))
        if content:
            (dirs[1] / f"{name}.vif").write_bytes(content)
        if sidecar is not None:
            (dirs[1] / f"{name}.ecsum").write_bytes(sidecar)

    return place


def with_sidecar(name: int, **changes: Any) -> Place:
    def place(files: EncodedSet, dirs: Sequence[Path]) -> None:
        sidecar = replace(decode_sidecar(files.content(".ecsum")), **changes)
        with_info(name, b"", encode_sidecar(sidecar))(files, dirs)

    return place


def config(data: int, parity: int, block: int = 0) -> bytes:
    return encode_vif(VolumeInfo(version=3, ec_shard_config=EcShardConfig(data, parity, 5, block)))


def other_layout(files: EncodedSet, dirs: Sequence[Path]) -> None:
    files.place(dirs[0], 512)
    (dirs[0] / "512.vif").write_bytes(config(3, 2, 2 << 20))


def layout_of_the_sidecar(files: EncodedSet, dirs: Sequence[Path]) -> None:
    files.place(dirs[0], 513, SHARDS, (".ecx", ".ecsum"))


def in_a_collection(files: EncodedSet, dirs: Sequence[Path]) -> None:
    files.place(dirs[0], "pics_514")


def on_two_disks(files: EncodedSet, dirs: Sequence[Path]) -> None:
    files.place(dirs[0], 515, (0, 1, 2))
    files.place(dirs[1], 515, (2, 3, 4))


def one_index_is_empty(files: EncodedSet, dirs: Sequence[Path]) -> None:
    files.place(dirs[0], 516, (0, 1), (".vif",))
    (dirs[0] / "516.ecx").touch()
    files.place(dirs[1], 516, (2, 3, 4))


def journal_is_torn(files: EncodedSet, dirs: Sequence[Path]) -> None:
    files.place(dirs[0], 517)
    (dirs[0] / "517.ecj").write_bytes(bytes(7) + b"\x04" + b"torn")


def index_has_a_tail(files: EncodedSet, dirs: Sequence[Path]) -> None:
    files.place(dirs[0], 518)
    (dirs[0] / "518.ecx").write_bytes(files.content(".ecx") + b"xx")


STEPS: list[Call | Place] = [
    mount(501), mount(501, 0), info(501), unmount(501), unmount(501, 0),
    all_on_one, mount(501, 0, 1, 2, 3, 4), info(501), mount(501, 0), mount(501, 9), mount(501, 3, 9, 4), info(501),
    unmount(501, 0, 1, 9), info(501), unmount(501, *range(32)), info(501), mount(501, 2, disk_type="ssd"), info(501),
    mount(501, 3, collection="other"), info(501), unmount(501, 2), mount(501, 3, collection="other"), info(501),
    mount(501, 3), unmount(501, 3, encode_ts_ns=1), info(501), unmount(501, 3, encode_ts_ns=1 << 62), info(501),
    index_on_one, mount(502, 4), info(502), mount(502, 0, 1, 2, 3, 4, 5), info(502), unmount(502, 4, 0), info(502),
    no_index, mount(503, 0), mount(503, 9), info(503),
    empty_index, mount(504, 0, 1), info(504), unmount(504, 0, 1),
    empty_shards, mount(505, 2, 0), info(505), mount(505, 1), info(505),
    with_info(506, b"no json"), mount(506, 0), with_info(507, config(0, 2)), mount(507, 0),
    with_info(508, config(30, 3)), mount(508, 0), with_info(509, config(3, 2, 12345)), mount(509, 0),
    with_info(510, b"", b"wrong"), mount(510, 0), with_info(511, encode_vif(VolumeInfo(version=3)), b"long, but wrong"),
    mount(511, 0), other_layout, mount(512, 0), info(512), layout_of_the_sidecar, mount(513, 0, 1), info(513),
    in_a_collection, mount(514, 0), mount(514, 0, collection="pics"), info(514),
    on_two_disks, mount(515, 0, 1, 2, 3, 4), info(515), unmount(515, 2), info(515), unmount(515, 0, 1), info(515),
    one_index_is_empty, mount(516, 0, 1, 2, 3, 4), info(516), journal_is_torn, mount(517, 0), info(517),
    index_has_a_tail, mount(518, 0), info(518), with_info(519, b""), mount(519, 0), info(519),
    with_sidecar(521, generation=2), mount(521, 0), with_sidecar(522, ratio=None), mount(522, 0),
    with_sidecar(523, layout_block=7), mount(523, 0), with_sidecar(524, ratio=Ratio(5, 0)), mount(524, 0),
    with_info(520, encode_vif(VolumeInfo(version=3)), b""), mount(520, 0),
]  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Any], list[Any]]]:
    home = tmp_path_factory.mktemp("ecmount")
    files = EncodedSet(home / "set")
    assert set(SIDECARS) == {".ecx", ".vif", ".ecsum"}
    with ExitStack() as stack:
        master = stack.enter_context(Master(home / "m"))

        def run(kind: type[WeedVolume] | type[Volumed], name: str) -> list[Any]:
            dirs = [home / name / f"disk{number}" for number in range(3)]
            with kind(home / name, master=master, dirs=dirs) as server, Node(server) as node:
                return [node.run(step) if isinstance(step, Call) else step(files, dirs) for step in STEPS]

        yield run(WeedVolume, "w"), run(Volumed, "v")


@pytest.mark.parametrize("number", [n for n, step in enumerate(STEPS) if isinstance(step, Call)])
def test_both_answer_the_same(answers: tuple[list[Any], list[Any]], number: int) -> None:
    theirs, ours = (comparable(list_of_one[number]) for list_of_one in answers)
    assert ours == theirs, STEPS[number]


def comparable(answer: Any) -> Any:
    """Without what a parser of JSON says."""
    if not isinstance(answer, tuple):
        return answer
    return answer[0], re.sub(r"(load \S+\.vif: ).*", r"\1", answer[1])


def test_an_index_that_was_lost_comes_from_another_server(tmp_path: Path) -> None:
    files = EncodedSet(tmp_path / "set")
    trust = ["-volume.allowUntrustedRemoteEndpoints"]
    recover = Call("VolumeEcShardsMount", pb.VolumeEcShardsMountRequest(recover_missing_index=True))
    with Master(tmp_path / "m") as master:
        weed = WeedVolume(tmp_path / "w", master=master, flags=trust)
        ours = Volumed(tmp_path / "v", master=master, flags=trust, dirs=[tmp_path / "v0", tmp_path / "v1"])
        files.place(weed.dirs[0], 600, (0, 1, 2))
        files.place(ours.dirs[0], 600, (3,), ())
        files.place(ours.dirs[1], 600, (4,), ())
        with weed, ours, Node(ours) as node:
            assert node.run(info(600))[0] == "UNKNOWN"

            def has_recovered() -> bool:
                assert node.run(recover) == {}
                answer = node.run(info(600))
                return isinstance(answer, dict) and [shard["shardId"] for shard in answer["ecShardInfos"]] == [3, 4]

            # The master learns of their shards a moment after the server has started.
            wait_until(has_recovered, timeout_s=60, what="the index")
            assert (ours.dirs[1] / "600.ecx").read_bytes() == files.content(".ecx")


def test_no_index_of_another_encode_run_comes_here(tmp_path: Path) -> None:
    """As to a server that was away while the volume was encoded anew: its shards would be taken for the new ones."""
    files = EncodedSet(tmp_path / "set")
    trust = ["-volume.allowUntrustedRemoteEndpoints"]
    recover = Call("VolumeEcShardsMount", pb.VolumeEcShardsMountRequest(recover_missing_index=True))
    told = decode_vif(files.content(".vif"))
    assert told.ec_shard_config is not None
    older = replace(told, ec_shard_config=replace(told.ec_shard_config, encode_ts_ns=77))
    with Master(tmp_path / "m") as master:
        weed = WeedVolume(tmp_path / "w", master=master, flags=trust)
        ours = Volumed(tmp_path / "v", master=master, flags=trust)
        files.place(weed.dirs[0], 600, (0, 1, 2))
        files.place(ours.dirs[0], 600, (3,), ())
        (ours.dirs[0] / "600.vif").write_bytes(encode_vif(older))
        with weed, ours, Node(ours) as node:
            wait_for_shards(master, 600, {shard: {weed.address} for shard in (0, 1, 2)})
            assert node.run(recover) == {}
            assert node.run(info(600))[0] == "UNKNOWN"
            assert sorted(path.name for path in ours.dirs[0].glob("600.*")) == ["600.ec03", "600.vif"]
            assert (ours.dirs[0] / "600.vif").read_bytes() == encode_vif(older)
