"""Shards on sectors that the disk cannot read, as clients and operators see them: objects are recovered, the log and
the metrics tell of the shard, and nothing is made up when too much is lost."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from tests.ec_files_kit import EcFiles, mount, unmount
from tests.grpc_kit import Call, Node
from tests.processes import wait_until
from tests.sick_kit import LIMIT_S, SickNode, laid
from tests.web import get
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.probe

VOLUME = 7
READS = 1000
LINES_MAX = 10
"""One for each of two fronts; where a thousand reads take longer than a minute, a few more."""
PREFIX = "SeaweedFS_volumeServer_"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> EcFiles:
    return EcFiles(VOLUME, tmp_path_factory.mktemp("made") / "data").make(24)


def meeting(files: EcFiles, shards: Collection[int], end: int) -> set[str]:
    """Objects of which something is in the first bytes of the shards."""
    return {
        fid for fid in files.objects if any(piece.shard in shards and piece.offset < end for piece in files.pieces(fid))
    }


def complaints(node: SickNode, shard: int) -> list[str]:
    """What the HTTP fronts have logged of a shard."""
    return re.findall(rf"^ERROR \S+ http (.* shard {VOLUME}\.{shard} .*)$", node.log_path.read_text(), re.MULTILINE)


def sick_shards(node: SickNode) -> float | None:
    return node.metrics().value(PREFIX + "io_quarantine", kind="ec_shard")


def await_sick_shards(node: SickNode, count: int) -> None:
    """A worker says it once a second."""
    wait_until(lambda: sick_shards(node) == count, timeout_s=LIMIT_S, what=f"{count} sick shards in the metrics")


@pytest.mark.parametrize("lane", [True, False], ids=["lane", "falcon"])
def test_objects_of_one_sick_shard_after_the_other(files: EcFiles, tmp_path: Path, lane: bool) -> None:
    with laid(files, tmp_path, lane=lane) as node:
        lose_one_after_the_other(files, node)


def lose_one_after_the_other(files: EcFiles, node: SickNode) -> None:
    end = 2_000
    assert not files.wrong_at(node)
    for shard in range(4):
        node.spoil(node.shard_path(files, shard), end=end)
        assert not files.wrong_at(node), f"shards 0 to {shard}"
    node.spoil(node.shard_path(files, 4), end=end)
    lost = meeting(files, range(5), end)
    assert 0 < len(lost) < len(files.objects)
    assert files.wrong_at(node) == dict.fromkeys(lost, 500), "what is well of the shards is read"
    assert get(node.address, f"/{min(lost)}").body == b""
    node.heal()
    assert not files.wrong_at(node), "nobody waits for the end of a pause when nothing else helps"


def test_operators_are_told_of_a_sick_shard_not_of_every_read(files: EcFiles, tmp_path: Path) -> None:
    with laid(files, tmp_path) as node:
        assert sick_shards(node) == 0
        read_often(files, node)


def read_often(files: EcFiles, node: SickNode) -> None:
    path = node.shard_path(files, 0)
    node.spoil(path)
    small = [fid for fid in files.with_first_shard([0]) if len(files.objects[fid]) < 10_000]
    for number in range(READS):
        fid = small[number % len(small)]
        assert get(node.address, f"/{fid}").body == files.objects[fid]
    await_sick_shards(node, 1)
    told = re.compile(
        rf"cannot read byte \d+ of shard {VOLUME}\.0 on disk 0, {path}: input/output error; it is left aside for \d+ s"
    )
    found = complaints(node, 0)
    assert 1 <= len(found) < LINES_MAX
    assert all(map(told.fullmatch, found)), found
    assert len(found) <= (node.metrics().value(PREFIX + "storage_io_error_total") or 0) < READS


def test_a_shard_that_can_be_read_again_is_used_again(files: EcFiles, tmp_path: Path) -> None:
    (fid, *_) = files.with_first_shard([0])
    with laid(files, tmp_path, pause_s=0.01) as node, Node(node) as called:

        def is_read(shard: int) -> bool:
            """Whether a read finds out that it is well."""
            assert get(node.address, f"/{fid}").body == files.objects[fid]
            return f"shard {VOLUME}.{shard} on disk 0, {path}, can be read again" in node.log_path.read_text()

        path = node.shard_path(files, 0)
        node.spoil(path)
        assert not is_read(0)
        await_sick_shards(node, 1)
        node.heal()
        wait_until(lambda: is_read(0), timeout_s=LIMIT_S, what="the shard is read again")
        assert sick_shards(node) == 1, "it may happen again: somebody should look at the disk"

        unmount(called, VOLUME, [0])
        mount(called, VOLUME, [0])
        await_sick_shards(node, 0)
        node.spoil(*(node.shard_path(files, shard) for shard in range(10, 14)))
        assert not files.wrong_at(node), "of the data shards none can be done without"


MODES = {
    "LOCAL": "failed to read chunk 3/3 for needle 7 from local shard 2 at offset 0: input/output error",
    "FULL": "failed to read EC shard 2 for needle 7 on volume 7 (interval 3/3): input/output error",
    "READS": "",
    "CHECKSUM": "ec volume 7 shard 2: read failed: Input/output error",
}
"""What each says first of a shard of which the first bytes cannot be read."""


def test_scrubs_name_a_sick_shard(files: EcFiles, tmp_path: Path) -> None:
    with laid(files, tmp_path) as node, Node(node) as called:
        path = node.shard_path(files, 2)
        node.spoil(path, end=10_000)
        for number, (mode, text) in enumerate(MODES.items()):
            request = pb.ScrubEcVolumeRequest(mode=mode, volume_ids=[VOLUME])
            found: Any = called.run(Call("ScrubEcVolume", request))
            assert found["brokenVolumeIds"] == [VOLUME], mode
            assert [info["shardId"] for info in found["brokenShardInfos"]] == [2], mode
            assert found.get("details", [""])[0] == text, mode
            if not number:
                await_sick_shards(node, 1)
        assert f"of shard {VOLUME}.2 on disk 2, {path}: input/output error" in node.log_path.read_text()
        node.heal()
        for mode in MODES:
            request = pb.ScrubEcVolumeRequest(mode=mode, volume_ids=[VOLUME])
            assert "brokenVolumeIds" not in called.run(Call("ScrubEcVolume", request)), mode
