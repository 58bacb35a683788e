"""Volumes in clusters that ``weed shell`` works on, and what must be in each of their copies."""

from __future__ import annotations

import hashlib
import itertools
import os
import re

from tests.cluster import Master, VolumeServer, weed_shell, weed_shell_process
from tests.grpc_kit import Node, allocate, status
from tests.processes import wait_until
from tests.web import delete, get, upload

__all__ = ["LIMIT_S", "OBJECTS", "TRUST", "Cluster", "Volume"]

TRUST = ["-volume.allowUntrustedRemoteEndpoints"]
OBJECTS = 12
LIMIT_S = 120


class Volume:
    """A volume of a collection of its own, and what must be in it: file id → digest, or None for what is deleted."""

    def __init__(self, volume_id: int) -> None:
        """Nothing is in it yet."""
        self.id = volume_id
        self.collection = f"c{volume_id}"
        self.objects: dict[str, bytes | None] = {}

    def fid(self, key: int) -> str:
        """The file id of a key."""
        return f"{self.id},{key:02x}637037d6"

    def put(self, server: VolumeServer, key: int, data: bytes, *, query: str = "") -> int:
        """Write through a server to all copies; the status."""
        answer = upload(server.address, self.fid(key), data, query=query)
        if answer.status in (201, 204):
            self.objects[self.fid(key)] = hashlib.sha256(data).digest()
        return answer.status

    def delete(self, server: VolumeServer, key: int) -> None:
        """Through a server, in all copies."""
        assert delete(server.address, self.fid(key)).status == 202
        self.objects[self.fid(key)] = None

    def differences(self, server: VolumeServer) -> dict[str, int]:
        """Status of what is not as it must be."""
        answers = {fid: get(server.address, f"/{fid}") for fid in self.objects}
        found = {fid: hashlib.sha256(got.body).digest() if got.status == 200 else None for fid, got in answers.items()}
        return {fid: answers[fid].status for fid, digest in self.objects.items() if found[fid] != digest}


class Cluster:
    """A master and volume servers."""

    def __init__(self, master: Master, *nodes: Node) -> None:
        """All nodes, in the order that tests unpack them in."""
        self.master = master
        self.nodes = nodes
        self._ids = itertools.count(1)

    def shell(self, *commands: str) -> str:
        """What commands print, run under the lock."""
        return weed_shell(self.master, "lock", *commands, "unlock")

    def fix_replication(self, *volumes: Volume) -> None:
        """``volume.fix.replication``, until each volume has two copies."""
        names = ",".join(volume.collection for volume in volumes)
        command = f"volume.fix.replication -collectionPattern={names} -apply"
        # When all is done it looks twice more whether it is, 15 s apart: that is not waited for. What it does not find
        # to be wrong yet, since the master has not heard of it, it finds the second time.
        with weed_shell_process(self.master) as shell:
            try:
                assert shell.stdin
                shell.stdin.write(f"lock\n{command}\n")
                shell.stdin.flush()
                wait_until(
                    lambda: all(len(self.holders(volume)) == 2 for volume in volumes),
                    timeout_s=LIMIT_S, what="two copies of each",
                )  # fmt: skip
            finally:
                shell.kill()

    def holders(self, volume: Volume) -> set[str]:
        """Addresses of all copies, as the master knows them; none, if it does not know the volume."""
        answer = get(self.master.address, f"/dir/lookup?volumeId={volume.id}")
        return {location["url"] for location in answer.json().get("locations", ())}

    def await_holders(self, volume: Volume, *nodes: Node) -> None:
        """Until the master knows these copies and no others."""
        expected = {node.server.address for node in nodes}
        wait_until(lambda: self.holders(volume) == expected, timeout_s=LIMIT_S, what=f"copies on {expected}")

    def check(self, volume: Volume, *nodes: Node) -> None:
        """These nodes, and no others, have a copy, and each has every object."""
        self.await_holders(volume, *nodes)
        found = {node.server.address: volume.differences(node.server) for node in nodes}
        assert found == {node.server.address: {} for node in nodes}

    def check_wherever_it_is(self, volume: Volume) -> None:
        """Every server that has a copy has every object, and the master comes to know of just these: for a moment it
        still knows where a copy was."""
        found = [node for node in self.nodes if isinstance(node.run(status(volume.id)), dict)]
        assert found
        self.check(volume, *found)

    def allocate(self, *nodes: Node, replication: str = "001") -> Volume:
        """An empty volume, known to the master."""
        volume = Volume(next(self._ids))
        fields = {"collection": volume.collection, "replication": replication}
        for node in nodes:
            assert node.run(allocate(volume.id, **fields)) == {}
        self.await_holders(volume, *nodes)
        return volume

    def fill(self, *nodes: Node, replication: str = "001", changed: bool = True) -> Volume:
        """A volume with objects of many sizes, written through all nodes, and, if ``changed``, one overwritten and one
        deleted."""
        volume = self.allocate(*nodes, replication=replication)
        for key, node in zip(range(1, OBJECTS + 1), itertools.cycle(nodes)):
            assert volume.put(node.server, key, os.urandom(7777 * (key - 1))) == 201
        if changed:
            assert volume.put(nodes[0].server, 2, os.urandom(100)) == 201
            volume.delete(nodes[-1].server, 3)
        self.check(volume, *nodes)
        return volume

    def listed(self, volume: Volume) -> list[tuple[int, ...]]:
        """Of each copy in ``volume.list``: size, needles, deletions."""
        printed = self.shell(f"volume.list -volumeId {volume.id}")
        line = rf"volume Id:{volume.id}, Size:(\d+), .* FileCount:(\d+), DeleteCount:(\d+),"
        return [tuple(map(int, found)) for found in re.findall(line, printed)]
