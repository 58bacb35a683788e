"""Raw records and single needles over gRPC: the same calls to ``weed volume`` and volumed, equal answers.

Append times, which are clocks, and padding, which is whatever lay in a buffer, are masked.
"""

from __future__ import annotations

import gzip
from base64 import b64decode
from typing import Any

import pytest

from tests.grpc_kit import Call, Put, allocate, batch_delete, played_by_both, readonly, status, writable
from volumed.formats.checksum import crc32c
from volumed.formats.needle import FLAG_NAME, Needle, append_time_offset, encode_record, padding_length, record_length
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

BINARY = {"Content-Type": "application/x-thing"}
TIME_LENGTH = 8
HEADER_LENGTH = 16


def record(key: int, data: bytes, *, checksum: int | None = None, name: bytes = b"", cookie: int = 7) -> bytes:
    flags = FLAG_NAME if name else 0
    crc = crc32c(data) if checksum is None else checksum
    return encode_record(Needle(cookie, key, data=data, flags=flags, name=name, checksum=crc, append_at_ns=5), 3)


def size_of(blob: bytes) -> int:
    return int.from_bytes(blob[12:16], "big", signed=True)


def write_blob(volume_id: int, key: int, blob: bytes, size: int | None = None) -> Call:
    size = size_of(blob) if size is None else size
    return Call(
        "WriteNeedleBlob",
        pb.WriteNeedleBlobRequest(volume_id=volume_id, needle_id=key, size=size, needle_blob=blob),
    )


def read_blob(volume_id: int, offset: int, size: int) -> Call:
    return Call("ReadNeedleBlob", pb.ReadNeedleBlobRequest(volume_id=volume_id, offset=offset, size=size))


def read_meta(volume_id: int, offset: int, size: int, key: int = 0) -> Call:
    request = pb.ReadNeedleMetaRequest(volume_id=volume_id, needle_id=key, offset=offset, size=size)
    return Call("ReadNeedleMeta", request)


def needle_status(volume_id: int, key: int) -> Call:
    return Call("VolumeNeedleStatus", pb.VolumeNeedleStatusRequest(volume_id=volume_id, needle_id=key))


def follow(volume_id: int, source: str) -> Call:
    request = pb.VolumeTailReceiverRequest(volume_id=volume_id, source_volume_server=source, idle_timeout_seconds=1)
    return Call("VolumeTailReceiver", request)


def read_all(*volume_ids: int) -> Call:
    return Call("ReadAllNeedles", pb.ReadAllNeedlesRequest(volume_ids=volume_ids))


def maintenance(version: int, *, on: bool) -> Call:
    state = pb.VolumeServerState(version=version, maintenance=on)
    return Call("SetState", pb.SetStateRequest(state=state))


LARGE = bytes(range(256)) * 8192
"""2 MiB: read in parts by `ReadNeedleMeta`."""
ZIPPED = gzip.compress(b"words " * 100, mtime=0)
ONE = record(0x21, b"raw bytes")
NAMED = record(0x22, b"named", name=b"n.txt")
EMPTY = record(0x23, b"")

STEPS = [
    allocate(1), allocate(2, ttl="3d"), allocate(3),
    Put("1,0111111111?ts=1700000000", b"some bytes", BINARY),
    Put("1,0222222222?ts=1700000001&ttl=5d", b"others", BINARY | {"Seaweed-Colour": "red"}),
    Put("1,0333333333?ts=1700000002", b""),
    Put("1,0444444444?ts=1700000003", ZIPPED, BINARY | {"Content-Encoding": "gzip"}),
    Put("1,0555555555?ts=1700000004", LARGE, BINARY), Put("1,0666666666?ts=1700000004", b"x" * 40, BINARY),
    Put("2,0777777777?ts=1700000004", b"with a life", BINARY), status(1),
    # needle status
    needle_status(1, 1), needle_status(1, 2), needle_status(1, 3), needle_status(1, 4), needle_status(1, 5),
    needle_status(2, 7), needle_status(1, 99), needle_status(9, 1),
    # records as they are
    read_blob(1, 8, 30), read_blob(1, 8, 53), read_blob(1, 8, 0), read_blob(1, 8, -1), read_blob(1, 8, 1 << 30),
    read_blob(1, 1 << 40, 10), read_blob(9, 8, 30), read_blob(1, -8, 30), read_blob(1, 0, 0),
    read_meta(1, 8, 30), read_meta(1, 8, 53), read_meta(1, 8, 53, key=99), read_meta(9, 8, 53), read_meta(1, 8, -1),
    read_meta(1, 8, 0), read_meta(1, 1 << 40, 53), read_meta(1, 1 << 40, 0),
    # overwritten, deleted
    Put("1,0666666666?ts=1700000005", b"y" * 41, BINARY), batch_delete("1,0222222222"), status(1),
    batch_delete("1,0333333333"),
    needle_status(1, 2), needle_status(1, 3), needle_status(1, 6), read_all(1), read_all(2, 9, 1), read_all(),
    # raw writes
    write_blob(9, 0x21, ONE), write_blob(3, 79, ONE, -1), write_blob(3, 78, b"abc", 61), write_blob(3, 78, b"", 0),
    write_blob(3, 78, ONE, size_of(ONE) + 1), write_blob(3, 78, ONE[:-8]), write_blob(3, 78, ONE + bytes(8)),
    write_blob(3, 0x21, ONE), status(3), write_blob(3, 0x21, ONE), status(3), needle_status(3, 0x21),
    write_blob(3, 0x31, ONE), needle_status(3, 0x31), write_blob(3, 0x21, NAMED), status(3), needle_status(3, 0x21),
    write_blob(3, 0x41, record(0x41, b"damaged", checksum=1)), needle_status(3, 0x41),
    write_blob(3, 0x23, EMPTY), status(3), needle_status(3, 0x23), read_all(3),
    write_blob(3, 0x24, record(0x24, b"z" * (3 << 20))), needle_status(3, 0x24), status(3),
    readonly(3), write_blob(3, 0x51, ONE), write_blob(3, 0x51, ONE, 1), write_blob(3, 0x21, NAMED), writable(3),
    write_blob(2, 0x21, ONE), write_blob(2, 0x21, ONE), status(2), needle_status(2, 0x21),
    # following: whom, then what
    follow(1, ""), follow(9, "nohost"), follow(1, "127.0.0.1:8080.18080"), follow(9, "127.0.0.1:8080"),
    follow(1, "http://x"), follow(9, "a/b:1"), follow(1, "169.254.169.254:80"), follow(1, "metadata:1"),
    maintenance(0, on=True), follow(1, "[::1]:1"), write_blob(3, 0x51, ONE), write_blob(9, 0x51, ONE),
    read_blob(1, 8, 53), needle_status(1, 1), maintenance(1, on=False), write_blob(3, 0x51, ONE), status(3),
]  # fmt: skip


def comparable(step: Call | Put, answer: Any) -> Any:
    """A record without its append time and padding."""
    if not isinstance(answer, dict) or "needleBlob" not in answer or step.rpc != "ReadNeedleBlob":
        return answer
    blob = bytearray(b64decode(answer["needleBlob"]))
    size = size_of(bytes(blob))
    if record_length(size, 3) != len(blob):
        return len(blob)
    at = append_time_offset(size)
    blob[at : at + TIME_LENGTH] = bytes(TIME_LENGTH)
    blob[len(blob) - padding_length(size, 3) :] = b""
    return bytes(blob)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[Any]]:
    return played_by_both(
        tmp_path_factory.mktemp("needles"), lambda node: [comparable(step, node.run(step)) for step in STEPS]
    )


@pytest.mark.parametrize("index", range(len(STEPS)), ids=lambda i: f"{i:03}-{STEPS[i].rpc}")
def test_answers_are_equal(answers: tuple[list[Any], list[Any]], index: int) -> None:
    reference, ours = answers
    assert ours[index] == reference[index], STEPS[index]
