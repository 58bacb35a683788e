"""RPCs that make and remove shards, against a scripted node of three disks, the last of which has failed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ec_sets import EncodedSet
from tests.servicer_kit import FakeCall, ScriptedNode, make_node, serving_table
from volumed.bus import ec_calls
from volumed.erasure.journal import encode_journal
from volumed.errors import Code, DiskUnavailable, RetryError, VolumedError
from volumed.grpc.server import served_methods
from volumed.nodetable import DiskState, NodeTable
from volumed.wire import volume_server_pb2 as pb


@pytest.fixture
def script() -> ScriptedNode:
    script = ScriptedNode()
    script.answers[ec_calls.DeleteShards] = lambda _: ec_calls.ShardsRemaining([])
    script.answers[ec_calls.ListEcFiles] = lambda _: listing()
    script.answers[ec_calls.StartRebuild] = lambda _: ec_calls.EcJobStarted(5)
    return script


@pytest.fixture
def table(tmp_path: Path) -> Iterator[NodeTable]:
    with serving_table(tmp_path) as table:
        yield table


def listing() -> ec_calls.EcListing:
    files = ec_calls.EcFilesView("", 7, {0: 100}, [], {".ecx": 17}, {".ecx": 17}, [])
    return ec_calls.EcListing(ec_calls.EcDirectories("/none", "/none"), [files])


def of_runs(*runs: int) -> Callable[[ec_calls.ListEcFiles], ec_calls.EcListing]:
    """One disk after the other has all shards of an encode run, mounted."""
    shards = range(14)
    answers = iter(
        ec_calls.EcListing(
            ec_calls.EcDirectories(f"/run-{number}", f"/run-{number}"),
            [
                ec_calls.EcFilesView(
                    "", 7, dict.fromkeys(shards, 100), [], {".ecx": 17}, {}, list(shards), encode_ts_ns=number
                )
            ],
        )
        for number in runs
    )
    return lambda _: next(answers)


def run(name: str, script: ScriptedNode, table: NodeTable, tmp_path: Path, call: FakeCall, **fields: Any) -> Any:
    method = served_methods(make_node(script, table, tmp_path))[name]
    return method(getattr(pb, f"{name}Request")(volume_id=7, **fields), call)


def kinds(script: ScriptedNode) -> list[tuple[str, str]]:
    return [(where.split(".")[0], type(request).__name__) for where, request in script.worker_calls()]


def test_a_call_that_is_cancelled_stops_its_job(script: ScriptedNode, table: NodeTable, tmp_path: Path) -> None:
    script.answers[ec_calls.FollowEcJob] = lambda _: ec_calls.EcJobProgress(1, 10, done=False)
    with pytest.raises(VolumedError) as failure:
        run("VolumeEcShardsRebuild", script, table, tmp_path, FakeCall(waits=3))
    assert failure.value.code is Code.CANCELLED
    assert kinds(script)[-4:] == [("disk-0", "FollowEcJob")] * 3 + [("disk-0", "StopEcJob")]
    assert script.worker_calls()[-1][1] == ec_calls.StopEcJob(5)


def test_a_job_of_which_nothing_is_heard_is_stopped(script: ScriptedNode, table: NodeTable, tmp_path: Path) -> None:
    def follow(_: ec_calls.FollowEcJob) -> ec_calls.EcJobProgress:
        raise RetryError("timed out")

    script.answers[ec_calls.FollowEcJob] = follow
    with pytest.raises(RetryError):
        run("VolumeEcShardsRebuild", script, table, tmp_path, FakeCall())
    assert script.worker_calls()[-1][1] == ec_calls.StopEcJob(5)


@pytest.mark.parametrize("name", ["VolumeEcShardsRebuild", "VolumeEcShardsToVolume"])
def test_an_older_encode_run_takes_no_part(script: ScriptedNode, table: NodeTable, tmp_path: Path, name: str) -> None:
    """Its disk was away while the volume was encoded anew: ids that it calls deleted may have been used again."""
    script.answers[ec_calls.ListEcFiles] = of_runs(5, 9, 0)
    script.answers[ec_calls.StartDecode] = lambda _: ec_calls.EcJobStarted(5)
    script.answers[ec_calls.FollowEcJob] = lambda _: ec_calls.EcJobProgress(1, 1, done=True)
    run(name, script, table, tmp_path, FakeCall())
    jobs = [
        (where.split(".")[0], [other.data for other in request.others])
        for where, request in script.worker_calls()
        if isinstance(request, ec_calls.StartDecode | ec_calls.StartRebuild)
    ]
    assert jobs == [("disk-1", ["/run-0"])]


@pytest.mark.parametrize(
    ("place", "target"), [("nowhere", "disk-0"), ("mounted", "disk-2"), ("lying", "disk-1")], ids=str
)
def test_a_volume_is_decoded_where_it_is(
    script: ScriptedNode, table: NodeTable, tmp_path: Path, place: str, target: str
) -> None:
    """Another one of the id would be loaded beside it at the next start."""

    def answer(_: ec_calls.ListEcFiles) -> ec_calls.EcListing:
        number = next(numbers)
        data = {".ecx": 17} | ({".dat": 100} if place == "lying" and number == 1 else {})
        shards = range(14)
        files = ec_calls.EcFilesView("", 7, dict.fromkeys(shards, 100), [], data, {}, list(shards), encode_ts_ns=9)
        return ec_calls.EcListing(ec_calls.EcDirectories("/none", "/none"), [files])

    numbers = iter(range(3))
    script.answers[ec_calls.ListEcFiles] = answer
    script.answers[ec_calls.StartDecode] = lambda _: ec_calls.EcJobStarted(5)
    script.answers[ec_calls.FollowEcJob] = lambda _: ec_calls.EcJobProgress(1, 1, done=True)
    script.volumes = {7: 2} if place == "mounted" else {}
    run("VolumeEcShardsToVolume", script, table, tmp_path, FakeCall())
    assert [where for where, name in kinds(script) if name == "StartDecode"] == [target]


def test_a_volume_is_not_decoded_beside_one_on_another_disk(
    script: ScriptedNode, table: NodeTable, tmp_path: Path
) -> None:
    script.answers[ec_calls.ListEcFiles] = of_runs(5, 9, 0)
    script.volumes = {7: 0}
    with pytest.raises(VolumedError, match="volume 7 is mounted on disk 0, its shards are on others: remove it first"):
        run("VolumeEcShardsToVolume", script, table, tmp_path, FakeCall())
    assert "StartDecode" not in [name for _, name in kinds(script)]


def test_deletions_are_not_told_to_another_index(script: ScriptedNode, table: NodeTable, tmp_path: Path) -> None:
    """Where a disk does not know its encode run."""
    encoded, another = EncodedSet(tmp_path / "set"), EncodedSet(tmp_path / "other", needles=9)
    kinds_of_disk = [(encoded, (".ecx", ".vif"), [4], 9), (another, (".ecx",), [5], 0), (encoded, (".ecx",), [6], 0)]
    listings = []
    for number, (files, sidecars, deleted, encode_run) in enumerate(kinds_of_disk):
        directory = tmp_path / f"disk-{number}"
        files.place(directory, 7, (0,), sidecars)
        (directory / "7.ecj").write_bytes(encode_journal(deleted))
        view = ec_calls.EcFilesView("", 7, {0: 100}, [], dict.fromkeys(sidecars, 17), {}, [0], encode_ts_ns=encode_run)
        listings.append(ec_calls.EcListing(ec_calls.EcDirectories(str(directory), str(directory)), [view]))
    answers = iter(listings)
    script.answers[ec_calls.ListEcFiles] = lambda _: next(answers)
    script.answers[ec_calls.FollowEcJob] = lambda _: ec_calls.EcJobProgress(1, 1, done=True)
    run("VolumeEcShardsRebuild", script, table, tmp_path, FakeCall())
    told = {
        where.split(".")[0]: request.keys
        for where, request in script.worker_calls()
        if isinstance(request, ec_calls.MergeJournal)
    }
    assert told == {"disk-0": [6], "disk-2": [4]}
    assert [where for where, name in kinds(script) if name == "FoldJournal"] == ["disk-0", "disk-1", "disk-2"]


def test_of_a_shard_on_several_disks_the_latest_run_is_mounted(
    script: ScriptedNode, table: NodeTable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    script.answers[ec_calls.ListEcFiles] = of_runs(5, 9, 0, 5, 9, 0)
    script.answers[ec_calls.MountShards] = lambda _: ec_calls.ShardsMounted([ec_calls.ShardMount(3, mounted=True)])
    run("VolumeEcShardsMount", script, table, tmp_path, FakeCall(), shard_ids=[3, 4, 13])
    assert [where for where, name in kinds(script) if name == "MountShards"] == ["disk-1"] * 3
    assert caplog.messages == ["/run-9: mounted shards [3, 4, 13] of volume 7"]


def test_index_and_layout_come_from_a_disk_of_the_same_run(
    script: ScriptedNode, table: NodeTable, tmp_path: Path
) -> None:
    """The shard's disk knows its run, and has no index."""
    whole = {".ecx": 17, ".vif": 9}
    runs = iter([(9, whole, {1: 100}), (5, whole, {2: 100}), (5, {".vif": 9}, {3: 100})] * 2)

    def answer(_: ec_calls.ListEcFiles) -> ec_calls.EcListing:
        number, data, shards = next(runs)
        files = ec_calls.EcFilesView("", 7, shards, [], data, {}, [], encode_ts_ns=number)
        return ec_calls.EcListing(ec_calls.EcDirectories(f"/run-{number}", f"/run-{number}"), [files])

    script.answers[ec_calls.ListEcFiles] = answer
    script.answers[ec_calls.MountShards] = lambda _: ec_calls.ShardsMounted([ec_calls.ShardMount(3, mounted=True)])
    run("VolumeEcShardsMount", script, table, tmp_path, FakeCall(), shard_ids=[3])
    mirrors = [request for _, request in script.worker_calls() if isinstance(request, ec_calls.MirrorSidecars)]
    assert [(mirror.source.data, mirror.extensions) for mirror in mirrors] == [("/run-5", [".ecx", ".ecj"])]


@pytest.mark.parametrize("state", [DiskState.OPENING, DiskState.STUCK], ids=["opening", "stuck"])
def test_a_disk_that_may_come_back_soon_is_waited_for(
    script: ScriptedNode, table: NodeTable, tmp_path: Path, state: DiskState
) -> None:
    table.disks[1].set_state(state)
    for name in ("VolumeEcShardsDelete", "VolumeEcShardsRebuild", "VolumeEcShardsToVolume"):
        with pytest.raises(DiskUnavailable, match=f"disk 1 is {state.name.lower()}") as failure:
            run(name, script, table, tmp_path, FakeCall())
        assert failure.value.code is Code.UNAVAILABLE
    assert not script.worker_calls()


@pytest.mark.parametrize("failed", [False, True], ids=["all-serve", "one-failed"])
def test_an_index_stays_while_a_disk_has_failed(
    script: ScriptedNode, table: NodeTable, tmp_path: Path, failed: bool
) -> None:
    if failed:
        table.disks[2].set_state(DiskState.FAILED)
    run("VolumeEcShardsDelete", script, table, tmp_path, FakeCall(), shard_ids=[1])
    serving = ["disk-0", "disk-1"] if failed else ["disk-0", "disk-1", "disk-2"]
    deleted = [(disk, "DeleteShards") for disk in serving]
    assert kinds(script) == (deleted if failed else deleted + [(disk, "DeleteEcIndex") for disk in serving])


def test_a_collection_that_would_leave_the_directory(script: ScriptedNode, table: NodeTable, tmp_path: Path) -> None:
    with pytest.raises(VolumedError, match='invalid collection "../x"'):
        run("VolumeEcShardsDelete", script, table, tmp_path, FakeCall(), collection="../x", full_teardown=True)
    assert not script.worker_calls()
