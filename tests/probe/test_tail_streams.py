"""A thousand followers of a volume that never give up: nobody else notices them, and they go when they are told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.cluster import Volumed
from tests.grpc_kit import Call, Node, Put, allocate, batch_delete
from tests.processes import wait_until
from tests.pss import pss_bytes, roles
from tests.web import assign, get, upload
from volumed.wire import volume_server_pb2 as pb
from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

pytestmark = pytest.mark.probe

CONNECTIONS, STREAMS_EACH = 5, 200
STREAMS = CONNECTIONS * STREAMS_EACH
GROWTH_BYTES_MAX = 200 << 20
LIMIT_S = 60


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Volumed]:
    with Volumed(tmp_path / "n") as started:
        yield started


def thread_count(pid: int) -> int:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["Threads"])


def next_record(stream: Any) -> pb.VolumeTailSenderResponse:
    return next(message for message in stream if message.needle_header)


def test_a_thousand_endless_tails(node: Volumed) -> None:
    fid = assign(node.address).fid
    assert upload(node.address, fid, b"the first").status == 201
    volume_id = int(fid.partition(",")[0])
    (front,) = roles(node)["grpc front"]
    threads, memory = thread_count(front), pss_bytes(front)
    with ExitStack() as stack:
        stubs = [
            VolumeServerStub(
                stack.enter_context(
                    grpc.insecure_channel(node.grpc_address, options=[("grpc.use_local_subchannel_pool", 1)])
                )
            )
            for _ in range(CONNECTIONS)
        ]
        request = pb.VolumeTailSenderRequest(volume_id=volume_id)
        streams = [stub.VolumeTailSender(request) for stub in stubs for _ in range(STREAMS_EACH)]
        assert all(next_record(stream).needle_header for stream in streams)
        assert pss_bytes(front) < memory + GROWTH_BYTES_MAX

        # Others are served, and what is written comes to all.
        assert stubs[0].VolumeStatus(pb.VolumeStatusRequest(volume_id=volume_id), timeout=LIMIT_S).file_count == 1
        assert upload(node.address, f"{fid}_1", b"the second").status == 201
        assert get(node.address, f"/{fid}_1").body == b"the second"
        keys = {next_record(stream).needle_header[:12] for stream in streams}
        assert len(keys) == 1

        for stream in streams[: STREAMS // 2]:
            stream.cancel()
        gone = threads + STREAMS // 2 + 50
        wait_until(lambda: thread_count(front) <= gone, timeout_s=LIMIT_S, what="the streams that were cancelled end")
        assert get(node.address, "/healthz").status == 200

        node.stop()
        with pytest.raises(grpc.RpcError) as caught:
            list(streams[-1])
        assert caught.value.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
        # What the library says when the time is over that it waits for calls: these are not waited for.
        assert "Cancelling all calls" not in (caught.value.details() or "")


def keys_until(stream: Any, last: int) -> list[int]:
    """Keys of the records that come, the one of ``last`` included."""
    keys: list[int] = []
    while not keys or keys[-1] != last:
        keys.append(int.from_bytes(next_record(stream).needle_header[4:12], "big"))
    return keys


def test_a_tail_goes_on_behind_a_vacuum(node: Volumed) -> None:
    with Node(node) as calls:
        assert calls.run(allocate(9)) == {}
        for key in range(1, 10):
            assert calls.run(Put(f"9,{key:02x}11111111", b"x" * 1000)) == 201
        stream = calls.stub.VolumeTailSender(pb.VolumeTailSenderRequest(volume_id=9))
        assert keys_until(stream, 9) == list(range(1, 10))
        calls.run(batch_delete("9,0111111111", "9,0211111111"))
        assert keys_until(stream, 2) == [1, 2]
        # In the middle of the keys, and of the volume when it is compacted.
        assert calls.run(Put("9,0511111111", b"y" * 1000)) == 201
        list(calls.stub.VacuumVolumeCompact(pb.VacuumVolumeCompactRequest(volume_id=9), timeout=LIMIT_S))
        assert calls.run(Call("VacuumVolumeCommit", pb.VacuumVolumeCommitRequest(volume_id=9)))["volumeSize"]
        assert calls.run(Put("9,aa11111111", b"behind the vacuum")) == 201
        assert set(keys_until(stream, 0xAA)) == {5, 0xAA}
        calls.run(Call("VolumeUnmount", pb.VolumeUnmountRequest(volume_id=9)))
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        assert (caught.value.code(), caught.value.details()) == (
            grpc.StatusCode.UNKNOWN,
            "streamFollow: not found volume id 9",
        )


def test_what_is_being_written_is_no_damage(node: Volumed) -> None:
    stop = threading.Event()
    with Node(node) as calls:
        assert calls.run(allocate(8)) == {}

        def write() -> None:
            key = 0
            while not stop.is_set():
                key += 1
                assert calls.run(Put(f"8,{key:04x}11111111", b"x" * 100)) == 201

        writer = threading.Thread(target=write)
        writer.start()
        try:
            scrub = Call("ScrubVolume", pb.ScrubVolumeRequest(mode=pb.VolumeScrubMode.FULL, volume_ids=[8]))
            answers = [calls.run(scrub) for _ in range(100)]
        finally:
            stop.set()
            writer.join()
    assert [answer for answer in answers if "details" in answer] == []
    assert int(answers[-1]["totalFiles"]) > 0
