"""The whole node: whatever process is killed, it is back on the same ports with everything that was acknowledged."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Volumed
from tests.processes import wait_until
from tests.web import assign, get, upload

pytestmark = pytest.mark.probe

RESTART_LIMIT_S = 60.0


@pytest.fixture
def node(tmp_path) -> Iterator[Volumed]:
    with Volumed(tmp_path / "n", dirs=[tmp_path / "d0", tmp_path / "d1"]) as started:
        yield started


def body_pools(node: Volumed) -> set[Path]:
    """The body pools in the node's runtime directory, which is where its processes map the node table from."""
    lines = Path(f"/proc/{child(node, 'volumed: http arbiter')}/maps").read_text().splitlines()
    tables = [Path(line.split()[-1]) for line in lines if line.endswith("/node.table")]
    if not tables:
        raise OSError("not mapped yet")
    return set(tables[0].parent.glob("bodies-*"))


def child(node: Volumed, title: str) -> int:
    """Process id of a child by its title; OSError while there is none."""
    for pid in node.pids():
        command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        if pid != node.pid and title in command:
            return pid
    raise OSError(f"no process {title}")


def store(node: Volumed, count: int) -> dict[str, bytes]:
    stored = {}
    for number in range(count):
        fid = assign(node.address).fid
        stored[fid] = f"object {number}".encode()
        assert upload(node.address, fid, stored[fid]).status == 201
    return stored


def holds(node: Volumed, stored: dict[str, bytes]) -> bool:
    answers = {fid: get(node.address, f"/{fid}", timeout_s=RESTART_LIMIT_S) for fid in stored}
    return all(answers[fid].status == 200 and answers[fid].body == data for fid, data in stored.items())


@pytest.mark.parametrize(
    "title", ["volumed: disk 0", "volumed: http front", "volumed: http arbiter", "volumed: grpc front"]
)
def test_a_killed_child_comes_back_with_all_objects(node, title):
    stored = store(node, 8)
    killed = child(node, title)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: child(node, title) != killed, timeout_s=RESTART_LIMIT_S, what=f"another {title}")
    wait_until(lambda: holds(node, stored), timeout_s=RESTART_LIMIT_S, what="every object served")
    fid = assign(node.address).fid
    wait_until(lambda: upload(node.address, fid, b"x").status == 201, timeout_s=RESTART_LIMIT_S, what="writes accepted")
    node.stop()


@pytest.mark.parametrize("title", ["volumed: http front", "volumed: http arbiter"])
def test_a_killed_front_leaves_no_memory_behind(node, title):
    for _ in range(8):
        fid = assign(node.address).fid
        assert upload(node.address, fid, bytes(1 << 20)).status == 201
    killed = child(node, title)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: child(node, title) != killed, timeout_s=RESTART_LIMIT_S, what=f"another {title}")

    def owned() -> bool:
        return {int(pool.name.removeprefix("bodies-")) for pool in body_pools(node)} <= set(node.pids())

    wait_until(owned, timeout_s=RESTART_LIMIT_S, what="no pool without its front")


def test_a_killed_node_starts_again_at_once_on_the_same_ports(node):
    stored = store(node, 8)
    node.kill()
    node.start()
    assert holds(node, stored)
    assert not set(store(node, 8)) & set(stored)


def test_a_restart_in_order_keeps_all_objects(node):
    stored = store(node, 8)
    node.stop()
    node.start()
    assert holds(node, stored)
