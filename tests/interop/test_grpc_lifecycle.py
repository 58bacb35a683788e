"""The same gRPC calls against ``weed volume`` and volumed: status code, text and response fields must be equal.

The calls run in order on one node each, so that later ones meet the state that earlier ones left.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.grpc_kit import (
    Call,
    Put,
    allocate,
    batch_delete,
    mount,
    played_by_both,
    readonly,
    set_state,
    status,
    unmount,
    writable,
)
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop


def delete(volume_id: int, **fields: bool) -> Call:
    return Call("VolumeDelete", pb.VolumeDeleteRequest(volume_id=volume_id, **fields))


STEPS = [
    # allocation
    allocate(101), status(101), allocate(101), allocate(101, version=0), allocate(102, collection="pics", ttl="7d"),
    allocate(103, replication="001"), allocate(104, replication="1"), allocate(105, replication="abc"),
    allocate(105, replication="00!"), allocate(105, replication="999"), allocate(105, ttl="x"), allocate(105, ttl="3x"),
    allocate(106, ttl="-1m"), allocate(107, disk_type="HDD"), allocate(108, disk_type="ssd"),
    allocate(109, preallocate=1 << 20), status(109), allocate(0), status(0), allocate(110, collection="a_b"),
    allocate(101, disk_type="ssd"), allocate(101, replication="abc"), allocate(101, ttl="x"),
    # status of what is not there
    status(999),
    # mount and unmount
    unmount(999), mount(999), unmount(101), status(101), mount(101), mount(101), status(101), mount(102, "pics"),
    unmount(102), mount(102, "wrong"), mount(110), unmount(110), unmount(110), mount(110, "a_b"),
    # needles
    Put("101,0111111111"), Put("101,0222222222"), Put("101,0333333333"), status(101),
    batch_delete(), batch_delete("101,0111111112", "101,0111111111", "101,0111111111"),
    batch_delete("nocomma", ",0111111111", "x,0111111111", "9,0111111111", "101,short", "101,", "101,zz11111111"),
    batch_delete("101,011111zz11", "101,01111111111111111111111111", "101,0122222222_1", "101,0122222222_x"),
    batch_delete("101,0122222222_", "101,ff22222222"), batch_delete("101,0399999999", skip=True),
    batch_delete("101,0399999999", "9,0399999999", "x", "101,short", skip=True), status(101),
    # marks
    readonly(999), writable(999), Put("101,0444444444"), readonly(101), status(101),
    batch_delete("101,0444444444"), readonly(101, can_delete=True), status(101), batch_delete("101,0444444444"),
    writable(101), status(101), readonly(102, persist=True), unmount(102), mount(102), status(102), writable(102),
    # node state
    Call("GetState", pb.GetStateRequest()), Call("SetState", pb.SetStateRequest()),
    set_state(5, maintenance=True), set_state(0, maintenance=True), Call("GetState", pb.GetStateRequest()),
    allocate(120), allocate(120, replication="abc"), batch_delete("101,0111111111"), readonly(999), writable(101),
    writable(999), unmount(107), mount(107), status(107), delete(106, only_empty=True), delete(999),
    set_state(1, maintenance=False), allocate(120), status(120),
    # deletion
    delete(999), delete(101, only_empty=True), delete(101, only_garbage=True), delete(120, only_garbage=True),
    delete(120, only_empty=True), status(120), delete(101), status(101), mount(101),
    Call("DeleteCollection", pb.DeleteCollectionRequest(collection="unknown")),
    Call("DeleteCollection", pb.DeleteCollectionRequest(collection="pics")), status(102),
    Call("DeleteCollection", pb.DeleteCollectionRequest(collection="")), status(103), status(110),
    # ping and leave
    Call("Ping", pb.PingRequest(target="127.0.0.1:1", target_type="master")),
    Call("Ping", pb.PingRequest(target="127.0.0.1:1", target_type="filer")),
    Call("VolumeServerLeave", pb.VolumeServerLeaveRequest()), Call("VolumeServerLeave", pb.VolumeServerLeaveRequest()),
]  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[Any]]:
    return played_by_both(tmp_path_factory.mktemp("grpc"), lambda node: [node.run(step) for step in STEPS])


@pytest.mark.parametrize("index", range(len(STEPS)), ids=lambda i: f"{i:03}-{STEPS[i].rpc}")
def test_answers_are_equal(answers: tuple[list[Any], list[Any]], index: int) -> None:
    reference, ours = answers
    assert ours[index] == reference[index], STEPS[index]
