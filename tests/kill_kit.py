"""Kills of real workers at named steps: what a `kill -9` at exactly this change of the disk leaves behind.

The supervisor and the fronts are the real ones, a worker is the real one behind a `FileIO` and a needle map that name
their steps (``tests.probe.fakes.mortal_worker`` and ``mortal_files`` say how). First find out which steps an operation
takes, once, and keep the list in the test, so that no later one is forgotten. Then run the operation once per step::

    with MortalNode(tmp_path / "node", dirs=[...]) as node:
        node.forget_steps()
        operate()
        assert only(node.steps(), ".cpd", ".cpx", ".cpc") == [...]
        for path in paths_to([...]):
            with node.dying_at(path), contextlib.suppress(grpc.RpcError):
                operate()
            ...  # the worker is back: check what is acknowledged, and that nothing lies around

A path names what the worker must have done, ``["flush:.cpd", "flush:.cpd"]`` is the second flush of that kind; other
steps in between, those of clients for instance, do not matter.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.cluster import Volumed
from tests.probe.fakes.fate import BEFORE, NODE, ORDER, STEPS, Order
from tests.processes import wait_until
from volumed.config.node import load_node_config
from volumed.nodetable import DISK_STATES_THAT_SERVE, NodeTable

__all__ = ["MortalNode", "only", "paths_to"]

ROOT = Path(__file__).parents[1]
LIMIT_S = 120.0


class MortalNode(Volumed):
    """A node whose workers can be told to die; the supervisor starts them again without delay."""

    name = "volumed with mortal workers"

    def __init__(self, home: Path, **options: Any) -> None:
        super().__init__(home, **options)
        self._fate = home / "fate"
        self._fate.mkdir()
        self.forget_steps()
        self._numbers = itertools.count(1)

    def command(self) -> list[str]:
        _, *arguments = super().command()
        return [sys.executable, "-m", "tests.probe.fakes.mortal_node", *arguments]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": str(ROOT), "VOLUMED_TEST_FATE": str(self._fate)}

    def forget_steps(self) -> None:
        """`steps` begins anew."""
        (self._fate / STEPS).write_bytes(b"")

    def steps(self) -> list[str]:
        """What the workers have begun to do, in this order."""
        return (self._fate / STEPS).read_text().split()

    @contextlib.contextmanager
    def dying_at(self, path: Sequence[str], moment: str = BEFORE) -> Iterator[None]:
        """Kills the worker that takes the last step of the path while the block runs; ``moment``: ``before`` the step,
        ``halfway`` in it (writes and copies), or ``after`` it. Behind the block its successor serves the disk."""
        before = self._epochs()
        order = self._fate / ORDER
        fresh = order.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(Order(next(self._numbers), list(path), moment)))
        os.rename(fresh, order)
        try:
            yield
            wait_until(lambda: not order.exists(), timeout_s=LIMIT_S, what=f"a death at {path}")
        finally:
            order.unlink(missing_ok=True)
        wait_until(lambda: self._epochs() > before, timeout_s=LIMIT_S, what="a new worker")
        wait_until(self._serves, timeout_s=LIMIT_S, what="all disks in service")

    def _epochs(self) -> int:
        return sum(row.epoch for row in self._table().disks)

    def _serves(self) -> bool:
        return all(row.state in DISK_STATES_THAT_SERVE for row in self._table().disks)

    def _table(self) -> NodeTable:
        return NodeTable(load_node_config((self._fate / NODE).read_text()).node_table_path())


def only(steps: Sequence[str], *objects: str) -> list[str]:
    """The steps on these extensions, ``directory``, or changes of the map."""
    return [step for step in steps if step.partition(":")[2] in objects]


def paths_to(steps: Sequence[str], among: Collection[str] = ()) -> list[list[str]]:
    """A path to each of the steps: the same ones before it, and, when the step is ``among`` those that others take as
    well, the last step before it that is not."""
    paths = []
    for index, step in enumerate(steps):
        start = index
        while start and steps[start] in among:
            start -= 1
        anchor = steps[start]
        path = [before for before in steps[: start + 1] if before == anchor]
        path += [before for before in steps[start + 1 : index + 1] if before == step]
        paths.append(path)
    return paths
