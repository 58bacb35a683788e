"""Volumes that the real server encodes and ours decodes, and the other way round."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.cluster import Master, WeedVolume
from tests.ec_files_kit import wait_for_shards
from tests.web import delete, get, upload
from volumed.erasure.code import DEFAULT_RATIO
from volumed.erasure.columns import Progress
from volumed.erasure.decode import decode_layout, write_dat
from volumed.erasure.encode import encode_volume
from volumed.erasure.geometry import FoundFile, Geometry, resolve_geometry
from volumed.erasure.index import find_row, live_bytes
from volumed.erasure.names import INDEX, JOURNAL, SIDECAR, shard_extension
from volumed.erasure.read import EcSource, answered, read_needle
from volumed.erasure.rebuild import rebuild_shards
from volumed.erasure.scrub import check_shards
from volumed.erasure.sidecar import decode_sidecar
from volumed.formats.idx import is_live
from volumed.formats.vif import decode_vif
from volumed.storage.ec_journal import fold_at, read_journals
from volumed.storage.fileio import File, FileIO
from volumed.storage.site import VolumePaths
from volumed.wire import volume_server_pb2 as pb
from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

pytestmark = pytest.mark.interop

VOLUME = 5
COOKIE = "c0ffee11"
DELETED = (4, 9)
WIDTH = 5
FILES = FileIO()
SHARDS = range(DEFAULT_RATIO.total)
_BYTES = random.Random(5)
CONTENTS = {key: _BYTES.randbytes(_BYTES.choice((0, 10, 5_000, 900_000, 3_000_000))) for key in range(1, 31)}


class Reference:
    """The real server, its data directory and its gRPC interface."""

    def __init__(self, server: WeedVolume) -> None:
        self.server = server
        self.data = server.dirs[0]
        self.channel = grpc.insecure_channel(server.grpc_address)
        self.stub = VolumeServerStub(self.channel)

    def paths(self) -> VolumePaths:
        return VolumePaths(str(self.data), str(self.data), str(VOLUME))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    home = tmp_path_factory.mktemp("ec")
    with Master(home / "m") as master, WeedVolume(home / "v", master=master) as server:
        found = Reference(server)
        found.stub.AllocateVolume(pb.AllocateVolumeRequest(volume_id=VOLUME, replication="000", version=3))
        for key, content in CONTENTS.items():
            assert upload(server.address, f"{VOLUME},{key:x}{COOKIE}", content).status == 201
        for key in DELETED:
            assert delete(server.address, f"{VOLUME},{key:x}{COOKIE}").status == 202
        found.stub.VolumeMarkReadonly(pb.VolumeMarkReadonlyRequest(volume_id=VOLUME))
        yield found
        found.channel.close()


def encode_here(reference: Reference, home: Path) -> VolumePaths:
    """Our encode of the reference's volume in a directory of its own."""
    home.mkdir()
    paths = VolumePaths(str(home), str(home), str(VOLUME))
    theirs = reference.paths()
    for extension in (".dat", ".idx"):
        shutil.copy(theirs.data(extension), paths.data(extension))
    dat, idx = FILES.open(paths.data(".dat")), FILES.open(paths.index(".idx"))
    encode_volume(
        FILES, paths, dat, idx, ratio=DEFAULT_RATIO, offset_width=WIDTH, now_ns=1_800_000_000 * 10**9,
        progress=Progress(),
    )  # fmt: skip
    return paths


def opened(paths: VolumePaths) -> dict[int, File]:
    return {shard: FILES.open(paths.data(shard_extension(shard))) for shard in SHARDS}


def geometry_of(paths: VolumePaths) -> Geometry:
    return resolve_geometry(FoundFile("vif", Path(paths.data(".vif")).read_bytes()), None)


def content(paths: VolumePaths, extension: str) -> bytes:
    return Path(paths.data(extension)).read_bytes()


def test_both_encode_to_the_same_bytes(reference: Reference, tmp_path: Path) -> None:
    ours = encode_here(reference, tmp_path / "ours")
    reference.stub.VolumeEcShardsGenerate(pb.VolumeEcShardsGenerateRequest(volume_id=VOLUME), timeout=60)
    theirs = reference.paths()
    for extension in (*map(shard_extension, SHARDS), INDEX):
        assert content(ours, extension) == content(theirs, extension), extension
    assert decode_sidecar(content(ours, SIDECAR)).shards == decode_sidecar(content(theirs, SIDECAR)).shards
    assert geometry_of(ours)._replace(encode_ts_ns=0) == geometry_of(theirs)._replace(encode_ts_ns=0)
    assert decode_vif(content(theirs, ".vif")).version == decode_vif(content(ours, ".vif")).version


def test_theirs_is_read_rebuilt_and_decoded_here(reference: Reference, tmp_path: Path) -> None:
    reference.stub.VolumeEcShardsGenerate(pb.VolumeEcShardsGenerateRequest(volume_id=VOLUME), timeout=60)
    home = tmp_path / "copy"
    shutil.copytree(reference.data, home)
    paths = VolumePaths(str(home), str(home), str(VOLUME))
    geometry, shards, ecx = geometry_of(paths), opened(paths), FILES.open(paths.index(INDEX))
    sidecar = decode_sidecar(content(paths, SIDECAR))
    assert check_shards(FILES, sidecar, shards, Progress()) == {}

    layout = geometry.layout(FILES.size(shards[0]))
    source = EcSource(VOLUME, 3, layout)
    for key, data in CONTENTS.items():
        row = find_row(FILES, ecx, key, WIDTH)
        assert (row is None) == (key in DELETED)
        if row is not None:
            reading = read_needle(source, row)
            found = answered(
                reading, lambda at: None if at.shard < 4 else FILES.read_at(shards[at.shard], at.offset, at.length)
            )
            assert found.needle.data == data

    before = {shard: content(paths, shard_extension(shard)) for shard in SHARDS}
    targets = {shard: paths.data(shard_extension(shard)) for shard in SHARDS}
    left = {shard: file for shard, file in shards.items() if shard not in (0, 3, 11, 13)}
    assert rebuild_shards(FILES, "5", geometry.ratio, left, targets, sidecar, Progress()).made == [0, 3, 11, 13]
    assert {shard: content(paths, shard_extension(shard)) for shard in SHARDS} == before

    live = live_bytes(FILES, ecx, WIDTH, 3)
    assert live
    dat = str(tmp_path / "x.dat")
    layout = decode_layout(geometry, FILES.size(shards[0]), live, "5")
    write_dat(FILES, layout, [shards[shard] for shard in range(layout.ratio.data)], dat, live, Progress())
    assert Path(dat).read_bytes() == content(paths, ".dat")[:live]


def test_ours_is_served_rebuilt_and_decoded_by_the_reference(reference: Reference, tmp_path: Path) -> None:
    """The real server starts on our files alone, serves and deletes, loses shards, and makes a volume of them again."""
    ours = encode_here(reference, tmp_path / "ours")
    before = {shard: content(ours, shard_extension(shard)) for shard in SHARDS}
    for extension in (".dat", ".idx"):
        Path(ours.data(extension)).unlink()
    for shard in (0, 7, 12):
        Path(ours.data(shard_extension(shard))).unlink()
    with (
        Master(tmp_path / "m") as master,
        WeedVolume(tmp_path / "v", master=master, dirs=[tmp_path / "ours"]) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        stub = VolumeServerStub(channel)
        rebuilt = stub.VolumeEcShardsRebuild(pb.VolumeEcShardsRebuildRequest(volume_id=VOLUME), timeout=60)
        assert list(rebuilt.rebuilt_shard_ids) == [0, 7, 12]
        assert {shard: content(ours, shard_extension(shard)) for shard in SHARDS} == before
        # A rebuild takes the journal away from under the mounted volume (rule R2): it has to be opened again.
        stub.VolumeEcShardsUnmount(pb.VolumeEcShardsUnmountRequest(volume_id=VOLUME, shard_ids=SHARDS))
        stub.VolumeEcShardsMount(pb.VolumeEcShardsMountRequest(volume_id=VOLUME, shard_ids=SHARDS))
        # Before anything is read: the reference asks the master for its own shards, too, and believes it for minutes.
        wait_for_shards(master, VOLUME, {shard: {server.address} for shard in SHARDS})
        for key, data in CONTENTS.items():
            answer = get(server.address, f"/{VOLUME},{key:x}{COOKIE}")
            assert answer.status == (404 if key in DELETED else 200)
            assert key in DELETED or answer.body == data
        scrub = stub.ScrubEcVolume(pb.ScrubEcVolumeRequest(mode=4, volume_ids=[VOLUME]), timeout=60)
        assert (scrub.total_volumes, list(scrub.broken_volume_ids), list(scrub.details)) == (1, [], [])

        assert delete(server.address, f"{VOLUME},2{COOKIE}").status == 202
        assert read_journals(FILES, ours) == {2}
        paths = VolumePaths(str(tmp_path), str(tmp_path), "folded")
        folded = Path(paths.index(INDEX))
        for extension in (INDEX, JOURNAL):
            shutil.copy(ours.index(extension), paths.index(extension))
        fold_at(FILES, paths, WIDTH)
        stub.VolumeEcShardsToVolume(pb.VolumeEcShardsToVolumeRequest(volume_id=VOLUME), timeout=60)
        assert content(ours, INDEX) == folded.read_bytes()
        stub.VolumeMount(pb.VolumeMountRequest(volume_id=VOLUME))
        for key, data in CONTENTS.items():
            row = find_row(FILES, FILES.open(str(folded)), key, WIDTH)
            answer = get(server.address, f"/{VOLUME},{key:x}{COOKIE}")
            assert answer.status == (200 if row is not None and is_live(*row[1:]) else 404)
            assert answer.status == 404 or answer.body == data
