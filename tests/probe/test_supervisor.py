"""The supervisor with real processes: start, stop, crashes, hung and broken disks."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Master, Volumed
from tests.probe.fake_node import RESTART_LIMIT_S, FakeNode
from tests.processes import HOST, wait_until
from tests.web import get

pytestmark = pytest.mark.probe

LIMIT_S = 60.0
STUCK_LIMIT_S = 30.0
"""For what takes 5 s: by its unanswered pings a disk is found to hang (``unit/test_disk_states``)."""
PULSE_S = 5.0
"""Between heartbeats that nothing has caused."""


@pytest.fixture
def node(tmp_path) -> Iterator[FakeNode]:
    """A standalone node with two disks."""
    with FakeNode(tmp_path / "n", dirs=[tmp_path / "d0", tmp_path / "d1"]) as started:
        yield started


@pytest.fixture(scope="module")
def master(tmp_path_factory) -> Iterator[Master]:
    with Master(tmp_path_factory.mktemp("master")) as started:
        yield started


@pytest.fixture
def member(tmp_path, master) -> Iterator[FakeNode]:
    """A node with two disks in a cluster."""
    with FakeNode(tmp_path / "n", master=master, dirs=[tmp_path / "d0", tmp_path / "d1"]) as started:
        yield started


def located(master: Master, volume_id: int) -> bool:
    return "locations" in get(master.address, f"/dir/lookup?volumeId={volume_id}").json()


def test_start_and_stop_leave_nothing(node):
    runtime = node.runtime()
    assert runtime.is_dir()
    node.await_states("ok", "ok")
    assert node.status()["processes"] == 5
    node.stop()
    assert not runtime.exists()


def test_greeting_shows_how_to_store_and_fetch(node):
    expected = f"http://{node.address}/dir/assign"
    wait_until(lambda: expected in node.log_tail(), timeout_s=RESTART_LIMIT_S, what="the greeting")


def test_kill_of_the_supervisor_ends_all_and_the_next_start_works_at_once(node):
    runtime = node.runtime()
    node.kill()
    node.start()
    node.await_states("ok", "ok")
    assert not runtime.exists(), "what the killed node left is removed"


@pytest.mark.parametrize("child", ["fakes.http", "fakes.grpc"])
def test_a_killed_front_is_back_with_its_port(node, child):
    killed = node.child(child)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: node.child(child) != killed, timeout_s=RESTART_LIMIT_S, what="another front")
    wait_until(node.ready, timeout_s=RESTART_LIMIT_S, what="healthy again")


def test_a_killed_worker_is_replaced_under_a_new_epoch(node):
    killed = node.worker(0)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: node.worker(0) != killed, timeout_s=RESTART_LIMIT_S, what="another worker")
    node.await_states("ok", "ok")
    assert Path(f"/proc/{node.worker(0)}/cmdline").read_text().split("\0")[-2] == "2"
    node.allocate(0, 5)
    wait_until(lambda: [volume["id"] for volume in node.status()["volumes"]] == [5], timeout_s=LIMIT_S, what="volume 5")


def test_a_disk_that_cannot_be_opened_does_not_stop_the_node(tmp_path):
    broken = tmp_path / "d1"
    with FakeNode(tmp_path / "n", dirs=[tmp_path / "d0", broken]) as node:
        node.stop()
        (broken / "broken").touch()
        node.start()
        node.await_states("ok", "failed")
        assert node.status()["disks"][1]["error"] == f"cannot open {broken}"
        assert "is failed" in node.log_tail()
        (broken / "broken").unlink()
        node.await_states("ok", "ok")
        assert node.status()["disks"][1]["error"] == ""


def test_a_node_without_a_serving_disk_is_not_healthy(tmp_path):
    with FakeNode(tmp_path / "n") as node:
        node.stop()
        (node.dirs[0] / "broken").touch()
        node.launch()
        wait_until(lambda: node.states() == ["failed"], timeout_s=RESTART_LIMIT_S, what="ports open")
        assert get(node.address, "/healthz").status == 503


def test_a_slowly_opening_disk_does_not_hold_up_the_others_for_ever(tmp_path):
    with FakeNode(tmp_path / "n", dirs=[tmp_path / "d0", tmp_path / "d1"]) as node:
        node.stop()
        (node.dirs[1] / "slow").touch()
        node.launch()
        started = time.monotonic()
        wait_until(node.ready, timeout_s=LIMIT_S, what="ready without disk 1")
        assert time.monotonic() - started > 9.0
        node.await_states("ok", "stuck")
        (node.dirs[1] / "slow").unlink()
        node.await_states("ok", "ok")


def test_stop_while_a_disk_is_still_opening(tmp_path):
    with FakeNode(tmp_path / "n") as node:
        node.stop()
        (node.dirs[0] / "slow").touch()
        node.launch()
        wait_until(lambda: node.child("fakes.worker") > 0, timeout_s=RESTART_LIMIT_S, what="a worker")
        node.stop()


def test_ports_stay_closed_while_no_master_answers(tmp_path, master):
    with FakeNode(tmp_path / "n", master=master) as node:
        node.stop()
        node.flags = [f"-master={HOST}:1"]
        node.launch()
        wait_until(lambda: f"master {HOST}:1" in node.log_tail(), timeout_s=RESTART_LIMIT_S, what="an attempt")
        with pytest.raises(ConnectionRefusedError):
            get(node.address, "/healthz")
        node.stop()


def test_a_taken_port_is_fatal(tmp_path):
    node = FakeNode(tmp_path / "n")
    for port in (node.port, node.grpc_port):
        with socket.create_server((HOST, port)):
            node.launch()
            assert node.wait_exit() == 255
        assert f"listen tcp {HOST}:{port}: bind: address already in use" in node.log_tail()
    node.close()


def test_a_second_node_on_the_same_ports_is_fatal(node, tmp_path):
    second = FakeNode(tmp_path / "second")
    second.port, second.grpc_port = node.port, node.grpc_port
    second.launch()
    assert second.wait_exit() == 255
    second.close()


def test_wrong_flags_end_with_status_2(tmp_path):
    node = Volumed(tmp_path / "n", flags=["-nope"])
    node.launch()
    assert node.wait_exit() == 2
    assert "flag provided but not defined: -nope" in node.log_tail()
    node.close()


def test_stopping_is_announced_before_requests_stop_being_served(tmp_path):
    with FakeNode(tmp_path / "n", flags=["-preStopSeconds=60"]) as node:
        node.signal(signal.SIGTERM)
        wait_until(lambda: get(node.address, "/healthz").status == 503, timeout_s=LIMIT_S, what="503")
        node.signal(signal.SIGTERM)
        wait_until(lambda: node.states() == ["ok"], timeout_s=LIMIT_S, what="an answer while stopping")
        node.kill()


def test_hangup_rescans_the_disks(node):
    # Disks that are restarting when the signal comes are scanned by their start; here all must serve before it.
    node.await_states("ok", "ok")
    node.signal(signal.SIGHUP)
    for directory in node.dirs:
        wait_until((directory / "rescanned").exists, timeout_s=RESTART_LIMIT_S, what="a rescan")


def test_assignments_are_unique_and_go_to_all_disks(node):
    given = [node.call("supervisor", "AssignFileId")["fid"] for _ in range(40)]
    assert len(set(given)) == 40
    assert {fid.split(",")[0] for fid in given} == {"1", "2"}
    node.kill()
    node.start()
    assert node.call("supervisor", "AssignFileId", collection="c")["fid"].split(",")[0] in ("3", "4")


def test_node_state_survives_a_restart(node):
    # The fake front cannot send nested structures, so the file is written as an earlier run would have left it.
    node.stop()
    (node.dirs[0] / "state.pb").write_bytes(bytes.fromhex("08011001"))
    node.start()
    assert node.call("supervisor", "GetState") == {"maintenance": True, "version": 1}


def test_a_damaged_state_file_is_fatal(node):
    node.stop()
    (node.dirs[0] / "state.pb").write_bytes(b"\xff\xff")
    node.launch()
    assert node.wait_exit() == 255


@pytest.mark.interop
def test_new_volumes_reach_the_master_at_once(member, master):
    """One after the other, in far less time than the pulses would take."""
    volumes = range(100, 110)
    started = time.monotonic()
    for volume_id in volumes:
        member.allocate(volume_id % 2, volume_id)
        wait_until(lambda v=volume_id: located(master, v), timeout_s=LIMIT_S, what=f"volume {volume_id}")
    assert time.monotonic() - started < len(volumes) * PULSE_S / 2
    found = member.call("supervisor", "LookupVolume", volume_id=105)
    assert [location["url"] for location in found["locations"]] == [member.address]


@pytest.mark.interop
def test_a_hung_disk_leaves_the_cluster_alone_and_comes_back(member, master):
    member.allocate(0, 200)
    member.allocate(1, 201)
    wait_until(lambda: located(master, 200) and located(master, 201), timeout_s=LIMIT_S, what="both volumes")
    worker = member.worker(0)
    os.kill(worker, signal.SIGSTOP)
    wait_until(lambda: not located(master, 200), timeout_s=STUCK_LIMIT_S, what="volume 200 withdrawn")
    member.await_states("stuck", "ok")
    assert located(master, 201)
    assert get(member.address, "/healthz").status == 200
    os.kill(worker, signal.SIGCONT)
    wait_until(lambda: located(master, 200), timeout_s=LIMIT_S, what="volume 200 announced again")
    assert member.worker(0) == worker


def test_a_node_with_a_hung_disk_still_stops(node):
    os.kill(node.worker(0), signal.SIGSTOP)
    node.await_states("stuck", "ok", timeout_s=STUCK_LIMIT_S)
    node.stop()  # in time: nobody waits the 30 s that a worker gets to end


@pytest.mark.interop
def test_the_master_forgets_a_node_that_leaves_or_stops(member, master):
    member.call("supervisor", "LeaveCluster")
    wait_until(lambda: member.address not in master.node_addresses(), timeout_s=LIMIT_S, what="gone from the master")
    assert get(member.address, "/healthz").status == 503
    member.await_states("ok", "ok")  # it still answers
    member.stop()
    member.start()
    member.stop()
    wait_until(lambda: member.address not in master.node_addresses(), timeout_s=LIMIT_S, what="gone again")


@pytest.mark.interop
def test_a_restarted_worker_never_leaves_the_masters_view(member, master):
    member.allocate(0, 300)
    wait_until(lambda: located(master, 300), timeout_s=LIMIT_S, what="volume 300")
    os.kill(member.worker(0), signal.SIGKILL)
    member.await_states("ok", "ok")
    assert member.address in master.node_addresses()


@pytest.mark.interop
def test_calls_to_the_master(member, master):
    member.allocate(0, 400)
    mark = {
        "volume_id": 400, "collection": "", "replica_placement": 0, "ttl": 0, "disk_type": "", "is_readonly": True,
    }  # fmt: skip
    assert member.call("supervisor", "MarkReadonlyOnMaster", **mark) == {}
    ping = member.call("supervisor", "PingMaster", target=master.address, target_type="master")
    assert 0 < ping["start_time_ns"] <= ping["stop_time_ns"]
    assert ping["remote_time_ns"] > 0
    kind, code, text = member.call("supervisor", "PingMaster", target="x:1", target_type="filer")
    assert (code, text) == (3, "unknown ping target x:1 of type filer")
    kind, _, _ = member.call("supervisor", "LookupVolume", volume_id=999)
    assert kind == "VolumeNotFound"
