"""All that a front does with erasure coded volumes: it reads and deletes needles (erasure-coding.md 4.11, 4.12).

Everything but `find` and `read_now` may wait, and is for threads.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Protocol

from volumed.bus.ec_calls import ShardUnreadable
from volumed.config.node import NodeConfig
from volumed.formats.fileid import format_key_cookie
from volumed.formats.needle import Needle
from volumed.shards.beside import DeletesOfBoth, VolumesView
from volumed.shards.calls import NodeCalls
from volumed.shards.deletes import EcDeletes
from volumed.shards.elsewhere import OtherServers
from volumed.shards.occasional import Occasional
from volumed.shards.peers import ShardPeers
from volumed.shards.reader import EcReader
from volumed.shards.threads import BoundedThreads
from volumed.shards.unreadable import UnreadableShards
from volumed.shards.view import NodeEcVolume
from volumed.storage.mounted_shards import MountedShards

__all__ = ["NodeShards", "ShardMetrics"]

_log = logging.getLogger(__name__)

_TELLING_S = 5.0
_TELLING_MAX = 100


class ShardMetrics(Protocol):
    """What is counted. Any thread."""

    def needle_repaired(self) -> None:
        """A needle could be read only without a shard whose bytes are wrong."""

    def disk_failed(self) -> None:
        """A disk could not read a shard."""


class NodeShards:
    """One per front. Any thread."""

    def __init__(self, config: NodeConfig, mounted: VolumesView, calls: NodeCalls, metrics: ShardMetrics) -> None:
        self._metrics = metrics
        self._log_times = Occasional()
        peers = ShardPeers(config.runtime_dir)
        self.elsewhere = OtherServers(config, calls.supervisor, peers)
        self._calls = calls
        self._telling = BoundedThreads("unreadable shards", 1, _TELLING_MAX)
        self.unreadable = UnreadableShards(metrics.disk_failed, self._tell_unreadable)
        reader = EcReader(config, mounted, self.elsewhere, self._report, self.unreadable)
        deletes = EcDeletes(reader, self.elsewhere, peers, calls)
        self.find = reader.find
        self.find_row = reader.find_row
        self.read_now = reader.read_now
        self.read = reader.read
        self.read_data = reader.read_data
        self.read_shard = reader.read_shard
        self.distrust = reader.distrust
        both = DeletesOfBoth(deletes, mounted, calls)
        self.delete = both.delete
        self.delete_found = both.delete_found
        self.delete_beside = both.delete_beside
        self.journal_here = both.journal_here

    def _tell_unreadable(self, disk: MountedShards, shard: int) -> None:
        """To the worker. If it does not hear of that, it does the next time."""
        request = ShardUnreadable(disk.volume_id, shard, disk.record.generation)
        self._telling.submit(partial(self._calls.worker, disk.disk_id, request, _TELLING_S))

    def _report(self, volume: NodeEcVolume, needle: Needle, shard: int) -> None:
        self._metrics.needle_repaired()
        if self._log_times.is_due((volume.volume_id, shard)):
            name = format_key_cookie(needle.key, needle.cookie)
            _log.error("ec volume %d: shard %d is damaged, needle %s is read without it", volume.volume_id, shard, name)
