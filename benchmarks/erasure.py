"""``python -m benchmarks.erasure``: a volume is encoded, rebuilt, checked and decoded by the reference and by us.

Both work on the same volume in turns; ours in this process, since what is compared is the work on the files. The
multipliers alone are measured in memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import grpc

from benchmarks.cpu import CpuMeter
from benchmarks.vacuum import VOLUME_ID, make_volume
from tests.cluster import Master, WeedVolume
from volumed.erasure.code import DEFAULT_RATIO, ErasureCode
from volumed.erasure.columns import Progress
from volumed.erasure.decode import decode_layout, write_dat, write_idx
from volumed.erasure.encode import Encoded, encode_volume
from volumed.erasure.index import live_bytes
from volumed.erasure.multiply import NumpyProduct, multiplier
from volumed.erasure.names import INDEX, shard_extension
from volumed.erasure.rebuild import rebuild_shards
from volumed.erasure.scrub import check_shards
from volumed.storage.fileio import File, FileIO
from volumed.storage.site import VolumePaths
from volumed.wire import volume_server_pb2 as pb
from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

__all__ = ["main"]

WIDTH = 5
TIMEOUT_S = 600.0
COLUMN = 256 << 10
LOST = {"four lost": (0, 1, 2, 3), "one lost": (5,)}
FILES = FileIO()

Times = dict[str, list[tuple[float, float]]]
"""(seconds, CPU seconds) of every run of a job."""


class Ours:
    """Our functions, on a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.paths = VolumePaths(str(directory), str(directory), str(VOLUME_ID))
        self.encoded: Encoded | None = None

    def encode(self) -> None:
        for extension in (INDEX, *map(shard_extension, range(DEFAULT_RATIO.total))):
            FILES.remove(self.paths.data(extension))
        dat, idx = FILES.open(self.paths.data(".dat")), FILES.open(self.paths.index(".idx"))
        self.encoded = encode_volume(
            FILES, self.paths, dat, idx, ratio=DEFAULT_RATIO, offset_width=WIDTH, now_ns=time.time_ns(),
            progress=Progress(),
        )  # fmt: skip

    def rebuild(self) -> None:
        assert self.encoded is not None
        targets = {shard: self.paths.data(shard_extension(shard)) for shard in range(DEFAULT_RATIO.total)}
        rebuild_shards(FILES, "", DEFAULT_RATIO, self.shards(), targets, self.encoded.sidecar, Progress())

    def scrub(self) -> None:
        assert self.encoded is not None
        check_shards(FILES, self.encoded.sidecar, self.shards(), Progress())

    def decode(self) -> None:
        assert self.encoded is not None
        shards, ecx = self.shards(), FILES.open(self.paths.index(INDEX))
        live = live_bytes(FILES, ecx, WIDTH, 3) or 0
        layout = decode_layout(self.encoded.geometry, FILES.size(shards[0]), live, "")
        data = [shards[shard] for shard in range(DEFAULT_RATIO.data)]
        write_dat(FILES, layout, data, self.paths.data(".decoded"), live, Progress())
        write_idx(FILES, ecx, [], self.paths.index(".decoded.idx"), WIDTH)

    def shards(self) -> dict[int, File]:
        paths = {shard: self.paths.data(shard_extension(shard)) for shard in range(DEFAULT_RATIO.total)}
        return {shard: FILES.open(path) for shard, path in paths.items() if os.path.exists(path)}


class Theirs:
    """The reference's RPCs."""

    def __init__(self, stub: VolumeServerStub, directory: Path) -> None:
        self.stub = stub
        self.paths = VolumePaths(str(directory), str(directory), str(VOLUME_ID))

    def encode(self) -> None:
        self.stub.VolumeEcShardsGenerate(pb.VolumeEcShardsGenerateRequest(volume_id=VOLUME_ID), timeout=TIMEOUT_S)

    def rebuild(self) -> None:
        self.stub.VolumeEcShardsRebuild(pb.VolumeEcShardsRebuildRequest(volume_id=VOLUME_ID), timeout=TIMEOUT_S)

    def scrub(self) -> None:
        self.stub.ScrubEcVolume(pb.ScrubEcVolumeRequest(mode="CHECKSUM", volume_ids=[VOLUME_ID]), timeout=TIMEOUT_S)

    def decode(self) -> None:
        self.stub.VolumeEcShardsToVolume(pb.VolumeEcShardsToVolumeRequest(volume_id=VOLUME_ID), timeout=TIMEOUT_S)

    def mount(self) -> None:
        shards = range(DEFAULT_RATIO.total)
        self.stub.VolumeEcShardsMount(pb.VolumeEcShardsMountRequest(volume_id=VOLUME_ID, shard_ids=shards))


def compare(home: Path, needles: int, rounds: int) -> tuple[int, Times, Times]:
    """Length of the `.dat`, times of the reference, our times."""
    data, own = home / "data", home / "ours"
    size = make_volume(data, needles)
    own.mkdir()
    for extension in (".dat", ".idx"):
        os.link(data / f"{VOLUME_ID}{extension}", own / f"{VOLUME_ID}{extension}")
    with (
        Master(home / "m", volume_size_limit_mb=30_000) as master,
        WeedVolume(home / "s", master=master, dirs=[data]) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        theirs, ours = Theirs(VolumeServerStub(channel), data), Ours(own)
        theirs.stub.VolumeMarkReadonly(pb.VolumeMarkReadonlyRequest(volume_id=VOLUME_ID))
        results: tuple[Times, Times] = ({}, {})

        def measure(job: str, act: Callable[[Theirs | Ours], None], lost: Iterable[int] = ()) -> None:
            for side, pids, times in ((theirs, server.pids(), results[0]), (ours, [os.getpid()], results[1])):
                for shard in lost:
                    os.unlink(side.paths.data(shard_extension(shard)))
                os.sync()
                meter = CpuMeter(pids)
                began = time.perf_counter()
                act(side)
                times.setdefault(job, []).append((time.perf_counter() - began, meter.seconds(pids)))

        for _ in range(rounds):
            measure("encode", lambda side: side.encode())
            for what, lost in LOST.items():
                measure(f"rebuild, {what}", lambda side: side.rebuild(), lost)
        theirs.mount()
        for _ in range(rounds):
            measure("checksum scrub", lambda side: side.scrub())
        # Once: the reference leaves another volume. It also compacts it, which ours does not do here.
        measure("decode", lambda side: side.decode())
    return size, *results


def multiplier_speeds() -> list[str]:
    """Lines about GB/s of data in memory, 10+4 on one thread."""
    lines = []
    data = [os.urandom(COLUMN) for _ in range(DEFAULT_RATIO.data)]
    parity = [bytearray(COLUMN) for _ in range(DEFAULT_RATIO.parity)]
    for engine in (multiplier(), NumpyProduct()):
        code = ErasureCode(DEFAULT_RATIO, engine)
        count, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < 1.0:
            code.encode(data, parity)
            count += 1
        lines.append(f"{engine.name.split()[0]}: {count * COLUMN * DEFAULT_RATIO.data / took / 1e9:.1f} GB/s")
    return lines


HEAD = """| Work | weed: s | volumed: s | ratio | weed: CPU s | volumed: CPU s | ratio |
|---|--:|--:|--:|--:|--:|--:|"""


def table(theirs: Times, ours: Times) -> list[str]:
    """Medians, and how many times faster, or cheaper, ours is."""
    lines = [HEAD]
    for job in theirs:
        wall, cpu = ([statistics.median(run[part] for run in side[job]) for side in (theirs, ours)] for part in (0, 1))
        columns = [f"{value:.2f}" for value in (*wall, wall[0] / wall[1], *cpu, cpu[0] / max(cpu[1], 0.01))]
        lines.append(f"| {job} | {' | '.join(columns)} |")
    return lines


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Compare erasure coding of the reference with ours.")
    parser.add_argument("--needles", type=int, default=1_000_000, help="of about 1 KB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--home", help="where to work; a directory in memory leaves the disk out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="volumed-ec-", dir=options.home) as home:
        size, theirs, ours = compare(Path(home), options.needles, options.rounds)
    sys.stdout.write("\n".join([f"{size / 1e6:.0f} MB", *table(theirs, ours), *multiplier_speeds()]) + "\n")


if __name__ == "__main__":
    main()
