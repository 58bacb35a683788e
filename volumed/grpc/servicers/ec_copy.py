"""VolumeEcShardsCopy (docs/spec/erasure-coding.md 5.4)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from volumed.config.address import http_address
from volumed.erasure.errors import NoRoomForShards
from volumed.erasure.names import INFO, SIDECAR, shard_extension
from volumed.errors import VolumedError
from volumed.formats.volumename import check_collection
from volumed.grpc.ec_node import EcNode
from volumed.grpc.ec_pull import EcPull
from volumed.grpc.ec_target import EcTargets
from volumed.grpc.incoming import copy_throttle
from volumed.grpc.peer import Peer, check_source
from volumed.grpc.profile import Profile
from volumed.grpc.streams import Call
from volumed.wire import volume_server_pb2 as pb

__all__ = ["EcCopyServicer"]


class EcCopyServicer:
    """Shards and what belongs to them come from another server. Nothing is mounted."""

    def __init__(self, ec: EcNode, profile: Profile) -> None:
        self._ec = ec
        self._node = ec.node
        self._profile = profile

    def volume_ec_shards_copy(self, request: pb.VolumeEcShardsCopyRequest, call: Call) -> pb.VolumeEcShardsCopyResponse:
        """All files go to one disk, one after the other; the first that fails ends it."""
        node, volume_id = self._node, request.volume_id
        node.refuse_in_maintenance()
        addresses: Sequence[str] = ()
        if self._profile.checks_sources and not self._trusts(request.source_data_node):
            addresses = check_source(request.source_data_node)
        with self._ec.alone(volume_id, call):
            targets = EcTargets.look(node, volume_id)
            disk_id = targets.choose(request.collection, request.disk_id)
            if disk_id is None:
                raise NoRoomForShards.for_shards()
            try:
                check_collection(request.collection)
                with Peer(node.channels.open(request.source_data_node, addresses), call) as peer:
                    throttle = copy_throttle(node, request.io_byte_per_second, call)
                    pull = EcPull(node, peer, throttle, volume_id, request.collection, disk_id)
                    pull.require_run(targets.encode_runs(request.collection))
                    _pull(pull, request)
            except VolumedError as error:
                raise VolumedError(f"VolumeEcShardsCopy volume {volume_id}: {error.text}") from None
        return pb.VolumeEcShardsCopyResponse()

    def _trusts(self, source: str) -> bool:
        """Whether any source may be named, or it is on this host, on which all of the cluster are."""
        config = self._node.config
        # DEVIATE: the reference needs a flag for clusters of one host.
        source_host = http_address(source).rpartition(":")[0]
        return config.allow_untrusted_endpoints or (_is_loopback(config.ip) and _is_loopback(source_host))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _pull(pull: EcPull, request: pb.VolumeEcShardsCopyRequest) -> None:
    """The index comes after the shards: without one they are not mounted. The journal comes after the index, so that
    no deletion is missed. Raises `VolumedError`."""
    for shard_id in request.shard_ids:
        pull.shard(shard_extension(shard_id))
    index_at_ns = pull.index() if request.copy_ecx_file else None
    if request.copy_ecj_file:
        pull.journal(index_at_ns)
    if request.copy_vif_file:
        pull.sidecar(INFO)
    if request.copy_ecsum_file:
        pull.sidecar(SIDECAR)
