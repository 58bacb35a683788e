"""One node with the shards of a volume on four disks: damage, a disk that hangs, deletions that all disks remember."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Master, Volumed
from tests.ec_files_kit import ALL_SHARDS, EcFiles, mount, unmount
from tests.grpc_kit import Node
from tests.web import delete, get
from volumed.erasure.journal import decode_journal
from volumed.erasure.names import INDEX, JOURNAL, shard_extension

pytestmark = pytest.mark.interop

VOLUME = 5
ON_DISK = (range(4), range(4, 8), range(8, 11), range(11, 14))
"""Any one of the disks can be done without."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> EcFiles:
    return EcFiles(VOLUME, tmp_path_factory.mktemp("made") / "data").make(32)


@pytest.fixture
def server(files: EcFiles, tmp_path: Path) -> Iterator[Volumed]:
    """All shards are mounted, and no front has opened a file yet."""
    dirs = [tmp_path / f"d{disk}" for disk in range(len(ON_DISK))]
    with (
        Master(tmp_path / "m") as master,
        Volumed(tmp_path / "v", master=master, dirs=dirs) as started,
        Node(started) as node,
    ):
        for directory, shards in zip(dirs, ON_DISK, strict=True):
            files.lay(directory, shards)
        mount(node, VOLUME)
        yield started


def shard_path(files: EcFiles, server: Volumed, shard: int) -> Path:
    disk = next(disk for disk, shards in enumerate(ON_DISK) if shard in shards)
    return files.path(shard_extension(shard), server.dirs[disk])


def test_a_damaged_shard_damages_nothing(files: EcFiles, server: Volumed) -> None:
    """Every byte of one shard after the other is wrong."""
    assert files.wrong_at(server) == {}
    for shard in ALL_SHARDS:
        path = shard_path(files, server, shard)
        right = path.read_bytes()
        overwrite(path, bytes(byte ^ 0x55 for byte in right))
        assert files.wrong_at(server) == {}, f"shard {shard}"
        overwrite(path, right)
    assert f"ec volume {VOLUME}: shard 0 is damaged, needle " in server.log_path.read_text()
    assert files.wrong_at(server) == {}
    assert get(server.address, f"/{files.fid(1)[:-1]}0").status == 404, "another cookie"


def overwrite(path: Path, content: bytes) -> None:
    """In place: readers have it open."""
    with open(path, "r+b") as file:
        file.write(content)


@pytest.mark.parametrize("disk", range(len(ON_DISK)))
def test_a_disk_that_hangs_is_done_without(files: EcFiles, server: Volumed, disk: int) -> None:
    """Opening any of its files takes for ever, that of the index too; the worker has them open and notices nothing."""
    for extension in (INDEX, *map(shard_extension, ON_DISK[disk])):
        path = files.path(extension, server.dirs[disk])
        path.unlink()
        os.mkfifo(path)
    assert files.wrong_at(server) == {}
    server.stop()


def test_every_disk_remembers_a_deletion(files: EcFiles, server: Volumed) -> None:
    fids = [files.with_first_shard(shards)[0] for shards in ON_DISK[:2]]
    for fid in fids:
        assert delete(server.address, fid).status == 202
    keys = [int(fid.partition(",")[2][:-8], 16) for fid in fids]
    for directory in server.dirs:
        assert decode_journal(files.path(JOURNAL, directory).read_bytes()) == keys
    server.kill()
    server.start()
    with Node(server) as node:
        mount(node, VOLUME)
        unmount(node, VOLUME, ON_DISK[0])
    assert files.wrong_at(server) == dict.fromkeys(fids, 404)
