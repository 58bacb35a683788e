"""Commands of ``weed shell`` that bring volumes from one server to another: from ours to ours, from the reference to
ours, and from ours to the reference. After each, every object is compared in every copy.

A move waits ten seconds for what may come late. So the three clusters work at the same time, each in a thread of its
own, one command after the other; the tests wait for the outcomes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.grpc_kit import Node
from tests.processes import wait_until
from tests.shell_kit import LIMIT_S, TRUST, Cluster
from tests.web import get

pytestmark = pytest.mark.interop

MAKE_UPS: dict[str, tuple[type[VolumeServer], ...]] = {
    "ours": (Volumed, Volumed, Volumed),
    "to ours": (WeedVolume, Volumed),
    "from ours": (Volumed, WeedVolume),
}
"""Source, target, and, where copies are merged, a server beside them."""
DATA_CENTERS = ("one", "two", "one")
"""Of these servers: with replication 100 only the target can have the second copy of what the source has."""


def ends(cluster: Cluster) -> str:
    source, target = (node.server.peer_address for node in cluster.nodes[:2])
    return f"-source {source} -target {target}"


def copied(cluster: Cluster) -> None:
    source, target = cluster.nodes[:2]
    volume = cluster.fill(source, replication="000")
    cluster.shell(f"volume.copy {ends(cluster)} -volumeId {volume.id}")
    cluster.check(volume, source, target)
    cluster.shell(f"volume.delete -node {source.server.peer_address} -volumeId {volume.id}")
    cluster.check(volume, target)


def moved(cluster: Cluster) -> None:
    source, target = cluster.nodes[:2]
    volume = cluster.fill(source, replication="000")
    assert f"moved volume {volume.id} " in cluster.shell(f"volume.move {ends(cluster)} -volumeId {volume.id}")
    cluster.check(volume, target)
    assert volume.put(target.server, 4, os.urandom(3000)) == 201
    cluster.check(volume, target)


def tier_moved(cluster: Cluster) -> None:
    source, target = cluster.nodes[:2]
    volume = cluster.fill(source, replication="000")
    centers = "-fromDiskType=hdd -toDiskType=hdd -fromDataCenter=one -toDataCenter=two"
    command = f"volume.tier.move {centers} -collectionPattern={volume.collection} -fullPercent=0.1 -quietFor=1s -apply"

    def is_moved() -> bool:
        # Sizes and times of change come with the heartbeat.
        cluster.shell(command)
        return cluster.holders(volume) == {target.server.address}

    wait_until(is_moved, timeout_s=2 * LIMIT_S, what="the volume in the other data center")
    cluster.check(volume, target)


def replicated(cluster: Cluster) -> None:
    """volume.configure.replication, volume.fix.replication: a copy more, that takes writes as well as the first one."""
    source, target = cluster.nodes[:2]
    volume = cluster.fill(source, replication="000")
    cluster.shell(f"volume.configure.replication -volumeId {volume.id} -replication 100")
    wait_until(
        lambda: "ReplicaPlacement:100" in cluster.shell(f"volume.list -volumeId {volume.id}"),
        timeout_s=LIMIT_S, what="the new replication, which comes with the heartbeat",
    )  # fmt: skip
    cluster.fix_replication(volume)
    cluster.check(volume, source, target)
    for node in (source, target):
        assert volume.put(node.server, 1, os.urandom(100)) == 201
        cluster.check(volume, source, target)
    cluster.shell(f"volume.delete -node {source.server.peer_address} -volumeId {volume.id}")
    cluster.check(volume, target)


def merged(cluster: Cluster) -> None:
    """Two copies that differ, by way of a third server."""
    *pair, third = cluster.nodes
    # Of two writes of a key within seconds the shell takes the first.
    volume = cluster.fill(*pair, replication="100", changed=False)
    for key, node in ((0xA1, pair[0]), (0xA2, pair[1])):
        assert volume.put(node.server, key, os.urandom(1000), query="type=replicate") == 201
    printed = cluster.shell(f"volume.merge -volumeId {volume.id} -target {third.server.peer_address}")
    assert f"merged volume {volume.id} from 2 replicas via {third.server.address}" in printed
    cluster.check(volume, *pair)
    cluster.shell(f"volume.delete -node {pair[0].server.peer_address} -volumeId {volume.id}")
    cluster.check(volume, pair[1])


def balanced_and_evacuated(cluster: Cluster) -> None:
    """A volume goes to the emptier server, and back when that is to be empty."""
    source, target = cluster.nodes[:2]
    volumes = [cluster.fill(source, replication="000") for _ in range(6)]
    nodes = ",".join(node.server.address for node in (source, target))

    def is_balanced() -> bool:
        # It goes by sizes, which come with the heartbeat.
        cluster.shell(f"volume.balance -apply -nodes {nodes} -volumesPerExec 1")
        return len(set().union(*map(cluster.holders, volumes))) == 2

    wait_until(is_balanced, timeout_s=2 * LIMIT_S, what="a volume on each node")
    for volume in volumes:
        cluster.check_wherever_it_is(volume)
    cluster.shell(f"volumeServer.evacuate -node {target.server.address} -target {source.server.address} -apply")
    for volume in volumes:
        cluster.check(volume, source)


def left(cluster: Cluster) -> None:
    """Of two copies the one that stays is whole, and the server that left answers who still asks it."""
    source, target = cluster.nodes[:2]
    volume = cluster.fill(source, target, replication="100")
    cluster.shell(f"volumeServer.leave -node {source.server.peer_address} -apply")
    wait_until(
        lambda: source.server.address not in cluster.master.node_addresses(),
        timeout_s=LIMIT_S, what="the node to be forgotten",
    )  # fmt: skip
    assert get(source.server.address, "/status").status == 200
    cluster.check(volume, target)
    assert volume.differences(source.server) == {}


Step = Callable[[Cluster], None]
STEPS: tuple[Step, ...] = (balanced_and_evacuated, copied, moved, tier_moved, merged, replicated, left)
CASES = [(name, step) for step in STEPS for name in MAKE_UPS if step is not merged or len(MAKE_UPS[name]) == 3]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, Step], Future[None]]]:
    """Every step in every cluster, some of them still to come."""
    home = tmp_path_factory.mktemp("shell")
    with ExitStack() as stack:
        clusters = {name: started(stack, home / name.replace(" ", "-"), *kinds) for name, kinds in MAKE_UPS.items()}
        found: dict[tuple[str, Step], Future[None]] = {}
        for name, cluster in clusters.items():
            pool = ThreadPoolExecutor(1, thread_name_prefix=name)
            stack.callback(pool.shutdown, cancel_futures=True)
            found |= {(name, step): pool.submit(step, cluster) for cases, step in CASES if cases == name}
        yield found


def started(stack: ExitStack, home: Path, *kinds: type[VolumeServer]) -> Cluster:
    """A cluster with a server in each of the data centers."""
    home.mkdir()
    master = stack.enter_context(Master(home / "m", volume_size_limit_mb=1))
    nodes = []
    for number, (kind, center) in enumerate(zip(kinds, DATA_CENTERS, strict=False)):
        server = kind(home / str(number), master=master, flags=[*TRUST, f"-dataCenter={center}"])
        nodes.append(stack.enter_context(Node(stack.enter_context(server))))
    return Cluster(master, *nodes)


@pytest.mark.parametrize(("make_up", "step"), CASES, ids=[f"{step.__name__} {name}" for name, step in CASES])
def test_volumes_are(outcomes: dict[tuple[str, Step], Future[None]], make_up: str, step: Step) -> None:
    outcomes[make_up, step].result(10 * LIMIT_S)
