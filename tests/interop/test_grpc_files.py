"""Volumes as files over gRPC: the same calls to ``weed volume`` and volumed, equal answers.

Of the bytes of files only the number is compared here: they hold clocks.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Any

import pytest

from tests.grpc_kit import Call, Put, allocate, batch_delete, mount, played_by_both, readonly, status, writable
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

EVERYTHING = (1 << 63) - 1
ANY = (1 << 32) - 1
BINARY = {"Content-Type": "application/x-thing"}
MIB = 1 << 20


def sync_status(volume_id: int) -> Call:
    return Call("VolumeSyncStatus", pb.VolumeSyncStatusRequest(volume_id=volume_id))


def file_status(volume_id: int) -> Call:
    return Call("ReadVolumeFileStatus", pb.ReadVolumeFileStatusRequest(volume_id=volume_id))


def copy_file(volume_id: int, ext: str, **fields: Any) -> Call:
    fields = {"compaction_revision": ANY, "stop_offset": EVERYTHING} | fields
    return Call("CopyFile", pb.CopyFileRequest(volume_id=volume_id, ext=ext, **fields))


def newer(volume_id: int, since_ns: int) -> Call:
    return Call("VolumeIncrementalCopy", pb.VolumeIncrementalCopyRequest(volume_id=volume_id, since_ns=since_ns))


def configure(volume_id: int, replication: str) -> Call:
    return Call("VolumeConfigure", pb.VolumeConfigureRequest(volume_id=volume_id, replication=replication))


def consolidate(volume_id: int) -> Call:
    return Call("VolumeConsolidateIndex", pb.VolumeConsolidateIndexRequest(volume_id=volume_id))


def copy(volume_id: int, source: str, **fields: Any) -> Call:
    return Call("VolumeCopy", pb.VolumeCopyRequest(volume_id=volume_id, source_data_node=source, **fields))


def info(volume_id: int, ext: str, **fields: Any) -> pb.ReceiveFileRequest:
    return pb.ReceiveFileRequest(info=pb.ReceiveFileInfo(volume_id=volume_id, ext=ext, **fields))


def content(data: bytes) -> pb.ReceiveFileRequest:
    return pb.ReceiveFileRequest(file_content=data)


def receive(*messages: pb.ReceiveFileRequest) -> Call:
    return Call("ReceiveFile", list(messages))


def maintenance(version: int, *, on: bool) -> Call:
    return Call("SetState", pb.SetStateRequest(state=pb.VolumeServerState(version=version, maintenance=on)))


STEPS = [
    allocate(1), allocate(2, collection="pics", ttl="3d", replication="001"), allocate(3),
    # nothing in it yet
    sync_status(1), file_status(1), sync_status(2), file_status(2), sync_status(9), file_status(9), newer(1, 0),
    newer(9, 0), copy_file(1, ".dat"), copy_file(1, ".idx"), copy_file(1, ".vif"),
    # contents around the length of a message
    Put("1,0111111111", b"some bytes", BINARY), Put("1,0222222222", bytes(2 * MIB), BINARY),
    Put("3,0111111111", bytes(2 * MIB - 1), BINARY), Put("3,0222222222", b"", BINARY), batch_delete("1,0111111111"),
    sync_status(1), file_status(1), newer(1, 0), newer(1, 1 << 62), newer(3, 0),
    copy_file(1, ".dat"), copy_file(1, ".idx"), copy_file(3, ".dat"), copy_file(1, ".dat", stop_offset=0),
    copy_file(1, ".dat", stop_offset=1 << 63), copy_file(1, ".dat", stop_offset=2 * MIB),
    copy_file(1, ".dat", stop_offset=2 * MIB + 1), copy_file(1, ".idx", stop_offset=5),
    copy_file(1, ".dat", compaction_revision=0), copy_file(1, ".dat", compaction_revision=1),
    copy_file(1, ".dat", collection="wrong"), copy_file(9, ".dat"),
    copy_file(9, ".dat", ignore_source_file_not_found=True), copy_file(1, ".sdx"),
    copy_file(1, ".sdx", ignore_source_file_not_found=True), copy_file(1, ".sdx", stop_offset=0),
    copy_file(9, ".ecx", is_ec_volume=True), copy_file(9, ".ecx", is_ec_volume=True, ignore_source_file_not_found=True),
    *(copy_file(1, ext) for ext in ("", "dat", ".", ".a/b", ".d t", "..dat", ".ü", ".dat\n")),
    *(copy_file(1, ".dat", collection=name) for name in (".", "..", "a/b", "a\\b")),
    copy_file(1, ".a/b", collection=".."),
    # another replication
    configure(1, "001"), file_status(1), sync_status(1), configure(1, "1"), sync_status(1), configure(1, "bad"),
    configure(9, "bad"), configure(9, "000"), configure(1, ""), sync_status(1), configure(0, ""), status(1),
    configure(2, "010"), file_status(2), readonly(2, persist=True), configure(2, "002"), status(2), file_status(2),
    writable(2), Put("1,0333333333", b"still writable"), status(1),
    # files from outside
    receive(), receive(content(b"x")), receive(pb.ReceiveFileRequest()), receive(info(9, ".dat")),
    receive(info(1, "dat")), receive(info(1, ".x", collection="../x")), receive(info(9, ".dat", disk_type="ssd")),
    receive(info(1, ".abc"), content(b"12345"), content(b"678")), copy_file(1, ".abc"),
    receive(info(1, ".abc"), content(b"1"), info(3, ".xyz"), content(b"23")), copy_file(1, ".abc"),
    copy_file(3, ".xyz"),
    receive(info(9, ".dat", disk_type="hdd", collection="c"), content(b"x" * 100)),
    receive(info(1, ".abc")), copy_file(1, ".abc"), receive(info(1, ".abc"), pb.ReceiveFileRequest()),
    # index files
    consolidate(1), consolidate(9),
    # copies that cannot begin
    copy(1, ""), copy(1, "nohost"), copy(1, "http://127.0.0.1:80"), copy(1, "127.0.0.1:80"), copy(1, "localhost:80"),
    copy(1, "[::1]:80.90"), copy(1, "169.254.169.254:80"), copy(1, "metadata.google.internal:80"), copy(1, ":80"),
    copy(1, "0.0.0.0:1"), copy(1, "[fe80::1]:80"), copy(1, "[::ffff:127.0.0.1]:80"), copy(1, "a:b:c"), status(1),
    # maintenance
    maintenance(0, on=True), configure(1, "bad"), consolidate(9), copy(1, ""), receive(content(b"x")), sync_status(1),
    copy_file(1, ".idx"), newer(1, 0), maintenance(1, on=False), mount(1),
]  # fmt: skip


def comparable(answer: Any) -> Any:
    """Lengths for contents, presence for times."""
    if isinstance(answer, list):
        return [comparable(item) for item in answer]
    if isinstance(answer, dict):
        return {key: comparable_field(key, value) for key, value in answer.items()}
    if isinstance(answer, tuple):
        return answer[0], re.sub(" +", " ", answer[1])
    return answer


def comparable_field(key: str, value: Any) -> Any:
    if key == "fileContent":
        return len(b64decode(value))
    if key == "error":
        return re.sub(" +", " ", value)
    if key in ("modifiedTsNs", "idxFileTimestampSeconds", "datFileTimestampSeconds", "expireAtSec"):
        return True
    return comparable(value)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[Any]]:
    return played_by_both(tmp_path_factory.mktemp("files"), lambda node: [comparable(node.run(step)) for step in STEPS])


@pytest.mark.parametrize("index", range(len(STEPS)), ids=lambda i: f"{i:03}-{STEPS[i].rpc}")
def test_answers_are_equal(answers: tuple[list[Any], list[Any]], index: int) -> None:
    reference, ours = answers
    assert ours[index] == reference[index], STEPS[index]
