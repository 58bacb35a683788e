"""Standalone mode: keys and ids that are never used twice, volumes on demand, look-ups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.node import Node
from supervisor.standalone import IdStore, Standalone
from volumed.bus import calls, events
from volumed.config.node import DiskConfig, NodeConfig
from volumed.errors import ClientError, FormatError, NodeError, NoFreeSpace, VolumedError, VolumeNotFound
from volumed.formats.fileid import parse_batch_file_id
from volumed.formats.report import EcVolumeReport, VolumeReport
from volumed.nodetable import DiskState

LIMIT = 1000


class Answer:
    """A `Reply` that remembers."""

    value: Any = None

    def result(self, value: Any = None) -> None:
        assert self.value is None
        self.value = value if value is not None else calls.Empty()

    def error(self, error: VolumedError) -> None:
        assert self.value is None
        self.value = error


class Jobs:
    """Work waits until the test lets it run."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Any, Any, Any]] = []

    def submit(self, work: Any, done: Any, failed: Any) -> None:
        self.waiting.append((work, done, failed))

    def run(self) -> None:
        while self.waiting:
            work, done, failed = self.waiting.pop(0)
            try:
                value = work()
            except VolumedError as error:
                failed(error)
            else:
                done(value)


class Setup:
    """A standalone node whose workers create volumes in memory."""

    def __init__(self, tmp_path: Path, disks: int = 1, volumes_max: int = 3) -> None:
        configs = tuple(
            DiskConfig(i, str(tmp_path / f"d{i}"), str(tmp_path / f"d{i}"), volumes_max=volumes_max)
            for i in range(disks)
        )
        self.config = NodeConfig(
            runtime_dir=str(tmp_path), map_dir=str(tmp_path), state_dir=str(tmp_path / "state"), disks=configs,
            ip="127.0.0.1", port=8080, public_url="pub:1", volume_size_limit_bytes=LIMIT,
        )  # fmt: skip
        self.node = Node(self.config)
        for disk in self.node.disks:
            disk.state, disk.epoch = DiskState.OK, 1
        self.jobs = Jobs()
        self.failure: VolumedError | None = None
        self.created: list[calls.AllocateVolume] = []
        self.restart()

    def restart(self) -> None:
        ids = IdStore(self.config.state_dir, self.config.disks[0].directory)
        self.standalone = Standalone(self.config, self.node, ids, self.jobs, self)

    def call(self, endpoint: str, request: calls.AllocateVolume, _: float) -> None:
        """The worker's side of an allocation."""
        if self.failure is not None:
            raise self.failure
        self.created.append(request)
        disk_id = next(i for i in range(len(self.node.disks)) if endpoint == self.config.worker_endpoint(i, 1))
        self.mount(request.volume_id, disk_id, collection=request.collection, ttl=request.ttl)

    def mount(self, volume_id: int, disk_id: int = 0, **fields: Any) -> None:
        report = VolumeReport(**{"id": volume_id, "size": 8, "disk_id": disk_id, **fields})
        volume = events.VolumeStatistics(report, content_bytes=0)
        self.node.take_changes(events.VolumesChanged(disk_id, 1, [volume], []))
        self.standalone.volumes_reported()

    def assign(self, **fields: Any) -> Any:
        answer = Answer()
        self.standalone.assign(calls.AssignFileId(**fields), answer)
        self.jobs.run()
        return answer.value


@pytest.fixture
def setup(tmp_path):
    return Setup(tmp_path)


def fid(assignment: calls.Assignment):
    return parse_batch_file_id(assignment.fid)


def test_first_assignment_creates_a_volume(setup):
    assignment = setup.assign()
    assert (fid(assignment).volume_id, fid(assignment).key) == (1, 1)
    assert (assignment.url, assignment.public_url, assignment.count) == ("127.0.0.1:8080", "pub:1", 1)
    assert [(request.volume_id, request.version) for request in setup.created] == [(1, 3)]


def test_keys_grow_by_the_count_and_cookies_differ(setup):
    given = [setup.assign(count=count) for count in (1, 5, 1)]
    assert [fid(one).key for one in given] == [1, 2, 7]
    assert len({fid(one).cookie for one in given}) == 3


def test_no_key_is_given_twice_across_a_crash(setup):
    before = fid(setup.assign()).key
    setup.restart()
    assert fid(setup.assign()).key > before


def test_keys_stay_above_what_is_stored(setup):
    setup.mount(1)
    setup.node.disks[0].max_file_key = 1_000_000
    assert fid(setup.assign()).key == 1_000_001
    setup.node.disks[0].max_file_key = 2_000_000
    assert fid(setup.assign()).key == 2_000_001


def test_a_foreign_huge_key_does_not_exhaust_ours(setup):
    setup.mount(1)
    setup.node.disks[0].max_file_key = (1 << 64) - 1
    assert fid(setup.assign()).key == 1


def test_a_large_count_gets_consecutive_keys(setup):
    first = fid(setup.assign(count=100_000)).key
    assert fid(setup.assign()).key >= first + 100_000


@pytest.mark.parametrize("count", [0, -1, 100_001])
def test_count_has_limits(setup, count):
    with pytest.raises(ClientError):
        setup.assign(count=count)


@pytest.mark.parametrize("fields", [{"ttl": "xm"}, {"collection": "../x"}])
def test_bad_parameters_are_refused(setup, fields):
    with pytest.raises(FormatError):
        setup.assign(**fields)


def test_collections_and_ttls_have_volumes_of_their_own(setup):
    volumes = {fid(setup.assign(**fields)).volume_id for fields in ({}, {"collection": "c"}, {"ttl": "3d"})}
    assert len(volumes) == 3
    assert [(request.collection, request.ttl) for request in setup.created] == [("", 0), ("c", 0), ("", 771)]
    assert fid(setup.assign(ttl="72h")).volume_id == 3, "the same time in other words"


def test_every_disk_gets_a_volume(tmp_path):
    setup = Setup(tmp_path, disks=2)
    setup.assign()
    assert sorted(volume for disk in setup.node.disks for volume in disk.volumes) == [1, 2]
    assert all(disk.volumes for disk in setup.node.disks)


@pytest.mark.parametrize("full", [{"size": LIMIT}, {"read_only": True}])
def test_full_and_read_only_volumes_are_passed_over(setup, full):
    setup.mount(1, **full)
    assert fid(setup.assign()).volume_id == 2


def test_a_stuck_disk_gets_nothing(tmp_path):
    setup = Setup(tmp_path, disks=2)
    setup.mount(1, 0)
    setup.node.disks[0].state = DiskState.STUCK
    setup.standalone.volumes_reported()
    assignment = fid(setup.assign())
    assert assignment.volume_id in setup.node.disks[1].volumes


def test_no_room_is_an_answer(tmp_path):
    setup = Setup(tmp_path, volumes_max=1)
    setup.mount(1, read_only=True)
    assert isinstance(setup.assign(), NoFreeSpace)


def test_a_failed_allocation_is_answered_and_tried_again_next_time(setup):
    setup.failure = VolumedError("disk says no")
    assert setup.assign().text == "disk says no"
    setup.failure = None
    assert isinstance(setup.assign(), calls.Assignment)


def test_many_waiting_requests_share_one_allocation(setup):
    answers = [Answer() for _ in range(5)]
    for answer in answers:
        setup.standalone.assign(calls.AssignFileId(), answer)
    setup.jobs.run()
    assert len(setup.created) == 1
    assert len({fid(answer.value).key for answer in answers}) == 5


def test_volume_ids_are_not_used_again_after_a_delete(setup):
    setup.assign()
    setup.node.disks[0].volumes.clear()
    setup.restart()
    assert fid(setup.assign()).volume_id == 2


def test_ids_that_cannot_be_kept_are_not_given(setup, tmp_path):
    (tmp_path / "state").write_text("a file where the directory should be")
    setup.mount(1)
    assert isinstance(setup.assign(), NodeError)


def test_damaged_counters_stop_the_start(tmp_path):
    setup = Setup(tmp_path)
    setup.assign()
    (path,) = (tmp_path / "state").iterdir()
    path.write_text("{")
    with pytest.raises(NodeError):
        setup.restart()


def test_nodes_of_one_user_do_not_share_counters(tmp_path):
    first, second = (IdStore(str(tmp_path), str(tmp_path / name)) for name in "ab")
    first.use_volume_id(9)
    assert second.last_volume_id == 0
    assert IdStore(str(tmp_path), str(tmp_path / "a")).last_volume_id == 9


def test_look_up_names_this_node(setup):
    setup.mount(4)
    answer = Answer()
    setup.standalone.look_up(calls.LookupVolume(4), answer)
    assert answer.value.locations == [calls.Location("127.0.0.1:8080", "pub:1", 18080)]
    with pytest.raises(VolumeNotFound):
        setup.standalone.look_up(calls.LookupVolume(5), answer)


def test_shards_that_are_mounted_are_here(setup):
    answer = Answer()
    setup.node.disks[0].ec_volumes[4] = EcVolumeReport(4, "", {3: 1, 0: 1}, 0)
    setup.standalone.look_up_shards(calls.LookupEcVolume(4), answer)
    here = [calls.Location("127.0.0.1:8080", "pub:1", 18080)]
    assert answer.value.shards == {0: here, 3: here}
    with pytest.raises(VolumeNotFound, match="ec volume 5 not found"):
        setup.standalone.look_up_shards(calls.LookupEcVolume(5), answer)


def test_there_is_no_master(setup):
    answer = Answer()
    setup.standalone.mark_readonly(calls.MarkReadonlyOnMaster(1, "", 0, 0, "", True), answer)
    assert answer.value == calls.Empty()
    with pytest.raises(VolumedError, match="unknown ping target"):
        setup.standalone.ping(calls.PingMaster("x:1", "master"), answer)
