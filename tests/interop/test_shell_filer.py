"""Commands of ``weed shell`` that go by what a filer knows, where each object is on two servers, both of ours or one of
the reference: ``volume.fsck`` in both directions, and ``remote.cache`` of another cluster's objects."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster import Filer, Master, Volumed, VolumeServer, WeedVolume, weed_shell
from tests.processes import wait_until
from tests.shell_kit import LIMIT_S, TRUST
from tests.tier_kit import BUCKET, ObjectStore
from tests.web import assign, delete, get, get_json, request, upload

pytestmark = pytest.mark.interop

CHUNK_BYTES = 1 << 20
BINARY = {"Content-Type": "application/x-thing"}


class Setting(NamedTuple):
    master: Master
    filer: Filer
    nodes: tuple[VolumeServer, VolumeServer]

    def shell(self, *commands: str) -> str:
        return weed_shell(self.master, "lock", *commands, "unlock", filer=self.filer)

    def chunks(self, path: str) -> list[dict[str, Any]]:
        """Where the pieces of a file are, in the order of the file."""
        found = get_json(self.filer.address, f"{path}?metadata=true").get("chunks") or []
        return sorted(found, key=lambda chunk: chunk.get("offset", 0))

    def file_ids(self, path: str) -> list[str]:
        return [chunk["file_id"] for chunk in self.chunks(path)]

    def copies(self, path: str) -> list[bytes]:
        """Digests of a file as each node has it."""
        ids = self.file_ids(path)
        return [digest(b"".join(get(node.address, f"/{fid}").body for fid in ids)) for node in self.nodes]

    def is_clean(self) -> bool:
        return "no orphan data" in self.shell("volume.fsck -cutoffTimeAgo=0s -verifyNeedles")


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture(scope="module", params=[Volumed, WeedVolume], ids=["ours", "mixed"])
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    home: Path = tmp_path_factory.mktemp("shell")
    with (
        Master(home / "m") as master,
        Volumed(home / "a", master=master, flags=TRUST) as first,
        request.param(home / "b", master=master, flags=TRUST) as second,
        Filer(home / "f", master=master, flags=["-defaultReplicaPlacement=001", "-maxMB=1"]) as filer,
    ):
        yield Setting(master, filer, (first, second))


def put_files(setting: Setting, folder: str) -> dict[str, bytes]:
    """Files of one chunk and of several: path → digest."""
    digests = {}
    for number, size in enumerate((5000, CHUNK_BYTES * 5 // 2, CHUNK_BYTES)):
        path, data = f"/{folder}/{number}", os.urandom(size)
        assert request("PUT", setting.filer.address, path, body=data, headers=BINARY).status == 201
        digests[path] = digest(data)
    return digests


def check(setting: Setting, digests: dict[str, bytes]) -> None:
    """Each file is what it was, through the filer and in both copies."""
    for path, expected in digests.items():
        assert digest(get(setting.filer.address, path).body) == expected
        assert setting.copies(path) == [expected, expected]


def test_what_no_filer_knows_is_purged(setting: Setting) -> None:
    files = put_files(setting, "kept")
    wait_until(setting.is_clean, timeout_s=LIMIT_S, what="a clean cluster")
    orphan, url, *_ = assign(setting.master.address, replication="001")
    assert upload(url, orphan, b"nobody's").status == 201
    assert [get(node.address, f"/{orphan}").body for node in setting.nodes] == [b"nobody's"] * 2
    found = f"volume:{orphan.partition(',')[0]}\tentries:"
    assert found in setting.shell("volume.fsck -cutoffTimeAgo=0s")
    assert [get(node.address, f"/{orphan}").status for node in setting.nodes] == [200, 200], "only told"
    setting.shell("volume.fsck -cutoffTimeAgo=0s -verifyNeedles -reallyDeleteFromVolume -forcePurging")
    assert [get(node.address, f"/{orphan}").status for node in setting.nodes] == [404, 404]
    assert setting.is_clean()
    check(setting, files)


def test_files_that_have_lost_a_chunk_are_found(setting: Setting) -> None:
    files = put_files(setting, "broken")
    lost = "/broken/1"
    fid = setting.file_ids(lost)[1]
    assert delete(setting.nodes[0].address, fid).status == 202
    assert [get(node.address, f"/{fid}").status for node in setting.nodes] == [404, 404]
    command = "volume.fsck -findMissingChunksInFiler -cutoffTimeAgo=0s"
    assert lost in setting.shell(command).splitlines()
    setting.shell(f"{command} -reallyDeleteFilerEntries")
    assert get(setting.filer.address, lost).status == 404
    del files[lost]
    check(setting, files)
    assert lost not in setting.shell(command).splitlines()
    wait_until(setting.is_clean, timeout_s=LIMIT_S, what="the other chunks to be deleted")


def test_objects_of_another_cluster_are_cached(setting: Setting, store: ObjectStore) -> None:
    """FetchAndWriteNeedle with a replica, as a filer asks for it."""
    far = {"small": os.urandom(777), "large": os.urandom(CHUNK_BYTES * 11 // 2)}
    files = {f"/far/{name}": digest(data) for name, data in far.items()}
    for name, data in far.items():
        assert request("PUT", store.gateway.address, f"/{BUCKET}/far/{name}", body=data).status == 200
    keys = "-s3.access_key=k -s3.secret_key=s -s3.region=us-east-1 -s3.force_path_style=true"
    configured = f"remote.configure -name=far -type=s3 {keys} -s3.endpoint={store.endpoint}"
    setting.shell(configured, f"remote.mount -dir=/far -remote=far/{BUCKET}/far")
    assert [setting.chunks(path) for path in files] == [[], []]
    setting.shell("remote.cache -dir=/far")
    check(setting, files)
    chunks = [fid for path in files for fid in setting.file_ids(path)]
    setting.shell("remote.uncache -dir=/far")
    assert [setting.chunks(path) for path in files] == [[], []]
    for node in setting.nodes:
        wait_until(
            lambda at=node.address: all(get(at, f"/{fid}").status == 404 for fid in chunks),
            timeout_s=LIMIT_S, what="the chunks to be deleted",
        )  # fmt: skip
    setting.shell("remote.cache -dir=/far")
    check(setting, files)
