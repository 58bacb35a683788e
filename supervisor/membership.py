"""What the supervisor asks of the cluster the node belongs to: a real one, or, standalone, the node itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from supervisor.node import ShardChanges, VolumeChanges
from volumed.bus.events import NodeOptions, StorageBackends

__all__ = ["Membership"]


class Membership(Protocol):
    """All on the supervisor's loop; nothing blocks."""

    @property
    def found(self) -> bool:
        """Whether the ports may open: somebody will send clients here."""

    @property
    def current_master(self) -> str:
        """Address shown to operators; empty without a master."""

    @property
    def options(self) -> NodeOptions:
        """What workers must know."""

    @property
    def backends(self) -> StorageBackends | None:
        """For tiered volumes; workers must know them too. None while nobody has told."""

    @property
    def disconnections(self) -> Mapping[str, int]:
        """Heartbeat streams that ended, by the master's address."""

    def start(self) -> None:
        """Look for the cluster."""

    def ports_opened(self) -> None:
        """Clients can be served."""

    def volumes_changed(self, changes: VolumeChanges) -> None:
        """Volumes came or went; the cluster must know at once."""

    def shards_changed(self, changes: ShardChanges) -> None:
        """Shards came or went; the same."""

    def volumes_reported(self) -> None:
        """Numbers of volumes changed; the cluster may know with the next pulse."""

    def capacity_changed(self) -> None:
        """A disk's state or limit changed."""

    def leave(self, done: Callable[[], None]) -> None:
        """Say farewell, for good; ``done`` when the cluster knows, at the latest after a short time."""
