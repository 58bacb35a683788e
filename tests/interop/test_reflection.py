"""The recorded descriptors of the wire contract against the real servers (docs/spec/grpc.md 1.1).

tests/corpus/test_wire_contract.py compares the project's proto files with the recording.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from tests.processes import HOST, Server, free_port

pytestmark = pytest.mark.interop

RECORDING = Path(__file__).parents[1] / "corpus" / "wire" / "reference-4.48.binpb"
WEED = Path(sys.executable).parent / "weed"
CALL_TIMEOUT_S = 30.0

VOLUME_SERVER = "volume_server_pb.VolumeServer"
MASTER = "master_pb.Seaweed"


class GrpcServer(Server):
    """A ``weed`` subcommand with its HTTP and gRPC ports; ready when a gRPC connection stands."""

    def __init__(self, home: Path, *arguments: str) -> None:
        super().__init__(home)
        self.http_port, self.grpc_port = free_port(), free_port()
        self.arguments = arguments

    def command(self) -> list[str]:
        ports = [f"-ip={HOST}", f"-port={self.http_port}", f"-port.grpc={self.grpc_port}"]
        return [str(WEED), "-logtostderr", *self.arguments, *ports]

    def ready(self) -> bool:
        with grpc.insecure_channel(self.target) as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=1.0)
            except grpc.FutureTimeoutError:
                return False
        return True

    @property
    def target(self) -> str:
        return f"{HOST}:{self.grpc_port}"


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """gRPC addresses of a running master and volume server, by service name."""
    home = tmp_path_factory.mktemp("reflection")
    with GrpcServer(home / "master", "master", "-mdir=.", "-peers=none", "-telemetry=false") as master:
        seed = f"-master={HOST}:{master.http_port}.{master.grpc_port}"
        with GrpcServer(home / "volume", "volume", "-dir=.", "-max=1", seed) as volume:
            yield {MASTER: master.target, VOLUME_SERVER: volume.target}


def ask(target: str, version: str, request: ServerReflectionRequest) -> ServerReflectionResponse:
    """One reflection request. Both versions of the service have the same messages under other names."""
    with grpc.insecure_channel(target) as channel:
        call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        (response,) = call(iter([request]), timeout=CALL_TIMEOUT_S)
        return response


def file_of(target: str, version: str, symbol: str) -> FileDescriptorProto:
    """The file that defines ``symbol``, which may come together with its imports."""
    response = ask(target, version, ServerReflectionRequest(file_containing_symbol=symbol))
    files = map(FileDescriptorProto.FromString, response.file_descriptor_response.file_descriptor_proto)
    return next(file for file in files if symbol.startswith(f"{file.package}."))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@pytest.mark.parametrize(
    ("service", "symbol"),
    [(VOLUME_SERVER, VOLUME_SERVER), (VOLUME_SERVER, "remote_pb.RemoteConf"), (MASTER, MASTER)],
)
def test_server_has_the_recorded_descriptors(
    targets: dict[str, str], version: str, service: str, symbol: str
) -> None:
    live = file_of(targets[service], version, symbol)
    recorded = {file.name: file for file in FileDescriptorSet.FromString(RECORDING.read_bytes()).file}
    drift = "\n".join(
        difflib.unified_diff(
            str(recorded[live.name]).splitlines(), str(live).splitlines(), "recorded", "live", lineterm="", n=6
        )
    )
    assert not drift, drift


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@pytest.mark.parametrize(
    ("service", "others"), [(VOLUME_SERVER, set()), (MASTER, {"protobuf.Raft"})], ids=["volume", "master"]
)
def test_server_lists_its_services(
    targets: dict[str, str], version: str, service: str, others: set[str]
) -> None:
    response = ask(targets[service], version, ServerReflectionRequest(list_services=""))
    listed = {entry.name for entry in response.list_services_response.service}
    reflection = {f"grpc.reflection.{v}.ServerReflection" for v in ("v1", "v1alpha")}
    assert listed == {service, *others, *reflection}
