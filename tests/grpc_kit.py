"""gRPC calls of the tests: steps that run on any server, with answers that can be compared."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import grpc
from google.protobuf.json_format import MessageToDict

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.web import request
from volumed.wire import volume_server_pb2 as pb
from volumed.wire import volume_server_pb2_grpc

__all__ = [
    "RPC_TIMEOUT_S",
    "Call",
    "Node",
    "Put",
    "Servers",
    "allocate",
    "batch_delete",
    "mount",
    "played_by_both",
    "readonly",
    "rpc",
    "set_state",
    "started_servers",
    "status",
    "unmount",
    "writable",
]

RPC_TIMEOUT_S = 120
T = TypeVar("T")


class Call(NamedTuple):
    """One RPC; a list of messages is a stream."""

    rpc: str
    message: Any


class Put(NamedTuple):
    """An upload of ``body`` as a file id."""

    path: str
    body: bytes = b"some bytes"
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    rpc: str = "put"


def rpc(name: str, volume_id: int, **fields: Any) -> Call:
    """Any one about a volume."""
    return Call(name, getattr(pb, f"{name}Request")(volume_id=volume_id, **fields))


def allocate(volume_id: int, **fields: Any) -> Call:
    """A volume of version 3 unless told otherwise."""
    return Call("AllocateVolume", pb.AllocateVolumeRequest(**{"volume_id": volume_id, "version": 3} | fields))


def status(volume_id: int) -> Call:
    """Size and counters."""
    return Call("VolumeStatus", pb.VolumeStatusRequest(volume_id=volume_id))


def batch_delete(*file_ids: str, skip: bool = False) -> Call:
    """Deletion of needles."""
    return Call("BatchDelete", pb.BatchDeleteRequest(file_ids=file_ids, skip_cookie_check=skip))


def mount(volume_id: int, collection: str = "") -> Call:
    """Loading a volume."""
    return Call("VolumeMount", pb.VolumeMountRequest(volume_id=volume_id, collection=collection))


def unmount(volume_id: int) -> Call:
    """Its end; the files stay."""
    return Call("VolumeUnmount", pb.VolumeUnmountRequest(volume_id=volume_id))


def readonly(volume_id: int, **fields: bool) -> Call:
    """Marking a volume."""
    return Call("VolumeMarkReadonly", pb.VolumeMarkReadonlyRequest(volume_id=volume_id, **fields))


def writable(volume_id: int) -> Call:
    """Taking the marks off."""
    return Call("VolumeMarkWritable", pb.VolumeMarkWritableRequest(volume_id=volume_id))


def set_state(version: int, *, maintenance: bool) -> Call:
    """Maintenance mode."""
    state = pb.VolumeServerState(version=version, maintenance=maintenance)
    return Call("SetState", pb.SetStateRequest(state=state))


class Node:
    """A server and how to call it; answers come without what names this server."""

    def __init__(self, server: VolumeServer) -> None:
        self.server = server
        self.channel = grpc.insecure_channel(server.grpc_address)
        self.stub = volume_server_pb2_grpc.VolumeServerStub(self.channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()

    def run(self, step: Call | Put) -> Any:
        """The answer: a status of HTTP, fields of a message, all messages of a stream, or code and text of an error."""
        if isinstance(step, Put):
            return request("PUT", self.server.address, f"/{step.path}", body=step.body, headers=step.headers).status
        method: Callable[..., Any] = getattr(self.stub, step.rpc)
        try:
            message = iter(step.message) if isinstance(step.message, list) else step.message
            response = method(message, timeout=RPC_TIMEOUT_S)
            if isinstance(response, grpc.Call):
                return [self._fields(message) for message in response]
        except grpc.RpcError as error:
            return error.code().name, self._anonymous(error.details())
        return self._fields(response)

    def _fields(self, message: Any) -> dict[str, Any]:
        return {key: self._anonymous(value) for key, value in MessageToDict(message).items()}

    def _anonymous(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._anonymous(item) for item in value]
        if isinstance(value, dict):
            return {key: self._anonymous(item) for key, item in value.items()}
        if not isinstance(value, str):
            return value
        text = value.replace(self.server.address, "SELF").replace(str(self.server.home), "HOME")
        return re.sub(r"\b\d{19}\b", "TIME", text)


def played_by_both(home: Path, play: Callable[[Node], T], **options: Any) -> tuple[T, T]:
    """What the reference and what ours made of the same, at the same time, each with a master of its own.
    ``options`` are those of both servers."""

    def played(kind: type[VolumeServer]) -> T:
        with (
            Master(home / f"{kind.__name__}-master") as master,
            kind(home / kind.__name__, master=master, **options) as server,
            Node(server) as node,
        ):
            return play(node)

    with ThreadPoolExecutor(2) as pool:
        reference, ours = pool.map(played, (WeedVolume, Volumed))
        return reference, ours


class Servers(NamedTuple):
    """A cluster of the reference and two of ours."""

    master: Master
    weed: Node
    first: Node
    second: Node


@contextlib.contextmanager
def started_servers(home: Path) -> Iterator[Servers]:
    """They trust each other's addresses, which are all of this host."""
    trust = ["-volume.allowUntrustedRemoteEndpoints"]
    with (
        Master(home / "m") as master,
        WeedVolume(home / "w", master=master, flags=trust) as weed,
        Volumed(home / "a", master=master, flags=trust) as first,
        Volumed(home / "b", master=master, flags=trust) as second,
        Node(weed) as one,
        Node(first) as two,
        Node(second) as three,
    ):
        yield Servers(master, one, two, three)
