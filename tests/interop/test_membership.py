"""What a real master sees of the node: digests, deltas, marks, limits, duplicates. Workers and gRPC are real; HTTP is
not needed and scripted."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import Master, weed_shell
from tests.probe.fake_node import FakeNode
from tests.processes import wait_until
from tests.web import get, get_json

pytestmark = pytest.mark.interop

LIMIT_S = 60.0
PULSES_S = 11.0
"""Two pulses and a bit: whatever goes with a pulse has arrived."""


class Member(FakeNode):
    name = "volumed with scripted HTTP"
    fakes = "http"


@pytest.fixture(scope="module")
def master(tmp_path_factory) -> Iterator[Master]:
    with Master(tmp_path_factory.mktemp("m")) as started:
        yield started


@pytest.fixture(scope="module")
def member(tmp_path_factory, master) -> Iterator[Member]:
    home = tmp_path_factory.mktemp("v")
    with Member(
        home / "n", master=master, dirs=[home / "d0", home / "d1"], flags=["-rack=r1", "-dataCenter=dc1"]
    ) as node:
        yield node


def seen(master: Master, member: Member) -> Any:
    """The master's entry of the node."""
    for center in get_json(master.address, "/vol/status")["Volumes"]["DataCenters"].values():
        for rack in center.values():
            for address, volumes in rack.items():
                if address == member.address:
                    return {volume["Id"]: volume for volume in volumes or ()}
    return None


def shell(master: Master, member: Member, *commands: str) -> str:
    filled = [command.replace("NODE", member.peer_address) for command in commands]
    return weed_shell(master, "lock", *filled, "unlock")


def test_life_of_volumes_in_the_masters_view(master, member):
    assert get_json(master.address, "/vol/grow?count=4") == {"count": 4}
    volumes = sorted(seen(master, member))
    assert len(volumes) == 4
    assert {volume["disk_id"] for volume in member.status()["volumes"]} == {0, 1}

    marked, deleted, remounted, _ = volumes
    shell(master, member, f"volume.delete -node NODE -volumeId {deleted}")
    wait_until(lambda: deleted not in seen(master, member), timeout_s=LIMIT_S, what="the deletion seen")
    shell(master, member, f"volume.unmount -node NODE -volumeId {remounted}")
    wait_until(lambda: remounted not in seen(master, member), timeout_s=LIMIT_S, what="the unmount seen")
    shell(master, member, f"volume.mount -node NODE -volumeId {remounted}")
    wait_until(lambda: remounted in seen(master, member), timeout_s=LIMIT_S, what="the mount seen")
    shell(master, member, f"volume.mark -node NODE -volumeId {marked} -readonly")
    wait_until(lambda: seen(master, member)[marked]["ReadOnly"], timeout_s=LIMIT_S, what="read-only seen")
    assert get_json(master.address, "/vol/grow?count=1") == {"count": 1}
    (grown,) = seen(master, member).keys() - {*volumes}
    time.sleep(PULSES_S)
    assert seen(master, member)[marked]["ReadOnly"], "later heartbeats agree"
    assert sorted(seen(master, member)) == sorted({*volumes, grown} - {deleted})
    assert "whole list" not in member.log_path.read_text(), "the master has disagreed about the digest"


def test_the_node_is_where_it_says(master, member):
    centers = get_json(master.address, "/dir/status")["Topology"]["DataCenters"]
    (center,) = [entry for entry in centers if entry["Id"] == "dc1"]
    (rack,) = center["Racks"]
    assert rack["Id"] == "r1"
    assert rack["DataNodes"][0]["Url"] == member.address
    assert rack["DataNodes"][0]["Max"] == 2 * member.volumes_max


def test_the_shell_reaches_the_node_and_back(master, member):
    answer = shell(master, member, "cluster.check", "cluster.ps")
    assert f"{member.peer_address} ... ok" in answer
    assert f"checking volume server {member.peer_address} to master {master.peer_address} ... ok" in answer


def test_maintenance_mode_is_set_and_told(master, member):
    shell(master, member, "volumeServer.state -nodes NODE -maintenanceOn")
    assert member.status()["state"] == {"maintenance": True, "version": 1}
    assert (member.dirs[0] / "state.pb").read_bytes() == bytes.fromhex("08011001")
    shell(master, member, "volumeServer.state -nodes NODE -maintenanceOff")
    assert member.status()["state"] == {"maintenance": False, "version": 2}


def test_a_master_that_restarts_gets_everything_again(tmp_path):
    with Master(tmp_path / "m") as master, Member(tmp_path / "n", master=master) as node:
        get(master.address, "/vol/grow?count=2")
        master.stop()
        master.start()
        wait_until(lambda: len(seen(master, node) or ()) == 2, timeout_s=LIMIT_S, what="both volumes announced again")


def test_automatic_limits_follow_the_masters_volume_size(tmp_path, master):
    with Member(tmp_path / "n", master=master, volumes_max=0) as node:
        wait_until(lambda: node.status()["disks"][0]["volumes_max"] > 0, timeout_s=LIMIT_S, what="a limit")
        disk = node.status()["disks"][0]
        expected = disk["free_bytes"] // (master.volume_size_limit_mb << 20)
        assert disk["volumes_max"] == pytest.approx(expected, rel=0.01)

        def told() -> bool:
            # It changes with what others store on the machine's disk.
            limit = node.status()["disks"][0]["volumes_max"]
            return f'"Max":{limit},' in get(master.address, "/dir/status").body.decode()

        wait_until(told, timeout_s=LIMIT_S, what="the limit at the master")


def test_the_same_directories_twice_end_the_newcomer(tmp_path, master):
    first, copy = tmp_path / "d0", tmp_path / "d1"
    with Member(tmp_path / "n1", master=master, dirs=[first]):
        copy.mkdir()
        shutil.copy(first / "vol_dir.uuid", copy)
        second = Member(tmp_path / "n2", master=master, dirs=[copy])
        second.stop_timeout_s = LIMIT_S
        started = time.monotonic()
        second.launch()
        assert second.wait_exit() == 1
        assert time.monotonic() - started > 13.0
        second.close()
