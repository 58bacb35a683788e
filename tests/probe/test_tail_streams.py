"""A thousand followers of a volume that never give up: nobody else notices them, and they go when they are told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.cluster import Volumed
from tests.processes import wait_until
from tests.pss import pss_bytes, roles
from tests.web import assign, get, upload
from volumed.wire import volume_server_pb2 as pb
from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

pytestmark = pytest.mark.probe

CONNECTIONS, STREAMS_EACH = 5, 200
STREAMS = CONNECTIONS * STREAMS_EACH
GROWTH_BYTES_MAX = 200 << 20
LIMIT_S = 30


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
