"""The gRPC handlers against a scripted node: order of checks, texts, and which disk is asked what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest

from tests.servicer_kit import ScriptedNode, make_node, refuse, serving_table
from volumed.bus import calls
from volumed.errors import NoFreeSpace, VolumedError, VolumeExists, VolumeNotEmpty, VolumeNotFound
from volumed.grpc.server import SERVICE, create_server, served_methods
from volumed.nodetable import DiskState, NodeTable
from volumed.security.access import AccessView
from volumed.security.settings import SecuritySettings, write_security
from volumed.wire import volume_server_pb2 as pb


@pytest.fixture
def script() -> ScriptedNode:
    script = ScriptedNode()
    script.answers[calls.PlaceVolume] = lambda _: calls.Placement(1)
    return script


@pytest.fixture
def table(tmp_path: Path) -> Iterator[NodeTable]:
    with serving_table(tmp_path, first_epoch=5) as table:
        table.disks[2].set_state(DiskState.FAILED)
        yield table


@pytest.fixture
def methods(script: ScriptedNode, table: NodeTable, tmp_path: Path) -> dict[str, Callable[[Any], Any]]:
    return served_methods(make_node(script, table, tmp_path))


def allocate(**fields: Any) -> pb.AllocateVolumeRequest:
    return pb.AllocateVolumeRequest(**{"volume_id": 7, "version": 3, "replication": "000"} | fields)


def test_allocate_goes_to_the_chosen_disk_and_ends_the_reservation(script, methods) -> None:
    methods["AllocateVolume"](allocate(collection="pics", replication="1", ttl="7d", preallocate=5))
    assert script.worker_calls() == [
        ("disk-1.6.sock", calls.AllocateVolume(7, "pics", 1, 1 << 8 | 4, 3, 5)),
    ]
    assert isinstance(script.asked[-1][1], calls.ConfirmPlacement)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (allocate(replication="abc"), "unexpected replication type: abc"),
        (allocate(ttl="x"), 'strconv.Atoi: parsing "": invalid syntax'),
        (allocate(version=0), "volume super block version 0 is not supported"),
        (allocate(collection="../x"), 'invalid collection "../x"'),
    ],
    ids=["replication", "ttl", "version", "collection"],
)
def test_allocate_refuses_bad_input_without_touching_a_disk(script, methods, request_, text) -> None:
    with pytest.raises(VolumedError) as caught:
        methods["AllocateVolume"](request_)
    assert caught.value.text.startswith(text.partition('""')[0])
    assert script.worker_calls() == []


class Opened(Exception):
    """Where a channel would go."""


@pytest.mark.parametrize(("trusts", "used"), [(False, ["8.8.8.8"]), (True, ())], ids=["checked", "trusted"])
def test_a_copy_comes_from_the_address_that_was_checked(script, table, tmp_path, monkeypatch, trusts, used) -> None:
    node = make_node(script, table, tmp_path)
    node.config = msgspec.structs.replace(node.config, allow_untrusted_endpoints=trusts)

    def opened(*where: Any) -> Any:
        raise Opened(*where)

    monkeypatch.setattr("volumed.security.endpoints.resolve_host", lambda _: ["8.8.8.8"])
    monkeypatch.setattr(node.channels, "open", opened)
    request = pb.VolumeCopyRequest(volume_id=7, source_data_node="other:8080")
    with pytest.raises(Opened) as caught:
        list(served_methods(node)["VolumeCopy"](request, None))
    assert caught.value.args == ("other:8080", used)


def test_a_mounted_id_is_refused_whatever_the_version(script, methods) -> None:
    script.answers[calls.PlaceVolume] = refuse(VolumeExists.of(7))
    with pytest.raises(VolumeExists, match="Volume Id 7 already exists!"):
        methods["AllocateVolume"](allocate(version=0))


def test_no_free_space(script, methods) -> None:
    script.answers[calls.PlaceVolume] = refuse(NoFreeSpace.for_volume())
    with pytest.raises(NoFreeSpace, match="No more free space left"):
        methods["AllocateVolume"](allocate())


def test_maintenance_refuses_before_anything_else(script, methods) -> None:
    script.answers[calls.GetState] = lambda _: calls.ServerState(maintenance=True, version=1)
    for name, request in (
        ("AllocateVolume", allocate(replication="abc")),
        ("BatchDelete", pb.BatchDeleteRequest(file_ids=["x"])),
    ):
        with pytest.raises(VolumedError, match="volume server 10.0.0.7:8080 is in maintenance mode"):
            methods[name](request)
    methods["VolumeDelete"](pb.VolumeDeleteRequest(volume_id=7))


def test_mount_asks_serving_disks_in_order(script, methods) -> None:
    script.answers[calls.MountVolume] = refuse(VolumeNotFound.on_mount(7))
    with pytest.raises(VolumedError, match="^volume 7 not found on disk$"):
        methods["VolumeMount"](pb.VolumeMountRequest(volume_id=7))
    assert [where for where, _ in script.worker_calls()] == ["disk-0.5.sock", "disk-1.6.sock"]


def test_delete_succeeds_when_one_disk_had_the_volume(script, methods) -> None:
    missing = iter([True, False])

    def answer(_: calls.DeleteVolume) -> calls.Empty:
        if next(missing):
            raise VolumeNotFound.on_delete(7)
        return calls.Empty()

    script.answers[calls.DeleteVolume] = answer
    methods["VolumeDelete"](pb.VolumeDeleteRequest(volume_id=7, only_empty=True))


@pytest.mark.parametrize(
    ("compat", "missing", "not_empty"),
    [
        ("4.48", (5, "delete volume 7 not found on disk: volume not found"), (9, "DeleteVolume 7: volume not empty")),
        ("4.44", (2, "delete volume 7 not found on disk"), (2, "volume not empty")),
    ],
)
def test_delete_errors_follow_the_profile(script, table, tmp_path, compat, missing, not_empty) -> None:
    delete = served_methods(make_node(script, table, tmp_path, compat))["VolumeDelete"]
    for error, expected in ((VolumeNotFound.on_delete(7), missing), (VolumeNotEmpty.of(7), not_empty)):
        script.answers[calls.DeleteVolume] = refuse(error)
        with pytest.raises(VolumedError) as caught:
            delete(pb.VolumeDeleteRequest(volume_id=7))
        assert (int(caught.value.code), caught.value.text) == expected


def test_batch_delete_keeps_the_order_over_disks(script, methods) -> None:
    script.volumes = {1: 0, 2: 1}
    script.answers[calls.DeleteNeedles] = lambda request: calls.DeletionResults(
        [calls.NeedleDeletion(202, size=needle.key) for needle in request.needles]
    )
    ids = ["2,0a00000001", "nocomma", "1,0b00000001", "9,0c00000001", "2,0d00000001", "1,short"]
    results = methods["BatchDelete"](pb.BatchDeleteRequest(file_ids=ids)).results
    assert [(r.status, r.error, r.size) for r in results] == [
        (202, "", 10),
        (400, "Wrong fid format.", 0),
        (202, "", 11),
        (404, "volume 9 not found", 0),
        (202, "", 13),
        (400, "Invalid fid: short", 0),
    ]
    assert [r.file_id for r in results] == ids


def test_batch_delete_without_cookie_check_names_the_server(methods) -> None:
    request = pb.BatchDeleteRequest(file_ids=["9,0c00000001"], skip_cookie_check=True)
    (result,) = methods["BatchDelete"](request).results
    assert (result.status, result.error) == (500, "volume 9 not found on 10.0.0.7:8080")


def test_mark_readonly_tells_the_master_before_and_after(script, methods) -> None:
    script.volumes = {7: 1}
    script.answers[calls.VolumeStatus] = lambda _: calls.VolumeStatusView(False, 8, 0, 0, "pics", 1, 0, 3, 0, 0)
    methods["VolumeMarkReadonly"](pb.VolumeMarkReadonlyRequest(volume_id=7, persist=True))
    told = calls.MarkReadonlyOnMaster(7, "pics", 1, 0, "ssd", True)
    assert [request for _, request in script.asked[1:]] == [told, calls.MarkReadonly(7, False, True), told]


def test_a_master_that_refuses_leaves_the_volume_writable(script, methods) -> None:
    script.volumes = {7: 1}
    script.answers[calls.VolumeStatus] = lambda _: calls.VolumeStatusView(False, 8, 0, 0, "", 0, 0, 3, 0, 0)
    script.answers[calls.MarkReadonlyOnMaster] = refuse(VolumedError("no master"))
    with pytest.raises(VolumedError, match="no master"):
        methods["VolumeMarkReadonly"](pb.VolumeMarkReadonlyRequest(volume_id=7))
    assert not any(isinstance(request, calls.MarkReadonly) for _, request in script.asked)


def test_absent_state_changes_nothing(script, methods) -> None:
    script.answers[calls.GetState] = lambda _: calls.ServerState(maintenance=True, version=4)
    state = methods["SetState"](pb.SetStateRequest()).state
    assert (state.maintenance, state.version) == (True, 4)
    assert not any(isinstance(request, calls.SetState) for _, request in script.asked)


@pytest.fixture
def channel(script: ScriptedNode, table: NodeTable, tmp_path: Path) -> Iterator[grpc.Channel]:
    write_security(SecuritySettings(), str(tmp_path))
    server = create_server(make_node(script, table, tmp_path), AccessView(table, str(tmp_path)))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    server.stop(0).wait()


def raw_call(channel: grpc.Channel, path: str, payload: bytes = b"") -> tuple[grpc.StatusCode, str, dict[str, str]]:
    call = channel.unary_unary(path, request_serializer=None, response_deserializer=None)
    try:
        _, done = call.with_call(payload, metadata=(("x-amz-request-id", "abc"),), timeout=60)
    except grpc.RpcError as error:
        done = error
    return done.code(), done.details(), dict(done.trailing_metadata())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (f"/{SERVICE}/Foo", f"unknown method Foo for service {SERVICE}"),
        ("/grpc.health.v1.Health/Check", "unknown service grpc.health.v1.Health"),
    ],
)
def test_what_does_not_exist_is_unimplemented(channel, path, text) -> None:
    code, details, _ = raw_call(channel, path)
    assert (code, details) == (grpc.StatusCode.UNIMPLEMENTED, text)


def test_a_response_arrives(script, channel) -> None:
    script.answers[calls.GetState] = lambda _: calls.ServerState(maintenance=True, version=4)
    call = channel.unary_unary(f"/{SERVICE}/GetState", response_deserializer=pb.GetStateResponse.FromString)
    assert call(b"", timeout=60).state.version == 4


def test_request_id_comes_back_and_errors_have_codes(channel) -> None:
    request = pb.VolumeStatusRequest(volume_id=3).SerializeToString()
    code, details, trailing = raw_call(channel, f"/{SERVICE}/VolumeStatus", request)
    assert (code, details) == (grpc.StatusCode.UNKNOWN, "not found volume id 3")
    assert trailing["x-amz-request-id"] == "abc"


def test_an_unexpected_exception_becomes_unknown_with_its_text(script, channel) -> None:
    def answer(_: Any) -> Any:
        raise KeyError("boom")

    script.answers[calls.NodeStatus] = answer
    code, details, _ = raw_call(channel, f"/{SERVICE}/VolumeServerStatus")
    assert (code, details) == (grpc.StatusCode.UNKNOWN, "'boom'")
