"""The proto files against the descriptors of the reference server (docs/spec/grpc.md section 1).

``wire/reference-4.48.binpb`` is a serialized FileDescriptorSet; tests/interop/test_reflection.py checks that the
real server still answers with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from volumed.wire import master_pb2, remote_pb2, volume_server_pb2

RECORDING = Path(__file__).parent / "wire" / "reference-4.48.binpb"
OURS: Mapping[str, FileDescriptor] = {
    module.DESCRIPTOR.name: module.DESCRIPTOR for module in (volume_server_pb2, master_pb2, remote_pb2)
}

Elements = Iterator[tuple[str, str]]  # full name of an element, everything the wire depends on as text


def recorded_files() -> dict[str, FileDescriptorProto]:
    """The reference's files by import path."""
    return {file.name: file for file in FileDescriptorSet.FromString(RECORDING.read_bytes()).file}


def elements_of_file(file: FileDescriptorProto) -> Elements:
    """Every named element of a file; comments, order and the options of other languages do not count."""
    yield file.name, f"{file.syntax} package {file.package} imports {sorted(file.dependency)}"
    for message in file.message_type:
        yield from elements_of_message(file.package, message)
    for enum in file.enum_type:
        yield from elements_of_enum(file.package, enum)
    for service in file.service:
        yield from elements_of_service(file.package, service)


def elements_of_message(scope: str, message: DescriptorProto) -> Elements:
    name = f"{scope}.{message.name}"
    reserved = [*message.reserved_name, *((r.start, r.end) for r in message.reserved_range)]
    yield name, f"message reserved={reserved} map_entry={message.options.map_entry}"
    for field in message.field:
        yield f"{name}.{field.name}", field_text(message, field)
    for nested in message.nested_type:
        yield from elements_of_message(name, nested)
    for enum in message.enum_type:
        yield from elements_of_enum(name, enum)


def field_text(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    label = FieldDescriptorProto.Label.Name(field.label)
    kind = FieldDescriptorProto.Type.Name(field.type)
    oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else "none"
    return (
        f"{label} {kind} {field.type_name} = {field.number} json_name={json_name(field)} oneof={oneof}"
        f" proto3_optional={field.proto3_optional} options=[{field.options}]"
    )


def json_name(field: FieldDescriptorProto) -> str:
    """protoc leaves the name out of generated modules when it is the default, the lowerCamelCase of the field's."""
    first, *rest = field.name.split("_")
    return field.json_name or first + "".join(word[:1].upper() + word[1:] for word in rest)


def elements_of_enum(scope: str, enum: EnumDescriptorProto) -> Elements:
    name = f"{scope}.{enum.name}"
    yield name, "enum"
    for value in enum.value:
        yield f"{name}.{value.name}", f"= {value.number}"


def elements_of_service(scope: str, service: ServiceDescriptorProto) -> Elements:
    name = f"{scope}.{service.name}"
    yield name, "service"
    for method in service.method:
        request = f"{'stream ' * method.client_streaming}{method.input_type}"
        response = f"{'stream ' * method.server_streaming}{method.output_type}"
        yield f"{name}.{method.name}", f"({request}) returns ({response})"


def differences(expected: Mapping[str, str], actual: Mapping[str, str]) -> Iterable[str]:
    """One line for each element that is missing, not in the contract, or not the same."""
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual:
            yield f"{name}: missing, expected {expected[name]}"
        elif name not in expected:
            yield f"{name}: not in the contract, is {actual[name]}"
        elif expected[name] != actual[name]:
            yield f"{name}: expected {expected[name]}\n{' ' * len(name)}    found {actual[name]}"


def our_elements(path: str) -> dict[str, str]:
    file = FileDescriptorProto()
    OURS[path].CopyToProto(file)
    return dict(elements_of_file(file))


def test_no_file_is_missing_or_foreign() -> None:
    assert OURS.keys() == recorded_files().keys()


@pytest.mark.parametrize("path", sorted(OURS))
def test_elements_equal_the_reference(path: str) -> None:
    found = list(differences(dict(elements_of_file(recorded_files()[path])), our_elements(path)))
    assert not found, f"{path} differs from the reference:\n" + "\n".join(found)


def test_comparison_sees_what_the_wire_depends_on() -> None:
    elements = our_elements("volume_server.proto")
    service = "volume_server_pb.VolumeServer."
    assert sum(name.startswith(service) for name in elements) == 49
    assert elements[service + "ReceiveFile"] == (
        "(stream .volume_server_pb.ReceiveFileRequest) returns (.volume_server_pb.ReceiveFileResponse)"
    )
    assert "proto3_optional=True" in elements["volume_server_pb.VolumeMountRequest.collection"]
    assert "oneof=data" in elements["volume_server_pb.ReceiveFileRequest.info"]
    assert "reserved=[(6, 7)]" in elements["volume_server_pb.VolumeEcShardReadRequest"]
    assert "json_name=BytesOffset" in elements["volume_server_pb.OldVersionVolumeInfo.BytesOffset"]
    assert elements["volume_server_pb.VolumeScrubMode.READS"] == "= 5"
    assert "map_entry=True" in our_elements("master.proto")["master_pb.Heartbeat.DiskFreeBytesEntry"]


def test_differences_name_the_element_and_both_sides() -> None:
    expected = {"m.a": "= 1", "m.b": "= 2", "m.c": "= 3"}
    assert list(differences(expected, {"m.a": "= 1", "m.c": "= 4", "m.d": "= 5"})) == [
        "m.b: missing, expected = 2",
        "m.c: expected = 3\n       found = 4",
        "m.d: not in the contract, is = 5",
    ]
