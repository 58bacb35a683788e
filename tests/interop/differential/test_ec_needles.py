"""Needles of an erasure coded volume, asked of the reference and of both lanes of ours: over HTTP and over gRPC."""

from __future__ import annotations

import io
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.grpc_kit import Call, Node, allocate, batch_delete
from tests.interop.differential.kit import TS, ZIPPED, Case, delete, fid, form, get, head, manifest, post, put
from tests.interop.differential.servers import LANES, WithoutLane
from tests.interop.differential.wire import Answer, differences, exchange
from tests.processes import wait_until
from volumed.wire import master_pb2, master_pb2_grpc
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

VOLUME = 5
LIMIT_S = 60
SHARDS = range(14)
_BYTES = random.Random(5)
SIZES = (1, 17, 5_000, 200_000, 900_000, 1_048_576 - 30, 1_100_000, 3_000_000, 5_000_000)
NOISE = {size: _BYTES.randbytes(size) for size in SIZES}
SMALL, MIDDLE, LONG, NAMED, GZIPPED, EMPTY, PICTURE, CHUNKED, GONE, PAIRS, UNKNOWN, ODD = range(1, 13)
PAGED = ODD + len(NOISE) - 1
"""So long that we read it in pieces."""
MANIFEST = 99
GZIP = "Accept-Encoding: gzip"


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (10, 200, 30)).save(file, "PNG")
    return file.getvalue()


def stored() -> list[Case]:
    """What is in the volume before it is encoded."""
    chunks = [(fid(SMALL, VOLUME)[1:], 0, 5_000), (fid(MIDDLE, VOLUME)[1:], 5_000, 900_000)]
    whole = manifest(*chunks, name="whole.bin", mime="application/x-whole", size=905_000)
    name = ['Content-Disposition: form-data; name="f"; filename="f.bin"']
    text = ['Content-Disposition: form-data; name="f"; filename="text.txt"', "Content-Type: text/plain"]
    return [
        put("small", f"{fid(SMALL, VOLUME)}?{TS}", NOISE[5_000]),
        put("middle", f"{fid(MIDDLE, VOLUME)}?{TS}", NOISE[900_000]),
        put("long", f"{fid(LONG, VOLUME)}?{TS}", NOISE[3_000_000]),
        form("named", f"{fid(NAMED, VOLUME)}?{TS}", name, NOISE[17]),
        form("gzipped", f"{fid(GZIPPED, VOLUME)}?{TS}", [*text, "Content-Encoding: gzip"], ZIPPED),
        put("empty", f"{fid(EMPTY, VOLUME)}?{TS}", b""),
        put("picture", f"{fid(PICTURE, VOLUME)}?{TS}", picture(), "Content-Type: image/png"),
        put("chunked", f"{fid(CHUNKED, VOLUME)}?{TS}&cm=true", whole),
        put("another manifest", f"{fid(MANIFEST, VOLUME)}?cm=true", whole),
        put("gone", f"{fid(GONE, VOLUME)}?{TS}", NOISE[1]),
        put("pairs", f"{fid(PAIRS, VOLUME)}?{TS}&ttl=3m", NOISE[200_000], "Seaweed-Color: red"),
        *(put(f"long {key}", f"{fid(key, VOLUME)}?{TS}", data) for key, data in enumerate(NOISE.values(), ODD)),
        delete("gone", fid(GONE, VOLUME)),
    ]


def cases() -> list[Case]:
    """In this order, at every server."""
    small, middle, long, paged = (fid(key, VOLUME) for key in (SMALL, MIDDLE, LONG, PAGED))
    return [
        *(get(f"get {key}", fid(key, VOLUME)) for key in range(SMALL, ODD + len(NOISE))),
        *(head(f"head {key}", fid(key, VOLUME)) for key in range(SMALL, ODD)),
        get("wrong cookie", fid(SMALL, VOLUME, "aaaaaaab")),
        get("wrong cookie, long", fid(LONG, VOLUME, "aaaaaaab")),
        get("wrong cookie, empty", fid(EMPTY, VOLUME, "aaaaaaab")),
        get("deleted before", f"{fid(GONE, VOLUME)}?readDeleted=true"),
        get("range", small, "Range: bytes=5-9"),
        get("suffix", middle, "Range: bytes=-7"),
        get("two ranges", long, "Range: bytes=0-9,2999990-"),
        get("behind the end", small, "Range: bytes=6000-"),
        get("inside a long one", long, "Range: bytes=1048570-1048590"),
        get("not modified", small, "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"),
        get("another tag", small, 'If-None-Match: "00000000"'),
        head("paged", paged),
        get("wrong cookie, paged", fid(PAGED, VOLUME, "aaaaaaab")),
        get("inside a paged one", paged, "Range: bytes=4194290-4194310"),
        get("two ranges of a paged one", paged, "Range: bytes=0-9,4999990-"),
        get("behind the end of a paged one", paged, "Range: bytes=5000000-"),
        get("paged, not modified", paged, "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"),
        get("compressed", fid(GZIPPED, VOLUME), GZIP),
        get("not compressed", fid(GZIPPED, VOLUME)),
        get("name in the path", f"/{VOLUME}/{small.partition(',')[2]}/a.txt"),
        get("download", f"{fid(NAMED, VOLUME)}?dl=true"),
        get("smaller", f"{fid(PICTURE, VOLUME)}?width=10"),
        get("manifest as it is", f"{fid(CHUNKED, VOLUME)}?cm=false"),
        get("range of chunks", fid(CHUNKED, VOLUME), "Range: bytes=4990-5009"),
        post("write", fid(SMALL, VOLUME), b"other"),
        put("write, new key", fid(100, VOLUME), b"other"),
        delete("delete, wrong cookie", fid(SMALL, VOLUME, "aaaaaaab")),
        delete("delete, no cookie", fid(ODD + 4, VOLUME, "00000000")),
        get("deleted without a cookie", fid(ODD + 4, VOLUME)),
        delete("delete again, no cookie", fid(ODD + 4, VOLUME, "00000000")),
        delete("delete, unknown", fid(UNKNOWN, VOLUME)),
        delete("delete, gone before", fid(GONE, VOLUME)),
        delete("delete named", fid(NAMED, VOLUME)),
        delete("delete named again", fid(NAMED, VOLUME)),
        get("deleted", fid(NAMED, VOLUME)),
        get("deleted, readDeleted", f"{fid(NAMED, VOLUME)}?readDeleted=true"),
        delete("delete empty", fid(EMPTY, VOLUME)),
        get("deleted empty", fid(EMPTY, VOLUME)),
        delete("delete long", long),
        head("deleted long", long),
        delete("delete manifest", fid(CHUNKED, VOLUME)),
        get("chunk of a deleted manifest", small, GZIP),
    ]


def shard_read(**fields: Any) -> Call:
    return Call("VolumeEcShardRead", pb.VolumeEcShardReadRequest(**{"volume_id": VOLUME, "size": 40} | fields))


def blob_delete(key: int, volume_id: int = VOLUME) -> Call:
    return Call("VolumeEcBlobDelete", pb.VolumeEcBlobDeleteRequest(volume_id=volume_id, file_key=key, version=3))


def needle_status(key: int, volume_id: int = VOLUME) -> Call:
    return Call("VolumeNeedleStatus", pb.VolumeNeedleStatusRequest(volume_id=volume_id, needle_id=key))


def calls() -> dict[str, Call]:
    """After the `cases`."""
    wrong = fid(PAIRS, VOLUME, "aaaaaaab")[1:]
    pairs, picture_, middle = (fid(key, VOLUME)[1:] for key in (PAIRS, PICTURE, MIDDLE))
    more = [fid(ODD + index, VOLUME)[1:] for index in range(3)]
    return {
        "shard": shard_read(shard_id=0),
        "parity shard": shard_read(shard_id=13, offset=100),
        "end of a shard": shard_read(shard_id=1, offset=(1 << 20) - 10),
        "behind the end of a shard": shard_read(shard_id=1, offset=1 << 30),
        "nothing of a shard": shard_read(shard_id=1, size=0),
        "before a shard": shard_read(shard_id=1, offset=-1),
        "nothing before a shard": shard_read(shard_id=1, offset=-1, size=0),
        "as far as files go": shard_read(shard_id=1, offset=(1 << 63) - 41),
        "beyond all files": shard_read(shard_id=1, offset=(1 << 63) - 40),
        "beyond all files, much": shard_read(shard_id=1, offset=(1 << 63) - (2 << 20), size=(1 << 63) - 1),
        "no such shard": shard_read(shard_id=14),
        "shard of no volume": shard_read(volume_id=77),
        "shard of another run": shard_read(shard_id=0, encode_ts_ns=5),
        "for a deleted needle": shard_read(shard_id=0, file_key=NAMED),
        "for an unknown needle": shard_read(shard_id=0, file_key=UNKNOWN),
        "for a live needle": shard_read(shard_id=0, file_key=SMALL),
        "much of a shard": shard_read(shard_id=0, size=3 << 20),
        "status": needle_status(SMALL),
        "status of a long one": needle_status(PAGED),
        "status of a deleted one": needle_status(NAMED),
        "status of an unknown one": needle_status(UNKNOWN),
        "status of no volume": needle_status(SMALL, 77),
        "batch, not there": batch_delete("x", fid(UNKNOWN, VOLUME)[1:], fid(NAMED, VOLUME)[1:], wrong, "77,01aaaaaaaa"),
        "batch, not there, no check": batch_delete(fid(UNKNOWN, VOLUME)[1:], fid(NAMED, VOLUME)[1:], skip=True),
        "batch": batch_delete(pairs, picture_, pairs),
        "batch, manifest": batch_delete(fid(MANIFEST, VOLUME)[1:]),
        "batch, no check": batch_delete(wrong, middle, *more[:1], skip=True),
        "blob": blob_delete(ODD + 1),
        "blob again": blob_delete(ODD + 1),
        "blob, unknown": blob_delete(UNKNOWN),
        "blob of no volume": blob_delete(1, 77),
        "status of a blob that is gone": needle_status(ODD + 1),
    }


class Asked:
    """What a server has answered."""

    def __init__(self, server: VolumeServer) -> None:
        self.http: dict[str, list[Answer]] = {case.name: exchange(server.address, case) for case in cases()}
        with Node(server) as node:
            self.grpc = {name: node.run(call) for name, call in calls().items()}


def encode(home: Path) -> None:
    """Have the reference fill and encode the volume in ``home``."""
    with (
        Master(home / "m") as master,
        WeedVolume(home / "w", master=master, dirs=[home / "data"]) as weed,
        Node(weed) as node,
    ):
        node.run(allocate(VOLUME))
        for case in stored():
            (answer,) = exchange(weed.address, case)
            assert " 20" in answer.status, f"{case.name}: {answer}"
        node.stub.VolumeMarkReadonly(pb.VolumeMarkReadonlyRequest(volume_id=VOLUME), timeout=LIMIT_S)
        node.stub.VolumeEcShardsGenerate(pb.VolumeEcShardsGenerateRequest(volume_id=VOLUME), timeout=LIMIT_S)
    for extension in (".dat", ".idx"):
        (home / "data" / f"{VOLUME}{extension}").unlink()


def knows_all_shards(master: Master) -> bool:
    with grpc.insecure_channel(master.grpc_address) as channel:
        stub: Any = master_pb2_grpc.SeaweedStub(channel)
        try:
            found = stub.LookupEcVolume(master_pb2.LookupEcVolumeRequest(volume_id=VOLUME), timeout=LIMIT_S)
        except grpc.RpcError:
            return False
        return sum(1 for entry in found.shard_id_locations if entry.locations) == len(SHARDS)


def ask(kind: type[VolumeServer], home: Path, files: Path) -> Asked:
    data = home / "v" / "data"
    shutil.copytree(files, data, ignore=shutil.ignore_patterns("vol_dir.uuid"))
    with (
        Master(home / "m") as master,
        kind(home / "v", master=master, dirs=[data], flags=["-readMode=local"]) as server,
    ):
        with Node(server) as node:
            # Mounted by the start already: then it changes nothing.
            request = pb.VolumeEcShardsMountRequest(volume_id=VOLUME, shard_ids=SHARDS)
            node.stub.VolumeEcShardsMount(request, timeout=LIMIT_S)
        wait_until(lambda: knows_all_shards(master), timeout_s=LIMIT_S, what="the master knows the shards")
        return Asked(server)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Asked]]:
    home = tmp_path_factory.mktemp("ec")
    encode(home)
    kinds = {"reference": WeedVolume, "lane": Volumed, "framework": WithoutLane}
    with ThreadPoolExecutor(len(kinds)) as pool:
        running = {name: pool.submit(ask, kind, home / name, home / "data") for name, kind in kinds.items()}
        yield {name: future.result() for name, future in running.items()}


@pytest.mark.parametrize("lane", LANES)
def test_the_same_over_http(lane: str, answers: dict[str, Asked]) -> None:
    reference, ours = answers["reference"].http, answers[lane].http
    found = {name: differences(reference[name], ours[name]) for name in reference}
    assert {name: differs for name, differs in found.items() if differs} == {}


@pytest.mark.parametrize("lane", LANES)
def test_the_same_over_grpc(lane: str, answers: dict[str, Asked]) -> None:
    reference, ours = answers["reference"].grpc, answers[lane].grpc
    assert {name: (reference[name], ours[name]) for name in reference if reference[name] != ours[name]} == {}
