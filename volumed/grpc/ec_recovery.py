"""An index that was lost here, from servers that have shards of the volume (docs/spec/erasure-coding.md 5.2 step 1)."""

from __future__ import annotations

import logging
from functools import partial
from typing import NamedTuple

from volumed.bus.calls import EcLocations, LookupEcVolume
from volumed.bus.ec_calls import EcListing, ListEcFiles
from volumed.config.address import join_host_port
from volumed.erasure.names import INDEX, INFO
from volumed.errors import VolumedError
from volumed.grpc.ec_pull import EcPull
from volumed.grpc.node import GrpcNode
from volumed.grpc.peer import Peer
from volumed.grpc.streams import Call
from volumed.shards.peers import peer_address
from volumed.shards.planner import ShardPlanner
from volumed.storage.throttle import Throttle

__all__ = ["recover_indexes"]

_log = logging.getLogger(__name__)


class _Lost(NamedTuple):
    """Shards without an index."""

    encode_ts_ns: int
    """Identity of their encode run; 0: unknown."""
    disk_id: int
    collection: str
    volume_id: int


def recover_indexes(node: GrpcNode, call: Call, volume_id: int) -> None:
    """Bring the index of every volume with unmounted shards and without one, or of the volume ``volume_id`` ≠ 0, and
    mount what can be mounted then. What goes wrong is logged."""
    lost: dict[tuple[str, int], _Lost] = {}
    indexed: set[tuple[str, int]] = set()
    for disk_id in node.serving_disks():
        try:
            listing: EcListing = node.worker(disk_id, ListEcFiles(volume_id))
        except VolumedError as error:
            _log.warning("disk %d is left out when indexes are looked for: %s", disk_id, error.text)
            continue
        for files in listing.volumes:
            key = files.collection, files.volume_id
            if files.data.get(INDEX) or files.index.get(INDEX):
                indexed.add(key)
            if not set(files.shards) <= set(files.mounted):
                here = _Lost(files.encode_ts_ns, disk_id, *key)
                lost[key] = max(lost.get(key, here), here, key=lambda each: each.encode_ts_ns)
    for key, shards in lost.items():
        if key not in indexed:
            _fetch_index(node, call, shards)
    if lost:
        ShardPlanner(node.worker, len(node.config.disks)).run(node.serving_disks(), volume_id=volume_id)


def _fetch_index(node: GrpcNode, call: Call, lost: _Lost) -> None:
    """Bring `.ecx`, and `.ecj` and `.vif` if there are any, from the first server that can give the index of that run.
    What goes wrong is logged."""
    try:
        found: EcLocations = node.supervisor(LookupEcVolume(lost.volume_id))
    except VolumedError as error:
        _log.warning("no index for the shards of volume %d: %s", lost.volume_id, error.text)
        return
    here = join_host_port(node.config.ip, node.config.port)
    locations = (location for shard in found.shards.values() for location in shard if location.url != here)
    for source in dict.fromkeys(map(peer_address, locations)):
        if _fetch(node, call, source, lost):
            return


def _fetch(node: GrpcNode, call: Call, source: str, lost: _Lost) -> bool:
    volume_id = lost.volume_id
    throttle = Throttle(node.config.maintenance_bytes_per_s, call.wait)
    with Peer(node.channels.open(source), call) as peer:
        pull = EcPull(node, peer, throttle, volume_id, lost.collection, lost.disk_id)
        try:
            pull.require_run({lost.encode_ts_ns} - {0})
            index_at_ns = pull.index()
        except VolumedError as error:
            _log.warning("no index for the shards of volume %d from %s: %s", volume_id, source, error.text)
            return False
        for helpful in (partial(pull.journal, index_at_ns), partial(pull.sidecar, INFO)):
            try:
                helpful()
            except VolumedError as error:
                _log.warning("the index of volume %d has come from %s, but: %s", volume_id, source, error.text)
    return True
