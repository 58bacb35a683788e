"""The vacuum handlers against a scripted worker: progress, hanging up, texts and codes of both profiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servicer_kit import FakeCall, ScriptedNode, make_node, refuse, serving_table
from volumed.bus import calls
from volumed.bus.compaction_calls import (
    CheckCompaction,
    CleanupCompaction,
    CommitCompaction,
    CompactionCommitted,
    CompactionProgress,
    CompactionStarted,
    FollowCompaction,
    GarbageRatio,
    StartCompaction,
    StopCompaction,
)
from volumed.errors import Code, CompactionError, NoFreeSpace, VolumedError, VolumeNotFound
from volumed.grpc.server import served_methods
from volumed.nodetable import NodeTable
from volumed.wire import volume_server_pb2 as pb

MIB = 1 << 20


@pytest.fixture
def script() -> ScriptedNode:
    return ScriptedNode(volumes={7: 1})


@pytest.fixture
def table(tmp_path: Path) -> Iterator[NodeTable]:
    with serving_table(tmp_path) as table:
        yield table


@pytest.fixture
def methods(script: ScriptedNode, table: NodeTable, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    return lambda compat: served_methods(make_node(script, table, tmp_path, compat))


def _progress(*steps: int) -> Callable[[Any], CompactionProgress]:
    left = list(steps)
    return lambda _: CompactionProgress(left.pop(0), done=not left)


def test_progress_is_told_every_128_mib(script, methods) -> None:
    script.answers[StartCompaction] = lambda _: CompactionStarted(3)
    script.answers[FollowCompaction] = _progress(*(size * MIB for size in (0, 100, 128, 129, 200, 257, 258, 900)))
    request = pb.VacuumVolumeCompactRequest(volume_id=7, preallocate=5)
    told = list(methods("4.48")["VacuumVolumeCompact"](request, FakeCall()))
    assert [message.processed_bytes // MIB for message in told] == [129, 258, 900]
    assert all(message.load_avg_1m >= 0 for message in told)
    asked = [request for _, request in script.worker_calls()]
    assert asked[0] == StartCompaction(7, 5)
    assert set(asked[1:]) == {FollowCompaction(3)}


def test_a_client_that_hangs_up_stops_it(script, methods) -> None:
    script.answers[StartCompaction] = lambda _: CompactionStarted(3)
    script.answers[FollowCompaction] = lambda _: CompactionProgress(0, done=False)
    assert not list(methods("4.48")["VacuumVolumeCompact"](pb.VacuumVolumeCompactRequest(volume_id=7), FakeCall(2)))
    assert script.worker_calls()[-1][1] == StopCompaction(3)


def test_one_that_is_under_way_is_no_error(script, methods) -> None:
    script.answers[StartCompaction] = lambda _: CompactionStarted(0)
    assert not list(methods("4.48")["VacuumVolumeCompact"](pb.VacuumVolumeCompactRequest(volume_id=7), FakeCall()))
    assert [request for _, request in script.worker_calls()] == [StartCompaction(7)]


def test_check_commit_and_cleanup(script, methods) -> None:
    script.answers[CheckCompaction] = lambda _: GarbageRatio(0.25)
    script.answers[CommitCompaction] = lambda _: CompactionCommitted(is_read_only=True, volume_size=99)
    served = methods("4.48")
    assert served["VacuumVolumeCheck"](pb.VacuumVolumeCheckRequest(volume_id=7)).garbage_ratio == 0.25
    committed = served["VacuumVolumeCommit"](pb.VacuumVolumeCommitRequest(volume_id=7))
    assert (committed.is_read_only, committed.volume_size) == (True, 99)
    served["VacuumVolumeCleanup"](pb.VacuumVolumeCleanupRequest(volume_id=7))
    assert script.worker_calls()[-1] == ("disk-1.2.sock", CleanupCompaction(7))


_REQUESTS = {
    "VacuumVolumeCheck": pb.VacuumVolumeCheckRequest,
    "VacuumVolumeCompact": pb.VacuumVolumeCompactRequest,
    "VacuumVolumeCommit": pb.VacuumVolumeCommitRequest,
    "VacuumVolumeCleanup": pb.VacuumVolumeCleanupRequest,
}


def _error(methods: Any, compat: str, rpc: str, volume_id: int) -> VolumedError:
    behaviour, request = methods(compat)[rpc], _REQUESTS[rpc](volume_id=volume_id)
    with pytest.raises(VolumedError) as caught:
        list(behaviour(request, FakeCall())) if rpc == "VacuumVolumeCompact" else behaviour(request)
    return caught.value


@pytest.mark.parametrize(
    ("rpc", "text"),
    [
        ("VacuumVolumeCheck", "volume id 9 is not found during check compact"),
        ("VacuumVolumeCompact", "compact volume 9: volume id 9 is not found during compact"),
        ("VacuumVolumeCommit", "commit compact volume 9: volume id 9 is not found during commit compact"),
        ("VacuumVolumeCleanup", "cleanup volume 9: volume id 9 is not found during cleaning up"),
    ],
)
def test_missing_volumes_as_each_release_says_it(script, methods, rpc: str, text: str) -> None:
    new, old = _error(methods, "4.48", rpc, 9), _error(methods, "4.44", rpc, 9)
    assert (new.text, new.code) == (text + ": volume not found", Code.NOT_FOUND)
    assert (old.text, old.code) == (text, Code.UNKNOWN)
    script.volumes[9] = 0
    for request in (CheckCompaction, StartCompaction, CommitCompaction, CleanupCompaction):
        script.answers[request] = refuse(VolumeNotFound.of(9))
    assert _error(methods, "4.48", rpc, 9).text == new.text, "unmounted since the look-up"


@pytest.mark.parametrize(("compat", "code"), [("4.48", Code.RESOURCE_EXHAUSTED), ("4.44", Code.UNKNOWN)])
def test_no_space_as_each_release_says_it(script, methods, compat: str, code: Code) -> None:
    script.answers[StartCompaction] = lambda _: CompactionStarted(3)
    error = NoFreeSpace.for_compaction(7, 9, 5, 4, 1)
    script.answers[FollowCompaction] = refuse(error)
    found = _error(methods, compat, "VacuumVolumeCompact", 7)
    assert (found.text, found.code) == (error.text, code)


def test_errors_say_what_was_being_done(script, methods) -> None:
    script.answers[CommitCompaction] = refuse(CompactionError.swap_aborted(7))
    script.answers[CleanupCompaction] = refuse(CompactionError.committing(7))
    aborted = "commit compact volume 7: volume 7 compact swap aborted: missing .cpd/.cpx"
    assert _error(methods, "4.48", "VacuumVolumeCommit", 7).text == aborted
    refused = "cleanup volume 7: volume 7: refusing cleanup while commit marker present"
    assert _error(methods, "4.48", "VacuumVolumeCleanup", 7).text == refused


@pytest.mark.parametrize("rpc", ["VacuumVolumeCompact", "VacuumVolumeCommit", "VacuumVolumeCleanup"])
def test_maintenance_refuses_before_anything_else(script, methods, rpc: str) -> None:
    script.answers[calls.GetState] = lambda _: calls.ServerState(maintenance=True, version=1)
    assert _error(methods, "4.48", rpc, 9).text == "volume server 10.0.0.7:8080 is in maintenance mode"
    assert script.worker_calls() == []
