"""A node whose disks were not all there when needles of an erasure coded volume were deleted: once they are back, each
of them alone knows what is deleted."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.cluster import Volumed
from tests.ec_sets import EncodedSet
from tests.erasure_kit import WIDTH
from tests.grpc_kit import Call, Node
from tests.processes import wait_until
from tests.web import delete, get
from volumed.erasure.index import fold
from volumed.erasure.journal import decode_journal, encode_journal
from volumed.storage.fileio import FileIO
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.probe

LIMIT_S = 90.0
COOKIE = "00c0ffee"
VOLUME = 21
DISKS = [(0, 1, 2), (0, 1), (2, 3), (4,)]
"""With the first one or without: three data shards are there."""
LAST = len(DISKS) - 1


class Disks:
    """With a node that is started by the test."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.files = EncodedSet(home / "set")
        self.dirs = [home / f"disk{number}" for number in range(len(DISKS))]
        for directory, shards in zip(self.dirs, DISKS, strict=True):
            self.files.place(directory, VOLUME, shards)
        self.server = Volumed(home / "n", dirs=self.dirs)

    def journal(self, disk: int) -> set[int]:
        return set(decode_journal((self.dirs[disk] / f"{VOLUME}.ecj").read_bytes()))

    def delete(self, key: int) -> None:
        assert delete(self.server.address, f"{VOLUME},{key:x}{COOKIE}").status == 202

    def unmount_last(self) -> None:
        request = pb.VolumeEcShardsUnmountRequest(volume_id=VOLUME, shard_ids=DISKS[LAST])
        with Node(self.server) as node:
            assert node.run(Call("VolumeEcShardsUnmount", request)) == {}

    def mount_last(self) -> None:
        request = pb.VolumeEcShardsMountRequest(volume_id=VOLUME, shard_ids=DISKS[LAST])
        with Node(self.server) as node:
            assert node.run(Call("VolumeEcShardsMount", request)) == {}

    def worker(self) -> int:
        """Of the first disk."""
        started = re.findall(r"worker of disk 0 .* started, pid (\d+)", self.server.log_path.read_text())
        return int(started[-1])

    def await_state(self, state: str) -> None:
        line = f"disk 0 ({self.dirs[0]}) is {state}"
        wait_until(lambda: line in self.server.log_path.read_text(), timeout_s=LIMIT_S, what=line)

    def await_journal(self, disk: int, *keys: int) -> None:
        wait_until(lambda: self.journal(disk) == set(keys), timeout_s=LIMIT_S, what=f"{keys} in journal {disk}")


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    return Disks(tmp_path)


def gone(server: Volumed) -> set[int]:
    """Needles that cannot be read."""
    keys = range(1, 13)
    return {key for key in keys if get(server.address, f"/{VOLUME},{key:x}{COOKIE}").status == 404}


def test_what_was_deleted_without_a_disk_is_deleted_there_too(disks: Disks) -> None:
    first = disks.dirs[0]
    with disks.server:
        hung = disks.worker()
        os.kill(hung, signal.SIGSTOP)
        disks.await_state("stuck")
        disks.delete(2)
        os.kill(hung, signal.SIGCONT)
        disks.await_journal(0, 2)

        away = first.rename(first.with_suffix(".away"))
        first.write_bytes(b"not a directory")
        os.kill(hung, signal.SIGKILL)
        disks.await_state("failed")
        disks.delete(3)
        first.unlink()
        away.rename(first)
        disks.await_journal(0, 2, 3)
        for disk in (1, 2, 3):
            disks.await_journal(disk, 2, 3)
    with Volumed(disks.home / "alone", dirs=[first]) as alone:
        assert gone(alone) == {2, 3}


def test_at_a_start_every_disk_learns_what_any_knows(disks: Disks) -> None:
    """From a server that lets only one disk know; and later when it is mounted again."""
    journal, index = (disks.dirs[disk] / f"{VOLUME}{name}" for disk, name in ((1, ".ecj"), (2, ".ecx")))
    journal.write_bytes(encode_journal([4]))
    fold(FileIO(), FileIO().open(str(index)), [5], WIDTH)
    with disks.server as server:
        assert all(4 in disks.journal(disk) for disk in range(len(DISKS)))
        for disk in (0, 1, 3):
            disks.await_journal(disk, 4, 5)
        assert gone(server) == {4, 5}
        disks.unmount_last()
        disks.delete(6)
        assert 6 not in disks.journal(LAST)
        disks.mount_last()
        assert 6 in disks.journal(LAST)
    with Volumed(disks.home / "alone", dirs=disks.dirs[:1]) as alone:
        assert gone(alone) == {4, 5, 6}
