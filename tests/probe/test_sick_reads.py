"""Shards on sectors that the disk cannot read, as clients and operators see them: objects are recovered, the log and
the metrics tell of the shard, and nothing is made up when too much is lost."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from tests.ec_files_kit import EcFiles
from tests.sick_kit import SickNode, laid
from tests.web import get

pytestmark = pytest.mark.probe

VOLUME = 7


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> EcFiles:
    return EcFiles(VOLUME, tmp_path_factory.mktemp("made") / "data").make(24)


@pytest.fixture(params=[True, False], ids=["lane", "falcon"])
def node(files: EcFiles, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SickNode]:
    started = laid(files, tmp_path, lane=request.param)
    with started:
        yield started


def meeting(files: EcFiles, shards: Collection[int], end: int) -> set[str]:
    """Objects of which something is in the first bytes of the shards."""
    return {
        fid for fid in files.objects if any(piece.shard in shards and piece.offset < end for piece in files.pieces(fid))
    }


def test_objects_on_one_sick_shard_after_the_other(files: EcFiles, node: SickNode) -> None:
    end = 200_000
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
