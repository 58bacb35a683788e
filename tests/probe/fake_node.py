"""A node whose children are scripted, so that tests decide when a disk is slow, broken or gone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.cluster import Volumed
from tests.processes import wait_until
from tests.web import get

__all__ = ["RESTART_LIMIT_S", "FakeNode"]

ROOT = Path(__file__).parents[2]
RESTART_LIMIT_S = 60.0


class FakeNode(Volumed):
    """The real supervisor with the children of ``tests.probe.fakes``."""

    name = "volumed with fake children"
    fakes = "worker,http,grpc"

    def command(self) -> list[str]:
        _, *arguments = super().command()
        return [sys.executable, "-m", "tests.probe.fakes.node", *arguments]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": str(ROOT), "VOLUMED_TEST_FAKES": self.fakes}

    def call(self, target: str | int, name: str, /, **fields: Any) -> Any:
        """Call the supervisor or a worker through the front; the JSON answer, or the wire form of the error."""
        return get(self.address, f"/call/{target}/{name}?{urlencode(fields)}").json()

    def status(self) -> Any:
        return self.call("supervisor", "NodeStatus")

    def states(self) -> list[str]:
        return [disk["state"] for disk in self.status()["disks"]]

    def child(self, text: str) -> int:
        """Process id of the child whose command line contains the text; OSError while there is none."""
        for pid in self.pids():
            command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
            if pid != self.pid and text in command:
                return pid
        raise OSError(f"no process {text}")

    def worker(self, disk_id: int) -> int:
        """Process id of a disk's worker."""
        return self.child(f"fakes.worker {self.runtime()}/node.json {disk_id} ")

    def runtime(self) -> Path:
        """The runtime directory, found through the children's command line."""
        command = Path(f"/proc/{self.child('fakes.http')}/cmdline").read_text().split("\0")
        return Path(command[-2]).parent

    def allocate(self, disk_id: int, volume_id: int) -> None:
        """Have a worker report a new volume."""
        fields = {"volume_id": volume_id, "collection": "", "replica_placement": 0, "ttl": 0, "version": 3}
        assert self.call(disk_id, "AllocateVolume", **fields) == {}

    def await_states(self, *states: str, timeout_s: float = RESTART_LIMIT_S) -> None:
        wait_until(lambda: self.states() == list(states), timeout_s=timeout_s, what=f"disks {states}")
