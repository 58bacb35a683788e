"""An index that was lost here, from servers that have shards of the volume (docs/spec/erasure-coding.md 5.2 step 1)."""

from __future__ import annotations

import logging
from functools import partial

from volumed.bus.calls import EcLocations, Location, LookupEcVolume
from volumed.config.address import join_host_port
from volumed.errors import VolumedError
from volumed.grpc.ec_pull import EcPull
from volumed.grpc.node import GrpcNode
from volumed.grpc.peer import Peer
from volumed.grpc.streams import Call
from volumed.storage.throttle import Throttle

__all__ = ["fetch_index"]

_log = logging.getLogger(__name__)


def fetch_index(node: GrpcNode, call: Call, volume_id: int, collection: str, disk_id: int) -> bool:
    """Bring `.ecx`, and `.ecj` and `.vif` if there are any, to a disk, from the first server that can give the index.
    Whether one could; what went wrong is logged."""
    try:
        found: EcLocations = node.supervisor(LookupEcVolume(volume_id))
    except VolumedError as error:
        _log.warning("no index for the shards of volume %d: %s", volume_id, error.text)
        return False
    here = join_host_port(node.config.ip, node.config.port)
    locations = (location for shard in found.shards.values() for location in shard if location.url != here)
    peers = dict.fromkeys(map(_address, locations))
    return any(_fetch(node, call, source, volume_id, collection, disk_id) for source in peers)


def _address(location: Location) -> str:
    return f"{location.url}.{location.grpc_port}" if location.grpc_port else location.url


def _fetch(node: GrpcNode, call: Call, source: str, volume_id: int, collection: str, disk_id: int) -> bool:
    throttle = Throttle(node.config.maintenance_bytes_per_s, call.wait)
    with Peer(node.channels.open(source), call) as peer:
        pull = EcPull(node, peer, throttle, volume_id, collection, disk_id)
        try:
            pull.index()
        except VolumedError as error:
            _log.warning("no index for the shards of volume %d from %s: %s", volume_id, source, error.text)
            return False
        for helpful in (pull.journal, partial(pull.sidecar, ".vif")):
            try:
                helpful()
            except VolumedError as error:
                _log.warning("the index of volume %d has come from %s, but: %s", volume_id, source, error.text)
    return True
