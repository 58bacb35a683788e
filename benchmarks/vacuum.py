"""``python -m benchmarks.vacuum``: a volume of a million needles, half of them deleted, is vacuumed under a load.

Both servers get the same files. Clients read live needles and write new ones, paced, through one connection each; what
they see during the vacuum is set against the same load before it.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc

from benchmarks.clients import DATA_BYTES, Clients, Figures
from benchmarks.cpu import CpuMeter
from benchmarks.servers import COOKIE, SIDES
from tests.cluster import Master
from volumed.formats.checksum import crc32c
from volumed.formats.idx import DELETED, pack_rows
from volumed.formats.needle import FLAG_LAST_MODIFIED, Needle, encode_record, encode_tombstone
from volumed.formats.superblock import SuperBlock
from volumed.formats.vif import VolumeInfo, encode_vif
from volumed.wire import volume_server_pb2 as pb
from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

__all__ = ["main"]

VOLUME_ID = 1
CHUNK = 10_000
VERSION = 3
QUIET_S = 5.0
TIMEOUT_S = 600.0


def path(key: int) -> str:
    """Of a needle."""
    return f"/{VOLUME_ID},{key:x}{COOKIE:08x}"


def make_volume(directory: Path, needles: int) -> int:
    """Write the files of a volume whose needles with even keys are deleted; the length of its `.dat`."""
    directory.mkdir(parents=True)
    offset = SuperBlock().length
    with open(directory / f"{VOLUME_ID}.dat", "wb") as dat, open(directory / f"{VOLUME_ID}.idx", "wb") as idx:
        dat.write(SuperBlock().encode())
        for chunk in _chunks(needles):
            rows = []
            for record, key, size in chunk:
                rows.append((key, offset, size))
                offset += len(record)
                dat.write(record)
            idx.write(pack_rows(rows))
    info = VolumeInfo(version=VERSION, bytes_offset=5)
    (directory / f"{VOLUME_ID}.vif").write_bytes(encode_vif(info))
    return offset


def _chunks(needles: int) -> Iterator[Iterator[tuple[bytes, int, int]]]:
    for first in range(1, needles + 1, CHUNK):
        yield (_put(key) for key in range(first, min(first + CHUNK, needles + 1)))
    for first in range(2, needles + 1, 2 * CHUNK):
        yield (_delete(key, needles) for key in range(first, min(first + 2 * CHUNK, needles + 1), 2))


def _put(key: int) -> tuple[bytes, int, int]:
    data = key.to_bytes(8, "big") * (DATA_BYTES // 8)
    needle = Needle(COOKIE, key, data=data, flags=FLAG_LAST_MODIFIED, last_modified=1_700_000_000)
    needle.checksum, needle.append_at_ns = crc32c(data), key
    record = encode_record(needle, VERSION)
    return record, key, int.from_bytes(record[12:16], "big")


def _delete(key: int, needles: int) -> tuple[bytes, int, int]:
    return encode_tombstone(key, COOKIE, 0, needles + key, VERSION), key, DELETED


class Run(NamedTuple):
    """One server's vacuum."""

    name: str
    dat_bytes: int
    compact_s: float
    commit_s: float
    cpu_s: float
    quiet: tuple[Figures, Figures]
    """Reads and writes before."""
    busy: tuple[Figures, Figures]
    """During."""

    def row(self) -> str:
        speed = self.dat_bytes / 1e6 / (self.compact_s + self.commit_s)
        columns = (
            self.name, f"{self.compact_s:.2f}", f"{self.commit_s:.2f}", f"{speed:.0f}", f"{self.cpu_s:.1f}",
            *self.quiet, *self.busy,
        )  # fmt: skip
        return "| " + " | ".join(map(str, columns)) + " |"


HEAD = """| Server | compact s | commit s | MB/s of .dat | CPU s | GET before | PUT before | GET during | PUT during |
|---|--:|--:|--:|--:|--:|--:|--:|--:|"""


def vacuum(name: str, home: Path, needles: int, *, with_clients: bool) -> Run:
    """Start a server on a volume of its own and vacuum that."""
    data = home / "data"
    dat_bytes = make_volume(data, needles)
    with (
        Master(home / "m", volume_size_limit_mb=30_000) as master,
        SIDES[name](home / "s", master=master, dirs=[data]) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        stub = VolumeServerStub(channel)
        clients = _clients(server.address, needles) if with_clients else None
        time.sleep(QUIET_S if with_clients else 0)
        meter = CpuMeter(server.pids())
        began = time.perf_counter()
        for _ in stub.VacuumVolumeCompact(pb.VacuumVolumeCompactRequest(volume_id=VOLUME_ID), timeout=TIMEOUT_S):
            pass
        compacted = time.perf_counter()
        answer = stub.VacuumVolumeCommit(pb.VacuumVolumeCommitRequest(volume_id=VOLUME_ID), timeout=TIMEOUT_S)
        ended = time.perf_counter()
        cpu_s = meter.seconds(server.pids())
        if clients is not None:
            clients.stop()
        if not dat_bytes * 0.4 < answer.volume_size < dat_bytes * 0.6:
            raise RuntimeError(f"{name}: {answer.volume_size} bytes are left of {dat_bytes}")
        quiet, busy = _split(clients, began, ended)
        return Run(name, dat_bytes, compacted - began, ended - compacted, cpu_s, quiet, busy)


def _clients(address: str, needles: int) -> Clients:
    """They read live needles and write new ones."""
    live = random.Random(1)
    reads = (path(2 * live.randrange(needles // 2) + 1) for _ in itertools.repeat(None))
    return Clients(address, reads, map(path, itertools.count(needles + 1)))


def _split(
    clients: Clients | None, began: float, ended: float
) -> tuple[tuple[Figures, Figures], tuple[Figures, Figures]]:
    reads, writes = (clients.reads, clients.writes) if clients else ([], [])
    return (
        (Figures.of(reads, 0, began), Figures.of(writes, 0, began)),
        (Figures.of(reads, began, ended), Figures.of(writes, began, ended)),
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.vacuum", description=sys.modules[__name__].__doc__)
    parser.add_argument("--needles", type=int, default=1_000_000)
    parser.add_argument("--only", choices=list(SIDES))
    parser.add_argument("--alone", action="store_true", help="without clients")
    options = parser.parse_args()
    sys.stdout.write(HEAD + "\n")
    for name in [options.only] if options.only else SIDES:
        with tempfile.TemporaryDirectory(prefix="volumed-bench-") as home:
            run = vacuum(name, Path(home), options.needles, with_clients=not options.alone)
            sys.stdout.write(run.row() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
