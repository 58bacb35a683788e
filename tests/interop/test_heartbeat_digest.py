"""The node's account of its volumes and the master's are the same: the master never asks for the full list again.

``VOLUMED_DIGEST_S`` is the length of the run in seconds.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.cluster import Master, Volumed, weed_shell
from tests.master_proxy import MasterProxy
from tests.processes import wait_until
from tests.web import assign, delete, get_json, upload
from volumed.wire import volume_server_pb2, volume_server_pb2_grpc

RUN_S = float(os.environ.get("VOLUMED_DIGEST_S", "20"))
PULSE_S = 5.0
LIMIT_S = 60.0
WRITE_PAUSE_S = 0.01

pytestmark = [pytest.mark.interop, pytest.mark.timeout(RUN_S + 300)]


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    with Master(tmp_path_factory.mktemp("master")) as started:
        yield started


@pytest.fixture
def proxy(master: Master) -> Iterator[MasterProxy]:
    with MasterProxy(master) as started:
        yield started


@pytest.fixture
def node(proxy: MasterProxy, tmp_path: Path) -> Iterator[Volumed]:
    with Volumed(tmp_path / "node", master=proxy, dirs=[tmp_path / "d0", tmp_path / "d1"], volumes_max=30) as started:
        yield started


def is_changed_only(message: Any) -> bool:
    """A pulse that names changes instead of all volumes (docs/spec/grpc.md 2.4)."""
    return message.HasField("volume_digest") and not message.volumes and len(message.changed_volumes) > 0


def tells_vacuum(message: Any) -> bool:
    return any(volume.compact_revision for volume in message.changed_volumes)


def write_and_delete(master: Master, stop: threading.Event) -> int:
    """Uploads, overwrites and deletes until told to stop; what a read-only volume refuses does not count."""
    choice, done = random.Random(1), 0
    while not stop.wait(WRITE_PAUSE_S):
        collection = choice.choice(["", "pics"])
        try:
            fid, url = assign(master.address, collection=collection)
        except OSError:
            continue  # the master grows volumes, or knows none that is writable
        statuses = [upload(url, fid, choice.randbytes(choice.randrange(3000))).status]
        if choice.random() < 0.3:
            statuses.append(upload(url, fid, b"overwritten").status)
        if choice.random() < 0.4:
            statuses.append(delete(url, fid).status)
        done += sum(status < 300 for status in statuses)
    return done


def flip_marks(master: Master, proxy: MasterProxy, node: Volumed, until_s: float) -> int:
    """Volumes become read-only and writable again, one after the other, and lose what is deleted in them; at least
    until a pulse has told of a vacuum."""
    flips, choice = 0, random.Random(2)
    while time.monotonic() < until_s or not any(tells_vacuum(seen.message) for seen in list(proxy.heartbeats)):
        volume = choice.choice(get_json(node.address, "/status")["Volumes"])["Id"]
        mark = f"volume.mark -node {node.peer_address} -volumeId {volume}"
        vacuum = f"volume.vacuum -garbageThreshold=0.01 -volumeId={volume}"
        weed_shell(master, "lock", f"{mark} -readonly", f"{mark} -writable", vacuum, "unlock")
        flips += 2
    return flips


def test_no_resend_while_volumes_change(
    master: Master, proxy: MasterProxy, node: Volumed, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write_and_delete, master, stop) for _ in range(2)]
        try:
            wait_until(lambda: bool(get_json(node.address, "/status")["Volumes"]), timeout_s=LIMIT_S, what="a volume")
            flips = flip_marks(master, proxy, node, time.monotonic() + RUN_S)
        finally:
            stop.set()
        written = sum(writer.result() for writer in writers)
    ended_at_s = time.monotonic()
    wait_until(
        lambda: sum(seen.at_s > ended_at_s and seen.message.HasField("volume_digest") for seen in proxy.heartbeats) > 1,
        timeout_s=LIMIT_S, what="a pulse that tells the last change, and one before which an answer came",
    )  # fmt: skip
    changed_only = sum(is_changed_only(seen.message) for seen in proxy.heartbeats)
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{written} writes and deletes, {flips} marks; {len(proxy.heartbeats)} heartbeats, {changed_only} with "
            f"changes only; {len(proxy.responses)} answers, {proxy.resend_requests()} asked for the full list"
        )
    assert written > 100
    assert flips >= 2
    assert changed_only > 0
    assert proxy.resend_requests() == 0


@pytest.mark.usefixtures("node")
def test_a_wrong_digest_would_be_noticed(proxy: MasterProxy) -> None:
    """What the test above looks for does happen: the master asks, and the next pulse is full."""
    master = proxy.master
    fid, url = assign(master.address)
    assert upload(url, fid, b"x").status == 201
    proxy.wait_for(is_changed_only, LIMIT_S)
    proxy.falsify_digests = True
    wait_until(lambda: proxy.resend_requests() > 0, timeout_s=LIMIT_S, what="the master to ask for the full list")
    asked_at_s = next(seen.at_s for seen in proxy.responses if seen.message.resend_full_volume_list)
    proxy.falsify_digests = False
    wait_until(
        lambda: any(seen.at_s > asked_at_s and seen.message.volumes for seen in proxy.heartbeats),
        timeout_s=LIMIT_S, what="the full list",
    )  # fmt: skip


def test_a_new_volume_is_announced_at_once(
    proxy: MasterProxy, node: Volumed, capsys: pytest.CaptureFixture[str]
) -> None:
    delays_s = []
    with grpc.insecure_channel(node.grpc_address) as channel:
        stub = volume_server_pb2_grpc.VolumeServerStub(channel)
        for volume_id in range(7000, 7007):
            stub.AllocateVolume(volume_server_pb2.AllocateVolumeRequest(volume_id=volume_id, version=3), timeout=20)
            answered_at_s = time.monotonic()
            delta = proxy.wait_for(lambda message, new=volume_id: new in [v.id for v in message.new_volumes], LIMIT_S)
            delays_s.append(delta.at_s - answered_at_s)
            lookup = f"/dir/lookup?volumeId={volume_id}"
            wait_until(lambda path=lookup: bool(get_json(proxy.master.address, path)), timeout_s=LIMIT_S, what=lookup)
    with capsys.disabled():
        shown = ", ".join(f"{delay * 1000:.1f}" for delay in delays_s)
        print(f"\nfrom the answer of AllocateVolume to the delta at the master, ms: {shown}")  # noqa: T201
    # COMPAT: writers of replicated files ask the master right after they allocated the volume. It takes milliseconds;
    # what waits for a pulse takes half of one.
    assert statistics.median(delays_s) < PULSE_S / 5


def test_a_stopped_node_is_forgotten_at_once(master: Master, proxy: MasterProxy, node: Volumed) -> None:
    assert node.address in master.node_addresses()
    node.signal(signal.SIGTERM)
    leave = proxy.wait_for(lambda message: message.has_no_volumes and message.ip and not message.volumes, LIMIT_S)
    assert leave.message.port == node.port
    wait_until(lambda: node.address not in master.node_addresses(), timeout_s=LIMIT_S, what="the node to be forgotten")
    node.wait_exit(expected=0)
