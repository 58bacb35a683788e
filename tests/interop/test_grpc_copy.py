"""Volumes copied between ``weed volume`` and volumed, in every direction: the same bytes or, when it fails, nothing."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from tests.cluster import Volumed
from tests.grpc_kit import Call, Node, Put, Servers, allocate, batch_delete, mount, readonly, started_servers, status
from tests.processes import wait_until
from tests.pss import child
from tests.source_proxy import SourceProxy
from tests.web import get
from volumed.formats.needle import append_time_offset
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

MIB = 1 << 20
LONG_S = 60
TRUST = ["-volume.allowUntrustedRemoteEndpoints"]
BINARY = {"Content-Type": "application/x-thing"}
TITLES = {"worker": "volumed: disk 0", "grpc front": "volumed: grpc front"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with started_servers(tmp_path_factory.mktemp("copy")) as started:
        yield started


def copy(source: Node, target: Node, volume_id: int, **fields: object) -> list[pb.VolumeCopyResponse]:
    request = pb.VolumeCopyRequest(volume_id=volume_id, source_data_node=source.server.peer_address, **fields)
    return list(target.stub.VolumeCopy(request, timeout=LONG_S))


def files(node: Node, volume_id: int) -> dict[str, bytes]:
    """Name → content of all files of the volume, whatever they are called; ``weed`` sorts the index of a read-only one
    into a file of its own."""
    paths = (path for path in node.server.dirs[0].iterdir() if path.name.split(".")[0].split("_")[-1] == str(volume_id))
    return {path.name: path.read_bytes() for path in paths if path.suffix != ".sdx"}


def drop(nodes: tuple[Node, ...], volume_id: int) -> None:
    for node in nodes:
        node.run(Call("VolumeDelete", pb.VolumeDeleteRequest(volume_id=volume_id)))


def last_append_at_ns(node: Node, volume_id: int) -> int:
    """Of the record that the last row names, read from the files; of an empty volume the time of its `.dat`."""
    found = files(node, volume_id)
    (idx,) = (content for name, content in found.items() if name.endswith(".idx"))
    (name, dat) = next((name, content) for name, content in found.items() if name.endswith(".dat"))
    if not idx:
        return int((node.server.dirs[0] / name).stat().st_mtime) * 10**9
    row = idx[-17:]
    offset = (int.from_bytes(row[8:12], "big") | row[12] << 32) * 8
    at = offset + append_time_offset(max(0, int.from_bytes(row[13:17], "big", signed=True)))
    return int.from_bytes(dat[at : at + 8], "big")


def fill(node: Node) -> None:
    """Volume 1 with all sorts of needles, 2 empty, 3 with deletions alone, 4 in a collection, read-only for good."""
    for step in (
        allocate(1, ttl="3M"), allocate(2), allocate(3, replication="001"), allocate(4, collection="a_b"),
        Put("1,0111111111", b"replaced"), Put("1,0111111111", b"some bytes", BINARY), Put("1,0222222222", b""),
        Put("1,0333333333", os.urandom(5 * MIB), BINARY), Put("1,0444444444", b"gone"), batch_delete("1,0444444444"),
        Put("3,0111111111", b"gone"), batch_delete("3,0111111111"),
        Put("4,0111111111", b"x" * 1000, BINARY), readonly(4, persist=True),
    ):  # fmt: skip
        assert not isinstance(node.run(step), tuple), step


VOLUMES = (1, 2, 3, 4)


@pytest.mark.parametrize("direction", ["weed to volumed", "volumed to weed", "volumed to volumed"])
def test_a_copy_is_the_same_bytes(servers: Servers, direction: str) -> None:
    nodes = {"weed": servers.weed, "volumed": servers.first}
    source, target = nodes[direction.split()[0]], nodes[direction.split()[-1]]
    if source is target:
        target = servers.second
    fill(source)
    for volume_id in VOLUMES:
        (*_, last) = copy(source, target, volume_id)
        assert files(target, volume_id) == files(source, volume_id)
        assert last.last_append_at_ns == last_append_at_ns(source, volume_id)
        assert target.run(status(volume_id)) == source.run(status(volume_id))
    for path in ("1,0111111111", "1,0222222222", "1,0333333333", "1,0444444444", "3,0111111111", "4,0111111111"):
        answers = [get(node.server.address, f"/{path}") for node in (source, target)]
        assert answers[0].status == answers[1].status, path
        assert answers[0].body == answers[1].body, path
    assert target.run(Put("1,0555555555", b"one more")) == 201
    assert target.run(Put("4,0555555555", b"it is read-only")) == 500
    for volume_id in VOLUMES:
        drop((source, target), volume_id)


def test_mixed_counts_of_a_source_are_accepted(servers: Servers) -> None:
    """The reference counts deletions of empty files after a restart, but not while it runs."""
    source = servers.weed
    for step in (allocate(6), Put("6,0111111111", b""), Put("6,0111111111", b"longer"), Put("6,0222222222", b"")):
        source.run(step)
    source.run(batch_delete("6,0222222222", "6,0111111111"))
    copy(source, servers.first, 6)
    assert files(servers.first, 6) == files(source, 6)
    drop((source, servers.first), 6)


def test_progress_is_told_and_a_volume_that_is_here_is_replaced(servers: Servers) -> None:
    source, target = servers.weed, servers.first
    for node in (source, target):
        assert node.run(allocate(7)) == {}
    target.run(Put("7,0999999999", b"old"))
    for number in range(1, 5):
        source.run(Put(f"7,0{number}11111111", os.urandom(40 * MIB), BINARY))
    progress = [message.processed_bytes for message in copy(source, target, 7)]
    assert len(progress) == 2
    assert 128 * MIB < progress[0] <= 132 * MIB
    assert progress[1] == 0
    assert get(target.server.address, "/7,0999999999").status == 404
    assert files(target, 7) == files(source, 7)
    drop((source, target), 7)


@pytest.mark.parametrize(
    ("source", "fields", "code"),
    [
        ("127.0.0.1:1.2", {}, grpc.StatusCode.UNAVAILABLE),
        ("the other", {"volume_id": 99}, grpc.StatusCode.UNKNOWN),
        ("the other", {"disk_type": "ssd"}, grpc.StatusCode.UNKNOWN),
    ],
    ids=["nobody there", "no such volume", "no such disk"],
)
def test_what_cannot_be_copied_replaces_nothing(servers: Servers, source: str, fields: dict, code) -> None:
    target = servers.first
    for step in (allocate(8), Put("8,0111111111", b"old"), allocate(99), Put("99,0111111111", b"old")):
        target.run(step)
    servers.second.run(allocate(8))
    address = servers.second.server.peer_address if source == "the other" else source
    request = pb.VolumeCopyRequest(**{"volume_id": 8, "source_data_node": address} | fields)
    with pytest.raises(grpc.RpcError) as caught:
        list(target.stub.VolumeCopy(request, timeout=LONG_S))
    assert caught.value.code() is code
    for volume_id in (8, 99):
        assert get(target.server.address, f"/{volume_id},0111111111").body == b"old"
        drop((target, servers.second), volume_id)


class Held(NamedTuple):
    """A copy of volume 5 to the first node that stands still after 4 MiB, and whom it comes from."""

    call: grpc.Call
    proxy: SourceProxy


@pytest.fixture
def held_copy(servers: Servers) -> Iterator[Held]:
    source, target = servers.second, servers.first
    assert source.run(allocate(5)) == {}
    assert source.run(Put("5,0111111111", os.urandom(9 * MIB), BINARY)) == 201
    with SourceProxy(source.server) as proxy:
        proxy.held_after = 4 * MIB
        request = pb.VolumeCopyRequest(volume_id=5, source_data_node=proxy.peer_address)
        call = target.stub.VolumeCopy(request, timeout=LONG_S)
        assert proxy.held.wait(LONG_S)
        partial = target.server.dirs[0] / "5.dat.copying"
        wait_until(lambda: partial.stat().st_size == 4 * MIB, timeout_s=LONG_S, what="a part of the volume")
        yield Held(call, proxy)
        call.cancel()
    wait_until(lambda: "5.note" not in files(target, 5), timeout_s=LONG_S, what="the end of the copy")
    drop((source, target), 5)


def interrupt(node: Node, copy_: Held, victim: str) -> None:
    if victim == "client":
        copy_.call.cancel()
    elif victim == "node":
        node.server.kill()
        node.server.start()
    elif victim == "source":
        copy_.proxy.drop_connections()
    else:
        os.kill(child(node.server, TITLES[victim]), signal.SIGKILL)
        copy_.proxy.release.set()


@pytest.mark.parametrize("victim", ["client", "worker", "grpc front", "source", "node"])
def test_an_interrupted_copy_leaves_nothing(servers: Servers, held_copy: Held, victim: str) -> None:
    target = servers.first
    assert set(files(target, 5)) == {"5.note", "5.dat.copying"}
    interrupt(target, held_copy, victim)
    with pytest.raises(grpc.RpcError):
        next(held_copy.call)
    wait_until(lambda: not files(target, 5), timeout_s=LONG_S, what="nothing of the volume")
    wait_until(lambda: copied(servers), timeout_s=LONG_S, what="a copy after all")
    assert files(target, 5) == files(servers.second, 5)


def copied(servers: Servers) -> bool:
    """Whether the volume can be copied now; the node that was hit may still be on its way back."""
    try:
        copy(servers.second, servers.first, 5)
    except grpc.RpcError:
        return False
    return True


def test_who_hangs_up_when_the_volume_is_mounted_has_it(servers: Servers) -> None:
    """It is known to the master then, and may have been written to."""
    source, target = servers.second, servers.first
    for step in (allocate(5), Put("5,0111111111", b"some bytes")):
        source.run(step)
    with SourceProxy(source.server) as proxy:
        asked, over = itertools.count(), threading.Event()

        def hang_up_the_second_time(message: Any) -> Any:
            if next(asked):
                call.cancel()
                over.wait(LONG_S)
            return message

        proxy.falsify["VolumeStatus"] = hang_up_the_second_time
        call = target.stub.VolumeCopy(pb.VolumeCopyRequest(volume_id=5, source_data_node=proxy.peer_address))
        with pytest.raises(grpc.RpcError):
            list(call)
        sent = pb.ReceiveFileRequest(info=pb.ReceiveFileInfo(volume_id=5, ext=".dat", disk_type="hdd"))
        refusal = {"error": "volume 5 is mounted, its .dat cannot be replaced"}
        wait_until(
            lambda: target.run(Call("ReceiveFile", [sent])) == refusal, timeout_s=LONG_S, what="the end of the copy"
        )
        over.set()
    assert get(target.server.address, "/5,0111111111").body == b"some bytes"
    drop((source, target), 5)


def test_nothing_else_touches_a_volume_that_arrives(servers: Servers, held_copy: Held) -> None:
    target = servers.first
    before = set(files(target, 5))
    assert target.run(mount(5)) == ("UNKNOWN", "volume 5 not found on disk")
    assert target.run(allocate(5)) == ("UNKNOWN", "Volume Id 5 already exists!")
    sent = pb.ReceiveFileRequest(info=pb.ReceiveFileInfo(volume_id=5, ext=".dat", disk_type="hdd"))
    assert target.run(Call("ReceiveFile", [sent])) == {"error": "volume 5 is being copied here"}
    with pytest.raises(grpc.RpcError):
        copy(servers.second, target, 5)
    target.server.signal(signal.SIGHUP)
    wait_until(lambda: "reloaded" in target.server.log_tail(), timeout_s=LONG_S, what="a reload")
    assert target.run(status(5)) == ("UNKNOWN", "not found volume id 5")
    assert set(files(target, 5)) == before
    held_copy.proxy.release.set()
    assert len(list(held_copy.call)) == 1
    assert files(target, 5) == files(servers.second, 5)


def test_what_is_written_during_a_copy_is_found_afterwards(servers: Servers, held_copy: Held) -> None:
    source, target = servers.second, servers.first
    end = source.stub.ReadVolumeFileStatus(pb.ReadVolumeFileStatusRequest(volume_id=5)).dat_file_size
    assert source.run(Put("5,0222222222", b"late")) == 201
    held_copy.proxy.release.set()
    (last,) = held_copy.call
    assert files(target, 5)["5.dat"] == files(source, 5)["5.dat"][:end]
    newer = pb.VolumeIncrementalCopyRequest(volume_id=5, since_ns=last.last_append_at_ns)
    rest = b"".join(message.file_content for message in source.stub.VolumeIncrementalCopy(newer))
    assert files(target, 5)["5.dat"] + rest == files(source, 5)["5.dat"]


def changed(**fields: int) -> Callable[[Any], Any]:
    """An answer in which some numbers are higher."""

    def change(message: Any) -> Any:
        for name, by in fields.items():
            setattr(message, name, getattr(message, name) + by)
        return message

    return change


@pytest.mark.parametrize(
    ("method", "change", "text"),
    [
        ("ReadVolumeFileStatus", changed(dat_file_size=8), r"the dat file size \[\d+\] is not same as origin"),
        ("ReadVolumeFileStatus", changed(idx_file_size=17), r"idx file .*/5.idx size \[17\] is not same as origin"),
        ("ReadVolumeFileStatus", changed(compaction_revision=1), "volume 5 is compacted"),
        ("VolumeStatus", changed(file_count=1), r"to mount or validate volume 5: target file count \[1\] is not"),
        ("VolumeStatus", changed(file_deleted_count=1), r"target deleted count \[0\] is not same as origin deleted"),
        ("CopyFile", lambda _: None, "the dat file size .0. is not same as origin file size"),
    ],
    ids=["dat size", "idx size", "revision", "count", "deletions", "no files"],
)
def test_a_copy_that_is_not_what_was_announced_is_removed(servers: Servers, method, change, text) -> None:
    source, target = servers.second, servers.first
    for step in (allocate(5), Put("5,0111111111", b"some bytes")):
        source.run(step)
    with SourceProxy(source.server) as proxy:
        proxy.falsify[method] = change
        with pytest.raises(grpc.RpcError, match=text):
            list(target.stub.VolumeCopy(pb.VolumeCopyRequest(volume_id=5, source_data_node=proxy.peer_address)))
    assert not files(target, 5)
    assert target.run(status(5)) == ("UNKNOWN", "not found volume id 5")
    drop((source,), 5)


def test_index_files_move_to_their_directory(servers: Servers, tmp_path: Path) -> None:
    index = tmp_path / "index"
    index.mkdir()
    with Volumed(tmp_path / "v", master=servers.master) as server:
        with Node(server) as node:
            for step in (allocate(11), Put("11,0111111111", b"some bytes")):
                node.run(step)
        server.stop()
        server.flags += [f"-dir.idx={index}"]
        server.start()
        with Node(server) as node:
            assert (server.dirs[0] / "11.idx").exists()
            node.stub.VolumeConsolidateIndex(pb.VolumeConsolidateIndexRequest(volume_id=11), timeout=LONG_S)
            assert not (server.dirs[0] / "11.idx").exists()
            assert (index / "11.idx").stat().st_size == 17
            assert node.run(Put("11,0222222222", b"more")) == 201
            assert (index / "11.idx").stat().st_size == 34
            assert get(server.address, "/11,0111111111").body == b"some bytes"
