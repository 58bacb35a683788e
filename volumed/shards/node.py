"""All that a front does with erasure coded volumes: it reads and deletes needles (erasure-coding.md 4.11, 4.12).

Everything but `find` and `read_now` may wait, and is for threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from volumed.config.node import NodeConfig
from volumed.formats.fileid import format_key_cookie
from volumed.formats.needle import Needle
from volumed.shards.beside import DeletesOfBoth, VolumesView
from volumed.shards.calls import NodeCalls
from volumed.shards.deletes import EcDeletes
from volumed.shards.elsewhere import OtherServers
from volumed.shards.peers import ShardPeers
from volumed.shards.reader import EcReader
from volumed.shards.view import EcVolume

__all__ = ["NodeShards"]

_log = logging.getLogger(__name__)


class NodeShards:
    """One per front. Any thread."""

    def __init__(
        self, config: NodeConfig, mounted: VolumesView, calls: NodeCalls, repaired: Callable[[], None]
    ) -> None:
        """``repaired`` is called when a needle could be read only without a shard whose bytes are wrong."""
        self._repaired = repaired
        peers = ShardPeers(config.runtime_dir)
        self.elsewhere = OtherServers(config, calls.supervisor, peers)
        reader = EcReader(config, mounted, self.elsewhere, self._report)
        deletes = EcDeletes(reader, self.elsewhere, peers, calls)
        self.find = reader.find
        self.find_row = reader.find_row
        self.read_now = reader.read_now
        self.read = reader.read
        self.read_data = reader.read_data
        self.read_shard = reader.read_shard
        self.is_damaged = reader.is_damaged
        both = DeletesOfBoth(deletes, mounted, calls)
        self.delete = both.delete
        self.delete_found = both.delete_found
        self.journal_here = deletes.journal_here

    def _report(self, volume: EcVolume, needle: Needle, shard: int) -> None:
        name = format_key_cookie(needle.key, needle.cookie)
        _log.error("ec volume %d: shard %d is damaged, needle %s is read without it", volume.volume_id, shard, name)
        self._repaired()
