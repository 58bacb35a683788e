"""An erasure coded volume that the reference has made, as files to be laid where a test wants them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from tests.cluster import Master, VolumeServer, WeedVolume
from tests.grpc_kit import Node, allocate
from tests.processes import wait_until
from tests.web import get, upload
from volumed.erasure.code import DEFAULT_RATIO
from volumed.erasure.layout import Interval, Layout
from volumed.erasure.names import INDEX, shard_extension
from volumed.formats.idx import iter_rows
from volumed.formats.needle import record_length
from volumed.formats.vif import decode_vif
from volumed.wire import master_pb2, master_pb2_grpc
from volumed.wire import volume_server_pb2 as pb

__all__ = ["ALL_SHARDS", "EcFiles", "known_shards", "mount", "unmount", "wait_for_shards"]

ALL_SHARDS = tuple(range(14))
LIMIT_S = 60.0
_COOKIE = "637037d6"
_SIZES = (0, 1, 100, 5_000, 70_000, 300_000, 1_200_000, 4_500_000)


class EcFiles:
    """One volume. ``objects`` are the contents by file id."""

    def __init__(self, volume_id: int, directory: Path) -> None:
        self.id = volume_id
        self.directory = directory
        self.objects: dict[str, bytes] = {}

    def fid(self, key: int) -> str:
        """The file id of a key, from 1 on."""
        return f"{self.id},{key:x}{_COOKIE}"

    def make(self, count: int = 16) -> EcFiles:
        """Have the reference encode a volume of so many objects."""
        home = self.directory.parent
        source = random.Random(self.id)
        with (
            Master(home / "maker-m") as master,
            WeedVolume(home / "maker", master=master, dirs=[self.directory]) as weed,
            Node(weed) as node,
        ):
            node.run(allocate(self.id))
            for key in range(1, count + 1):
                data = self.objects[self.fid(key)] = source.randbytes(_SIZES[key % len(_SIZES)])
                assert upload(weed.address, self.fid(key), data).status == 201
            node.stub.VolumeMarkReadonly(pb.VolumeMarkReadonlyRequest(volume_id=self.id), timeout=LIMIT_S)
            node.stub.VolumeEcShardsGenerate(pb.VolumeEcShardsGenerateRequest(volume_id=self.id), timeout=LIMIT_S)
        return self

    def copied(self, volume_id: int, directory: Path) -> EcFiles:
        """The same as a volume of another id, in another directory."""
        copy = EcFiles(volume_id, directory)
        for path in self.directory.glob(f"{self.id}.*"):
            shutil.copy(path, copy.path(path.suffix))
        copy.objects = {copy.fid(key): data for key, data in enumerate(self.objects.values(), 1)}
        return copy

    def path(self, extension: str, directory: Path | None = None) -> Path:
        """Of one of the files, here or in another directory."""
        return (directory or self.directory) / f"{self.id}{extension}"

    def lay(self, directory: Path, shards: Collection[int]) -> None:
        """Put some shards into a directory, with the index and the sidecars."""
        for extension in (*map(shard_extension, shards), INDEX, ".vif"):
            shutil.copy(self.path(extension), directory)

    def pieces(self, fid: str) -> list[Interval]:
        """Where the record of an object lies."""
        info = decode_vif(self.path(".vif").read_bytes())
        layout = Layout.for_encoding(DEFAULT_RATIO, info.dat_file_size)
        wanted = int(fid.partition(",")[2].removesuffix(_COOKIE), 16)
        offset, size = next(row[1:] for row in iter_rows(self.path(INDEX).read_bytes()) if row[0] == wanted)
        return list(layout.intervals(offset, record_length(size, 3)))

    def with_first_shard(self, shards: Collection[int]) -> list[str]:
        """Objects whose record begins in one of the shards."""
        return [fid for fid in self.objects if self.pieces(fid)[0].shard in shards]

    def wrong_at(self, server: VolumeServer, fids: Sequence[str] = ()) -> dict[str, int]:
        """What a server does not tell rightly, with the statuses of its answers."""
        answers = {fid: get(server.address, f"/{fid}", timeout_s=LIMIT_S) for fid in fids or self.objects}
        return {
            fid: answer.status
            for fid, answer in answers.items()
            if answer.status != 200 or answer.body != self.objects[fid]
        }


def mount(node: Node, volume_id: int, shards: Collection[int] = ALL_SHARDS) -> None:
    """Mount shards whose files are there."""
    request = pb.VolumeEcShardsMountRequest(volume_id=volume_id, shard_ids=shards)
    node.stub.VolumeEcShardsMount(request, timeout=LIMIT_S)


def unmount(node: Node, volume_id: int, shards: Collection[int]) -> None:
    """Unmount shards."""
    request = pb.VolumeEcShardsUnmountRequest(volume_id=volume_id, shard_ids=shards)
    node.stub.VolumeEcShardsUnmount(request, timeout=LIMIT_S)


def known_shards(master: Master, volume_id: int) -> Mapping[int, set[str]]:
    """By id, the servers that have a shard as the master knows it."""
    with grpc.insecure_channel(master.grpc_address) as channel:
        stub: Any = master_pb2_grpc.SeaweedStub(channel)
        try:
            found = stub.LookupEcVolume(master_pb2.LookupEcVolumeRequest(volume_id=volume_id), timeout=LIMIT_S)
        except grpc.RpcError:
            return {}
    entries = {entry.shard_id: {location.url for location in entry.locations} for entry in found.shard_id_locations}
    return {shard: urls for shard, urls in entries.items() if urls}


def wait_for_shards(master: Master, volume_id: int, expected: Mapping[int, set[str]]) -> None:
    """Until the master knows just these."""
    wait_until(
        lambda: known_shards(master, volume_id) == expected, timeout_s=LIMIT_S, what="the master knows the shards"
    )
