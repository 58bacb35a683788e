"""The worker is killed at every single step of a vacuum, among writes and deletes; what was acknowledged holds."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import grpc
import pytest

from tests.grpc_kit import Node
from tests.journal import ABSENT, Journal, fingerprint, run_clients
from tests.kill_kit import MortalNode, only, paths_to
from tests.kills import check
from tests.probe.fakes.fate import AFTER, BEFORE, HALFWAY
from tests.processes import wait_until
from tests.web import assign, delete, get_json, upload
from volumed.wire import volume_server_pb2 as pb

pytestmark = [pytest.mark.probe, pytest.mark.timeout(600)]

LIMIT_S = 60.0
FILE_STEPS = [
    "create:.cpd", "create:.cpx", "truncate:.cpd", "truncate:.cpx",
    "write:.cpd", "write:.cpd", "write:.cpx", "flush:.cpd", "flush:.cpx",  # superblock, records, index
    "flush:.cpd", "flush:.cpx",                                            # what has been written since, beforehand
    "copy:.cpd", "write:.cpx", "flush:.cpd", "flush:.cpx",                 # writes wait from here on
    "create:.cpc", "flush:.cpc", "flush:directory",                        # the old files count until here
    "rename:.cpd", "rename:.cpx", "flush:directory", "remove:.cpc", "flush:directory",
]  # fmt: skip
MAP_STEPS = [
    "map:number", "map:entries",    # a new map id, its entries
    "map:entries",                  # what has been written since
    "map:record", "map:entries",    # the volume has its new files; the old entries go
]  # fmt: skip
PATHS = [*paths_to(FILE_STEPS, {"flush:directory"}), *paths_to(MAP_STEPS, {"map:entries"})]
LAST_OF_FILES, LAST_OF_MAP = PATHS[len(FILE_STEPS) - 1], PATHS[-1]
DEATHS = [
    *[(path, BEFORE) for path in PATHS],
    *[(path, HALFWAY) for path in PATHS if path[-1].startswith(("write", "copy"))],
    (LAST_OF_FILES, AFTER),
    (LAST_OF_MAP, AFTER),
]


class Scene:
    """A volume of its own: objects that are written, overwritten and deleted in front of a vacuum and in it."""

    def __init__(self, node: MortalNode, calls: Node, collection: str) -> None:
        self.journal = Journal()
        self.collection = collection
        self._node = node
        self._calls = calls
        self._rounds = itertools.count(1)
        self._fids = [assign(node.address, collection=collection).fid for _ in range(8)]
        self.volume_id = int(self._fids[0].partition(",")[0])
        for fid in self._fids:
            self.journal.add(fid)
            self._put(fid, fid.encode() * 50)
        self._put(self._fids[0], b"overwritten")
        self._delete(self._fids[1])

    def vacuum(self) -> None:
        """With a write and a delete in the middle. Raises `grpc.RpcError`."""
        stub = self._calls.stub
        list(stub.VacuumVolumeCompact(pb.VacuumVolumeCompactRequest(volume_id=self.volume_id), timeout=LIMIT_S))
        self._put(self._fids[2], b"vacuum %d" % next(self._rounds))
        self._delete(self._fids[3])
        stub.VacuumVolumeCommit(pb.VacuumVolumeCommitRequest(volume_id=self.volume_id), timeout=LIMIT_S)

    def check(self, when: str) -> None:
        """Everything acknowledged holds, the volume takes writes, and nothing lies around."""
        check(self.journal, self._node, when)
        [volume] = [each for each in get_json(self._node.address, "/status")["Volumes"] if each["Id"] == self.volume_id]
        assert not volume["ReadOnly"]
        self._put(self._fids[4], when.encode())
        leftovers = {".cpc", ".cpd", ".cpx", ".tmp"}
        wait_until(
            lambda: not any(path.suffix in leftovers for path in self._node.dirs[0].iterdir()),
            timeout_s=LIMIT_S, what="only files of volumes",
        )  # fmt: skip

    def _put(self, fid: str, content: bytes) -> None:
        with self.journal.operation(fid, fingerprint(200, content)):
            assert upload(self._node.address, fid, content).status == 201

    def _delete(self, fid: str) -> None:
        with self.journal.operation(fid, ABSENT):
            assert delete(self._node.address, fid).status in (202, 404)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalNode]:
    with MortalNode(tmp_path_factory.mktemp("mortal"), volumes_max=100) as node:
        yield node


@pytest.fixture(scope="module")
def calls(node: MortalNode) -> Iterator[Node]:
    with Node(node) as calls:
        yield calls


def test_these_are_all_steps(node: MortalNode, calls: Node) -> None:
    scene = Scene(node, calls, "quiet")
    node.forget_steps()
    scene.vacuum()
    wait_until(lambda: map_steps(node) == MAP_STEPS, timeout_s=LIMIT_S, what=f"{MAP_STEPS}")
    assert only(node.steps(), ".cpd", ".cpx", ".cpc", "directory") == FILE_STEPS
    scene.check("after a vacuum")


def map_steps(node: MortalNode) -> list[str]:
    return only(node.steps(), "number", "entries", "record")


@pytest.mark.parametrize(("path", "moment"), DEATHS, ids=[f"{moment}-{'-'.join(path)}" for path, moment in DEATHS])
def test_a_kill_at_a_step_loses_nothing(node: MortalNode, calls: Node, path: list[str], moment: str) -> None:
    collection = f"c{DEATHS.index((path, moment))}"
    scene = Scene(node, calls, collection)
    with (
        run_clients(node.address, scene.journal, [[], []], seed=1, collection=collection),
        node.dying_at(path, moment),
        contextlib.suppress(grpc.RpcError),
    ):
        scene.vacuum()
    scene.check("after the kill")
    scene.vacuum()
    scene.check("after another vacuum")
