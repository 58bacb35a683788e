"""A node with two directories of which one cannot be used: the other is served, and everybody is told."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Master, Volumed
from tests.processes import wait_until
from tests.web import assign, get, get_json, upload

pytestmark = pytest.mark.probe

SLOTS = 7
"""Of each disk."""
BACK_S = 90.0
"""A failed disk is tried again with growing pauses."""


def missing(path: Path) -> None:
    """Nothing is there, as when a disk is not mounted and its mount point was removed."""
    path.rmdir()


def a_file(path: Path) -> None:
    path.rmdir()
    path.write_bytes(b"not a directory")


def without_owner_access(path: Path) -> None:
    """The reference looks at the owner's mode bits, so this fails for root too."""
    path.chmod(0o500)


def with_a_broken_uuid(path: Path) -> None:
    """The uuid file is a directory: it can be neither read nor replaced."""
    (path / "vol_dir.uuid").mkdir()


def immutable(path: Path) -> None:
    """Every write fails, also for root."""
    tool = shutil.which("chattr")
    if tool is None or subprocess.run([tool, "+i", str(path)], capture_output=True, check=False).returncode:
        pytest.skip("no immutable flag: no chattr, not root, or a filesystem without it")


def repair(path: Path) -> None:
    """Make a good, empty directory of whatever is there."""
    if shutil.which("chattr"):
        subprocess.run(["chattr", "-i", str(path)], capture_output=True, check=False)
    if path.is_dir():
        path.chmod(0o755)
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.mkdir()


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    with Master(tmp_path_factory.mktemp("master")) as started:
        yield started


@pytest.fixture
def bad(tmp_path: Path) -> Iterator[Path]:
    """The directory that will be broken; mended at the end so that it can be removed."""
    yield tmp_path / "bad"
    repair(tmp_path / "bad")


def slots(master: Master, node: Volumed) -> Any:
    """Volumes that the master believes the node can hold."""
    for center in get_json(master.address, "/dir/status")["Topology"]["DataCenters"] or ():
        for rack in center["Racks"] or ():
            for entry in rack["DataNodes"] or ():
                if entry["Url"] == node.address:
                    return entry["Max"]
    return None


def disk_errors(node: Volumed) -> list[str]:
    """``error`` of every entry of DiskStatuses."""
    return [disk.get("error", "") for disk in get_json(node.address, "/status")["DiskStatuses"]]


@pytest.mark.parametrize("breakage", [missing, a_file, without_owner_access, with_a_broken_uuid, immutable])
@pytest.mark.parametrize("bad_first", [True, False], ids=["bad first", "bad last"])
def test_the_good_disk_is_served(
    master: Master, tmp_path: Path, bad: Path, breakage: Callable[[Path], None], bad_first: bool
) -> None:
    good = tmp_path / "good"
    center = f"{breakage.__name__}-{bad_first}"
    node = Volumed(
        tmp_path / "node", master=master, dirs=[bad, good] if bad_first else [good, bad], volumes_max=SLOTS,
        flags=[f"-dataCenter={center}"],
    )  # fmt: skip
    breakage(bad)
    with node:
        assert get(node.address, "/healthz").status == 200
        errors = disk_errors(node)
        assert bool(errors[0]) == bad_first, errors
        assert bool(errors[1]) != bad_first, errors
        told = re.compile(rf"^ERROR .* cannot open {bad}: ", re.MULTILINE)
        wait_until(lambda: bool(told.search(node.log_tail())), timeout_s=BACK_S, what="the log says why")
        assert slots(master, node) == SLOTS

        # Each in its collection: a server that leaves while volumes are made breaks the master's list for good.
        fid, url = assign(master.address, dataCenter=center, collection=center)
        assert url == node.address
        assert upload(url, fid, b"on the good disk").status == 201
        assert get(url, f"/{fid}").body == b"on the good disk"
        assert list(good.glob("*.dat"))
        node.stop()


def test_trying_again_is_not_seen_outside(master: Master, tmp_path: Path, bad: Path) -> None:
    """While a worker finds out that the disk is still bad, the master must not count on it."""
    node = Volumed(tmp_path / "node", master=master, dirs=[tmp_path / "good", bad], volumes_max=SLOTS)
    missing(bad)
    counted, errors = set(), set()
    with node:

        def observe_until_tried_again() -> bool:
            counted.add(slots(master, node))
            errors.add(disk_errors(node)[1])
            return node.log_tail().count("cannot open") > 1

        wait_until(observe_until_tried_again, timeout_s=BACK_S, what="a second attempt")
    assert counted == {SLOTS}
    assert all(errors)


def test_the_disk_serves_when_its_directory_appears(master: Master, tmp_path: Path, bad: Path) -> None:
    """It brings volumes with it, as a disk does that is mounted late."""
    center = "comes-back"
    with Volumed(tmp_path / "first", master=master, dirs=[bad], flags=[f"-dataCenter={center}"]) as node:
        fid, _ = assign(master.address, dataCenter=center, collection=center)
        assert upload(node.address, fid, b"on the late disk").status == 201
        node.stop()
    elsewhere = tmp_path / "unmounted"
    node = Volumed(tmp_path / "node", master=master, dirs=[tmp_path / "good", bad], volumes_max=SLOTS)
    bad.rename(elsewhere)
    with node:
        assert disk_errors(node)[1]
        assert get(node.address, f"/{fid}").status == 404
        assert not bad.exists(), "an unmounted mount point is never written to"
        elsewhere.rename(bad)
        wait_until(lambda: disk_errors(node) == ["", ""], timeout_s=BACK_S, what="the disk in service")
        assert get(node.address, f"/{fid}").body == b"on the late disk"
        wait_until(lambda: slots(master, node) == 2 * SLOTS, timeout_s=BACK_S, what="its slots in the master")
        volume = fid.partition(",")[0]

        def located() -> bool:
            found = get_json(master.address, f"/dir/lookup?volumeId={volume}")
            return [location["url"] for location in found["locations"]] == [node.address]

        wait_until(located, timeout_s=BACK_S, what="its volume in the master")


def test_a_node_whose_only_disk_fails_says_so_and_recovers(tmp_path: Path, bad: Path) -> None:
    node = Volumed(tmp_path / "node", dirs=[bad])
    missing(bad)
    try:
        node.launch()
        wait_until(lambda: disk_errors(node) != [""], timeout_s=BACK_S, what="a failed disk in /status")
        assert get(node.address, "/healthz").status == 503
        bad.mkdir()
        wait_until(lambda: get(node.address, "/healthz").status == 200, timeout_s=BACK_S, what="health")
        fid, _ = assign(node.address)
        assert upload(node.address, fid, b"x").status == 201
        assert os.listdir(bad)
        node.stop()
    finally:
        node.close()
