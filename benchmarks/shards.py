"""``python -m benchmarks.shards``: erasure coding as a cluster sees it, of the reference and of ours, in turns.

Encodes and rebuilds through the RPCs, all shards on one server, and reads of small objects over HTTP: from all shards,
and when one shard or four are lost. The functions behind are compared by ``python -m benchmarks.erasure``.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc

from benchmarks.cpu import CpuMeter
from benchmarks.servers import COOKIE, SIDES
from benchmarks.wrk import run_wrk
from tests.cluster import Master, VolumeServer
from volumed.erasure.code import DEFAULT_RATIO
from volumed.formats.checksum import crc32c
from volumed.formats.idx import pack_rows
from volumed.formats.needle import Needle, encode_record
from volumed.formats.superblock import SuperBlock
from volumed.formats.vif import VolumeInfo, encode_vif
from volumed.wire import volume_server_pb2 as pb
from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

__all__ = ["LOST", "SHARDS", "Served", "main", "make_volume", "started"]

VOLUME_ID = 1
VERSION = 3
BODY_BYTES = 1024
CONNECTIONS = 16
TIMEOUT_S = 600.0
SHARDS = range(DEFAULT_RATIO.total)
LOST = {"four lost": (0, 1, 2, 3), "one lost": (5,)}
READS: dict[str, tuple[int, ...]] = {"all shards": (), "one lost": (0,), "four lost": (0, 1, 2, 3)}


class Job(NamedTuple):
    """One run of something that ends."""

    seconds: float
    cpu_seconds: float


class Reads(NamedTuple):
    """One run of reads."""

    per_second: float
    p99_ms: float
    cpu_us: float
    """Per request."""


class Place(NamedTuple):
    """Where reads go."""

    address: str
    volume_ids: Sequence[int]


class Served:
    """A server that has the volume."""

    def __init__(self, server: VolumeServer, stub: VolumeServerStub) -> None:
        self.server = server
        self._stub = stub

    def freeze(self) -> None:
        """No more writes."""
        self._stub.VolumeMarkReadonly(pb.VolumeMarkReadonlyRequest(volume_id=VOLUME_ID))

    def encode(self) -> None:
        self._stub.VolumeEcShardsGenerate(pb.VolumeEcShardsGenerateRequest(volume_id=VOLUME_ID), timeout=TIMEOUT_S)

    def rebuild(self) -> None:
        self._stub.VolumeEcShardsRebuild(pb.VolumeEcShardsRebuildRequest(volume_id=VOLUME_ID), timeout=TIMEOUT_S)

    def mount(self) -> None:
        self._stub.VolumeEcShardsMount(pb.VolumeEcShardsMountRequest(volume_id=VOLUME_ID, shard_ids=SHARDS))

    def drop_volume(self) -> None:
        """Only the shards are left."""
        self._stub.VolumeDelete(pb.VolumeDeleteRequest(volume_id=VOLUME_ID))

    def lose(self, shards: Iterable[int]) -> None:
        ids = list(shards)
        self._stub.VolumeEcShardsUnmount(pb.VolumeEcShardsUnmountRequest(volume_id=VOLUME_ID, shard_ids=ids))
        self._stub.VolumeEcShardsDelete(pb.VolumeEcShardsDeleteRequest(volume_id=VOLUME_ID, shard_ids=ids))

    def timed(self, work: Callable[[], None]) -> Job:
        """What a call costs."""
        pids = self.server.pids()
        meter, began = CpuMeter(pids), time.perf_counter()
        work()
        return Job(time.perf_counter() - began, meter.seconds(pids))

    def read(self, needles: int, seconds: int) -> Reads:
        """Random objects."""
        pids, place = self.server.pids(), Place(self.server.address, [VOLUME_ID])
        meter = CpuMeter(pids)
        load = run_wrk(place, "get", connections=CONNECTIONS, seconds=seconds, first_key=1, count=needles)
        return Reads(load.requests / load.seconds, load.p99_ms, meter.seconds(pids) / load.requests * 1e6)


def make_volume(directory: Path, needles: int) -> int:
    """Objects of 1 KB with the keys from 1 on; the length of the `.dat`."""
    directory.mkdir(parents=True)
    source, rows, offset = random.Random(1), [], SuperBlock().length
    with open(directory / f"{VOLUME_ID}.dat", "wb") as dat:
        dat.write(SuperBlock().encode())
        for key in range(1, needles + 1):
            data = source.randbytes(BODY_BYTES)
            record = encode_record(Needle(cookie=COOKIE, key=key, data=data, checksum=crc32c(data)), VERSION)
            rows.append((key, offset, BODY_BYTES + 5))
            offset += dat.write(record)
    (directory / f"{VOLUME_ID}.idx").write_bytes(pack_rows(rows))
    (directory / f"{VOLUME_ID}.vif").write_bytes(encode_vif(VolumeInfo(version=VERSION, bytes_offset=5)))
    return offset


@contextmanager
def started(
    home: Path, source: Path, kinds: dict[str, Callable[..., VolumeServer]] = SIDES
) -> Iterator[dict[str, Served]]:
    """All kinds of servers, each with a master and a copy of the volume."""
    with ExitStack() as stack:
        sides = {}
        for name, kind in kinds.items():
            data = home / name / "data"
            shutil.copytree(source, data)
            master = stack.enter_context(Master(home / name / "m", volume_size_limit_mb=30_000))
            server = stack.enter_context(kind(home / name / "s", master=master, dirs=[data]))
            channel = stack.enter_context(grpc.insecure_channel(server.grpc_address))
            sides[name] = Served(server, VolumeServerStub(channel))
        yield sides


def compare(home: Path, needles: int, rounds: int, seconds: int) -> tuple[int, list[str]]:
    """Length of the `.dat`, and the lines of two tables."""
    size = make_volume(home / "source", needles)
    jobs: dict[str, dict[str, list[Job]]] = {}
    reads: dict[str, dict[str, list[Reads]]] = {}
    with started(home, home / "source") as sides:
        for side in sides.values():
            side.freeze()
        for _ in range(rounds):
            for name, side in sides.items():
                jobs.setdefault("encode", {}).setdefault(name, []).append(side.timed(side.encode))
            for what, lost in LOST.items():
                for name, side in sides.items():
                    side.lose(lost)
                    jobs.setdefault(f"rebuild, {what}", {}).setdefault(name, []).append(side.timed(side.rebuild))
        for side in sides.values():
            side.mount()
            side.drop_volume()
        for what, lost in READS.items():
            for side in sides.values():
                if lost:
                    side.lose(lost)
                side.read(needles, 1)  # the files are open and the page cache is warm
            for _ in range(rounds):
                for name, side in sides.items():
                    reads.setdefault(what, {}).setdefault(name, []).append(side.read(needles, seconds))
    return size, [*job_table(jobs), "", *read_table(reads)]


def job_table(jobs: dict[str, dict[str, list[Job]]]) -> list[str]:
    """Medians, and how many times faster, or cheaper, ours is."""
    lines = [
        "| Work | weed: s | volumed: s | ratio | weed: CPU s | volumed: CPU s | ratio |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for what, sides in jobs.items():
        theirs, ours = (Job(*map(statistics.median, zip(*sides[name], strict=True))) for name in SIDES)
        values = (
            theirs.seconds, ours.seconds, theirs.seconds / ours.seconds,
            theirs.cpu_seconds, ours.cpu_seconds, theirs.cpu_seconds / ours.cpu_seconds,
        )  # fmt: skip
        lines.append(f"| {what} | {' | '.join(f'{value:.2f}' for value in values)} |")
    return lines


def read_table(reads: dict[str, dict[str, list[Reads]]]) -> list[str]:
    """Medians of GETs of 1 KB."""
    lines = [
        "| GET 1 KB | weed: 1/s | volumed: 1/s | ratio "
        "| weed: p99 ms | volumed: p99 ms | weed: CPU µs | volumed: CPU µs |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for what, sides in reads.items():
        theirs, ours = (Reads(*map(statistics.median, zip(*sides[name], strict=True))) for name in SIDES)
        lines.append(
            f"| {what} | {theirs.per_second:,.0f} | {ours.per_second:,.0f} | {ours.per_second / theirs.per_second:.2f} "
            f"| {theirs.p99_ms:.1f} | {ours.p99_ms:.1f} | {theirs.cpu_us:.0f} | {ours.cpu_us:.0f} |"
        )
    return lines


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Compare served erasure coding of the reference with ours.")
    parser.add_argument("--needles", type=int, default=400_000, help="of 1 KB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each run of reads")
    parser.add_argument("--home", help="where to work; a directory in memory leaves the disk out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="volumed-ec-", dir=options.home) as home:
        size, lines = compare(Path(home), options.needles, options.rounds, options.seconds)
    sys.stdout.write("\n".join([f"{size / 1e6:.0f} MB", *lines]) + "\n")


if __name__ == "__main__":
    main()
