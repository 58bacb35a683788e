"""Which files of an erasure coded volume others are given, when disks have several encode runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from volumed.config.node import DiskConfig
from volumed.erasure.journal import decode_journal, encode_journal
from volumed.formats.idx import DELETED, pack_rows
from volumed.grpc.ec_source import EcSourceFile
from volumed.wire import volume_server_pb2 as pb

VOLUME = 9
WIDTH = 4
OLD, LATEST = 1_800_000_000_000_000_001, 1_800_000_000_000_000_002
EXTENSIONS = [".ec00", ".ecx", ".ecsum"]


def vif(run: int | None) -> bytes:
    config = {"dataShards": 10, "parityShards": 4, "encodeTsNs": str(run), "blockSize": "1048576"}
    return json.dumps({"version": 3} if run is None else {"version": 3, "ecShardConfig": config}).encode()


class Disks:
    """Three, with a directory for their indexes each."""

    def __init__(self, home: Path) -> None:
        self._home = home
        places = [tuple(str(home / f"{kind}{number}") for kind in ("data", "index")) for number in range(3)]
        self.configs = [DiskConfig(number, data, index) for number, (data, index) in enumerate(places)]
        for config in self.configs:
            Path(config.directory).mkdir()
            Path(config.idx_directory).mkdir()

    def put(self, disk: int, extension: str, content: bytes) -> None:
        config = self.configs[disk]
        directory = config.idx_directory if extension in (".ecx", ".ecj") else config.directory
        (Path(directory) / f"{VOLUME}{extension}").write_bytes(content)

    def put_run(self, disk: int, run: int | None, *deleted: int) -> None:
        """``run`` is None for a normal volume's `.vif`."""
        self.put(disk, ".vif", vif(run))
        self.put(disk, ".ecj", encode_journal(deleted))

    def sent(self, extension: str, disks: tuple[int, ...] = (0, 1, 2)) -> bytes | None:
        request = pb.CopyFileRequest(volume_id=VOLUME, ext=extension, is_ec_volume=True)
        found = EcSourceFile.find([self.configs[disk] for disk in disks], request, WIDTH)
        return None if found is None else b"".join(part.file_content for part in found.messages(1 << 40))


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    return Disks(tmp_path)


@pytest.mark.parametrize("latest", [0, 1, 2])
def test_only_the_latest_run_is_sent(disks: Disks, latest: int) -> None:
    for disk in range(3):
        is_latest = disk == latest
        disks.put_run(disk, LATEST if is_latest else OLD, 5 if is_latest else 6)
        for extension in EXTENSIONS:
            disks.put(disk, extension, b"latest" if is_latest else b"old")
    assert [disks.sent(extension) for extension in EXTENSIONS] == [b"latest"] * len(EXTENSIONS)
    assert decode_journal(disks.sent(".ecj") or b"") == [5]
    assert str(LATEST).encode() in (disks.sent(".vif") or b"")


def test_a_shard_of_an_old_run_is_missing(disks: Disks) -> None:
    disks.put_run(0, LATEST)
    disks.put_run(1, OLD)
    disks.put(1, ".ec05", b"old")
    assert disks.sent(".ec05") is None
    assert disks.sent(".ec05", disks=(1, 2)) == b"old"


@pytest.mark.parametrize("unknown", [0, 1], ids=["first", "last"])
def test_what_nobody_can_tell_the_run_of_comes_after_what_is_known(disks: Disks, unknown: int) -> None:
    """The `.vif` of a normal volume would have the target read shards with another layout."""
    disks.put_run(unknown, None, 7)
    disks.put_run(1 - unknown, LATEST, 5)
    for extension in (".ec00", ".ec01"):
        disks.put(unknown, extension, b"unknown")
    disks.put(1 - unknown, ".ec00", b"known")
    assert str(LATEST).encode() in (disks.sent(".vif") or b"")
    assert (disks.sent(".ec00"), disks.sent(".ec01")) == (b"known", b"unknown")
    assert set(decode_journal(disks.sent(".ecj") or b"")) == {5, 7}


def test_the_journal_names_what_was_folded_into_an_index(disks: Disks) -> None:
    """Who rebuilds shards of a server takes its journal, and may be the only one to know then."""
    disks.put_run(0, LATEST, 5)
    disks.put(0, ".ecx", pack_rows([(3, 8, 10), (4, 16, DELETED), (5, 24, 10)], WIDTH))
    disks.put_run(1, LATEST)
    disks.put(1, ".ecx", pack_rows([(3, 8, DELETED), (4, 16, 10), (5, 24, 10)], WIDTH))
    assert set(decode_journal(disks.sent(".ecj") or b"")) == {3, 4, 5}


def test_what_was_folded_is_sent_without_a_journal(disks: Disks) -> None:
    for extension, content in ((".vif", vif(LATEST)), (".ecx", pack_rows([(4, 16, DELETED)], WIDTH))):
        disks.put(0, extension, content)
    assert decode_journal(disks.sent(".ecj") or b"") == [4]
    disks.put(0, ".ecx", pack_rows([(4, 16, 10)], WIDTH))
    assert disks.sent(".ecj") is None


def test_what_an_index_of_an_unknown_run_has_deleted_is_not_sent(disks: Disks) -> None:
    """The id may have been used again."""
    disks.put_run(0, LATEST)
    disks.put(0, ".ecx", pack_rows([(4, 16, 10)], WIDTH))
    disks.put_run(1, None)
    disks.put(1, ".ecx", pack_rows([(4, 16, DELETED)], WIDTH))
    assert disks.sent(".ecj") == b""


def test_of_one_run_the_last_file_with_content_is_sent(disks: Disks) -> None:
    for disk, index in enumerate([b"first", b"last", b""]):
        disks.put_run(disk, LATEST, disk)
        disks.put(disk, ".ecx", index)
    assert disks.sent(".ecx") == b"last"
    assert set(decode_journal(disks.sent(".ecj") or b"")) == {0, 1, 2}


def test_a_vif_that_cannot_be_understood_is_no_run(disks: Disks) -> None:
    disks.put(0, ".vif", b"{")
    disks.put(0, ".ec00", b"content")
    assert disks.sent(".ec00") == b"content"
    disks.put_run(1, LATEST)
    assert disks.sent(".ec00") == b"content"
