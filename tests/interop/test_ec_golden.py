"""The reference's golden volumes through our RPCs, and volumes that go from the reference to ours and back."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Master, Volumed, WeedVolume
from tests.grpc_kit import Call, Node, Put, allocate, batch_delete
from tests.web import get
from volumed.formats.idx import is_live, iter_rows
from volumed.formats.needle import record_length
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

GOLDEN = Path(__file__).parents[1] / "corpus" / "golden" / "ec"
SETS = json.loads((GOLDEN / "manifest.json").read_text())["sets"]
NEW_SETS = [name for name in sorted(SETS) if SETS[name]["layout"] == "uniform"]
WIDTH, VERSION = 5, 3
COOKIE = "c0ffee11"
CONTENTS = {key: bytes([key]) * (key * 40_000) for key in range(1, 9)}
DELETED = (3, 6)


class Golden:
    """One set, and a server that has it."""

    def __init__(self, name: str, node: Node) -> None:
        self.facts = SETS[name]
        self.node = node
        self.volume_id = int(self.facts["volume_id"])
        self.collection = self.facts["collection"]
        self.base = f"{self.collection}_{self.volume_id}" if self.collection else str(self.volume_id)
        self.golden = GOLDEN / name / self.base
        self.home = node.server.dirs[0]

    def path(self, extension: str) -> Path:
        return self.home / (self.base + extension)

    def dat(self) -> bytes:
        plain = Path(f"{self.golden}.dat")
        return plain.read_bytes() if plain.exists() else gzip.decompress(Path(f"{plain}.gz").read_bytes())

    def put(self, *extensions: str) -> None:
        """Give the server some of the files."""
        for extension in extensions:
            if extension == ".dat":
                self.path(extension).write_bytes(self.dat())
            else:
                shutil.copy(f"{self.golden}{extension}", self.path(extension))

    def run(self, name: str, **fields: Any) -> Any:
        if "collection" in {field.name for field in getattr(pb, f"{name}Request").DESCRIPTOR.fields}:
            fields["collection"] = self.collection
        return self.node.run(Call(name, getattr(pb, f"{name}Request")(volume_id=self.volume_id, **fields)))

    @property
    def shards(self) -> range:
        return range(len(self.facts["shard_sha256"]))

    def hashes(self) -> list[str]:
        return [hashlib.sha256(self.path(f".ec{shard:02}").read_bytes()).hexdigest() for shard in self.shards]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    home = tmp_path_factory.mktemp("golden")
    with Master(home / "m") as master, Volumed(home / "v", master=master) as server, Node(server) as node:
        yield node


def records(dat: bytes, idx: bytes) -> dict[int, bytes]:
    """The live records by key."""
    last = {key: (offset, size) for key, offset, size in iter_rows(idx, WIDTH)}
    return {
        key: dat[offset : offset + record_length(size, VERSION)]
        for key, (offset, size) in last.items()
        if is_live(offset, size)
    }


@pytest.mark.parametrize("name", NEW_SETS)
def test_there_and_back(node: Node, name: str) -> None:
    """Encoded, with shards lost and made anew, and decoded, all by ours."""
    golden = Golden(name, node)
    golden.put(".dat", ".idx", ".vif")
    assert golden.run("VolumeMount") == {}
    assert golden.run("VolumeEcShardsGenerate") == {}
    assert golden.hashes() == golden.facts["shard_sha256"]
    assert golden.path(".ecx").read_bytes() == Path(f"{golden.golden}.ecx").read_bytes()
    assert golden.run("VolumeUnmount") == {}
    for extension in (".dat", ".idx"):
        golden.path(extension).unlink()
    decodes(golden)


def decodes(golden: Golden) -> None:
    """Every number of shards is lost once; then the volume is put together again."""
    for count in range(1, len(golden.shards) - golden.facts["data_shards"] + 1):
        lost = [shard * 3 % len(golden.shards) for shard in range(count)]
        for shard in lost:
            golden.path(f".ec{shard:02}").unlink()
        assert golden.run("VolumeEcShardsRebuild") == {"rebuiltShardIds": sorted(lost)}
        assert golden.hashes() == golden.facts["shard_sha256"]
    assert golden.run("VolumeEcShardsMount", shard_ids=golden.shards) == {}
    assert golden.run("VolumeEcShardsToVolume") == {}
    assert golden.run("VolumeMount") == {}
    before = records(golden.dat(), Path(f"{golden.golden}.ecx").read_bytes())
    after = records(golden.path(".dat").read_bytes(), golden.path(".idx").read_bytes())
    assert after == before
    assert golden.run("VolumeEcShardsUnmount", shard_ids=golden.shards) == {}
    assert golden.run("VolumeEcShardsDelete", full_teardown=True) == {"fullTeardownDone": True}
    assert not golden.path(".ecx").exists()
    assert golden.path(".vif").exists()


def test_the_layout_of_the_past(node: Node, tmp_path: Path) -> None:
    """Shards of 4.44 are rebuilt and decoded; they come from our own encoder, as all golden shards do."""
    from volumed.erasure.code import DEFAULT_RATIO
    from volumed.erasure.columns import Progress
    from volumed.erasure.encode import encode_shards
    from volumed.erasure.layout import Layout
    from volumed.storage.fileio import FileIO

    golden = Golden("legacy-multi", node)
    golden.put(".ecx", ".ecsum", ".vif")
    (tmp_path / "x.dat").write_bytes(golden.dat())
    layout = Layout(DEFAULT_RATIO, 0, golden.facts["dat_size"])
    shards = [str(golden.path(f".ec{shard:02}")) for shard in golden.shards]
    encode_shards(FileIO(), FileIO().open(str(tmp_path / "x.dat")), layout, shards, Progress())
    assert golden.hashes() == golden.facts["shard_sha256"]
    decodes(golden)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """The reference and ours."""
    home = tmp_path_factory.mktemp("pair")
    with (
        Master(home / "m") as one,
        Master(home / "n") as two,
        WeedVolume(home / "w", master=one) as weed,
        Volumed(home / "v", master=two) as ours,
        Node(weed) as theirs,
        Node(ours) as mine,
    ):
        yield theirs, mine


@pytest.mark.parametrize("by_weed", [True, False], ids=["from-reference", "to-reference"])
def test_shards_change_servers(pair: tuple[Node, Node], by_weed: bool) -> None:
    """One server encodes; the other one rebuilds, folds the journal, and decodes."""
    volume_id = 31 + by_weed
    source, target = pair if by_weed else pair[::-1]
    for step in [allocate(volume_id), *(Put(f"{volume_id},{key:x}{COOKIE}", body) for key, body in CONTENTS.items())]:
        source.run(step)
    source.run(batch_delete(f"{volume_id},{DELETED[0]:x}{COOKIE}"))

    def run(node: Node, name: str, **fields: Any) -> Any:
        return node.run(Call(name, getattr(pb, f"{name}Request")(volume_id=volume_id, **fields)))

    assert run(source, "VolumeEcShardsGenerate") == {}
    for path in source.server.dirs[0].glob(f"{volume_id}.*"):
        if path.suffix not in (".dat", ".idx", ".ec01", ".ec07", ".ec12"):
            shutil.copy(path, target.server.dirs[0])
    (target.server.dirs[0] / f"{volume_id}.ecj").write_bytes(DELETED[1].to_bytes(8, "big"))
    assert run(target, "VolumeEcShardsRebuild") == {"rebuiltShardIds": [1, 7, 12]}
    assert run(target, "VolumeEcShardsMount", shard_ids=range(14)) == {}
    assert run(target, "VolumeEcShardsToVolume") == {}
    assert run(target, "VolumeMount") == {}
    for key, body in CONTENTS.items():
        answer = get(target.server.address, f"/{volume_id},{key:x}{COOKIE}")
        assert answer.status == (404 if key in DELETED else 200)
        assert key in DELETED or answer.body == body
