"""Calls that last: they take nobody's place, notice that their client is gone, and clean up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from volumed.errors import Code, VolumedError
from volumed.grpc.admin_gate import AdminGate
from volumed.grpc.handlers import method_handler
from volumed.grpc.streams import Call, CallThreads
from volumed.nodetable import create_node_table
from volumed.security.access import AccessView
from volumed.security.settings import SecuritySettings, write_security
from volumed.wire import volume_server_pb2 as pb
from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

TIMEOUT_S = 30
STREAMS = 300
MESSAGE = pb.CopyFileResponse(file_content=b"x")


class Behaviours:
    """What the tests serve, and what happened to it."""

    def __init__(self) -> None:
        self.closed = threading.Semaphore(0)
        self.ended = threading.Event()

    def endless(self, _: Any, call: Call) -> Iterator[pb.CopyFileResponse]:
        try:
            while True:
                yield MESSAGE
                call.wait(TIMEOUT_S)
        finally:
            self.closed.release()

    def failing(self, _: Any, __: Call) -> Iterator[pb.VolumeIncrementalCopyResponse]:
        yield pb.VolumeIncrementalCopyResponse(file_content=b"1")
        raise VolumedError("no more", Code.NOT_FOUND)

    def broken(self, _: Any, __: Call) -> Iterator[pb.VolumeTailSenderResponse]:
        yield pb.VolumeTailSenderResponse()
        raise KeyError("boom")

    def counting(self, requests: Iterator[pb.ReceiveFileRequest], _: Call) -> pb.ReceiveFileResponse:
        return pb.ReceiveFileResponse(bytes_written=sum(len(request.file_content) for request in requests))

    def waiting(self, _: Any, call: Call) -> pb.VolumeTailReceiverResponse:
        call.when_ended(self.ended.set)
        call.wait(TIMEOUT_S)
        return pb.VolumeTailReceiverResponse()


@pytest.fixture
def served() -> Behaviours:
    return Behaviours()


@pytest.fixture
def stub(served: Behaviours, tmp_path: Path) -> Iterator[VolumeServerStub]:
    table = create_node_table(str(tmp_path / "node.table"), disks=1, fronts=1)
    write_security(SecuritySettings(), str(tmp_path))
    gate = AdminGate(AccessView(table, str(tmp_path)))
    behaviours: dict[str, Callable[..., Any]] = {
        "CopyFile": served.endless,
        "VolumeIncrementalCopy": served.failing,
        "VolumeTailSender": served.broken,
        "ReceiveFile": served.counting,
        "VolumeTailReceiver": served.waiting,
        "GetState": lambda _: pb.GetStateResponse(state=pb.VolumeServerState(version=7)),
    }
    service = pb.DESCRIPTOR.services_by_name["VolumeServer"]
    handlers = {name: method_handler(service.methods_by_name[name], b, gate) for name, b in behaviours.items()}
    server = grpc.server(CallThreads())
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield VolumeServerStub(channel)
    server.stop(0).wait()
    table.close()


def test_endless_streams_take_nobodys_place_and_end_with_their_clients(stub, served) -> None:
    streams = [stub.CopyFile(pb.CopyFileRequest()) for _ in range(STREAMS)]
    assert all(next(stream) == MESSAGE for stream in streams)
    assert stub.GetState(pb.GetStateRequest(), timeout=TIMEOUT_S).state.version == 7
    for stream in streams:
        stream.cancel()
    assert all(served.closed.acquire(timeout=TIMEOUT_S) for _ in streams)


def test_an_error_ends_a_stream_behind_what_was_sent(stub) -> None:
    stream = stub.VolumeIncrementalCopy(pb.VolumeIncrementalCopyRequest(), timeout=TIMEOUT_S)
    assert next(stream).file_content == b"1"
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "no more")


def test_an_unexpected_error_is_told_with_its_text(stub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.VolumeTailSender(pb.VolumeTailSenderRequest(), timeout=TIMEOUT_S))
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNKNOWN, "'boom'")


def test_a_stream_from_the_client(stub) -> None:
    blocks = (pb.ReceiveFileRequest(file_content=b"x" * size) for size in (1, 0, 1 << 20))
    assert stub.ReceiveFile(blocks, timeout=TIMEOUT_S).bytes_written == (1 << 20) + 1


def test_a_unary_call_that_lasts_is_told_of_its_end(stub, served) -> None:
    call = stub.VolumeTailReceiver.future(pb.VolumeTailReceiverRequest())
    assert not served.ended.wait(0.05)
    call.cancel()
    assert served.ended.wait(TIMEOUT_S)
