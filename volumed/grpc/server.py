"""The gRPC server: channel options and method table (docs/spec/grpc.md 1.1, 7.1, rules P9, P16)."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from grpc_reflection.v1alpha import reflection

from volumed.grpc import texts
from volumed.grpc.admin_gate import AdminGate
from volumed.grpc.ec_node import EcNode
from volumed.grpc.handlers import Behaviour, Handler, method_handler, refusal
from volumed.grpc.node import GrpcNode
from volumed.grpc.profile import PROFILES
from volumed.grpc.servicers.configure import ConfigureServicer
from volumed.grpc.servicers.copy import CopyServicer
from volumed.grpc.servicers.deletes import DeletesServicer
from volumed.grpc.servicers.ec_copy import EcCopyServicer
from volumed.grpc.servicers.ec_decode import EcDecodeServicer
from volumed.grpc.servicers.ec_delete import EcDeleteServicer
from volumed.grpc.servicers.ec_mount import EcMountServicer
from volumed.grpc.servicers.ec_needles import EcNeedlesServicer
from volumed.grpc.servicers.ec_operations import EcOperationsServicer
from volumed.grpc.servicers.ec_scrub import EcScrubServicer
from volumed.grpc.servicers.fetch import FetchServicer
from volumed.grpc.servicers.files import FilesServicer
from volumed.grpc.servicers.lifecycle import LifecycleServicer
from volumed.grpc.servicers.marks import MarksServicer
from volumed.grpc.servicers.needles import NeedlesServicer
from volumed.grpc.servicers.query import QueryServicer
from volumed.grpc.servicers.receive import ReceiveServicer
from volumed.grpc.servicers.scrub import ScrubServicer
from volumed.grpc.servicers.status import StatusServicer
from volumed.grpc.servicers.tail import TailServicer
from volumed.grpc.servicers.tail_receiver import TailReceiverServicer
from volumed.grpc.servicers.tiering import TieringServicer
from volumed.grpc.servicers.vacuum import VacuumServicer
from volumed.grpc.streams import CALLS_MAX, CallThreads
from volumed.grpc.transport import TRANSPORT_OPTIONS
from volumed.security.access import AccessView
from volumed.wire import volume_server_pb2 as pb

__all__ = ["SERVICE", "create_server", "served_methods"]

_SERVICE_DESCRIPTOR = pb.DESCRIPTOR.services_by_name["VolumeServer"]
SERVICE: str = _SERVICE_DESCRIPTOR.full_name

_UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED
_OPTIONS = (
    *TRANSPORT_OPTIONS,
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
    ("grpc.max_concurrent_streams", 1000),
    # The supervisor holds the port with a bound, never listening socket; that is what makes a second node fail.
    ("grpc.so_reuseport", 1),
)


def served_methods(node: GrpcNode) -> dict[str, Behaviour]:
    """RPC name → handler of every method of the contract."""
    profile = PROFILES[node.config.compat]
    lifecycle = LifecycleServicer(node, profile)
    configure = ConfigureServicer(node)
    ec = EcNode(node)
    ec_needles = EcNeedlesServicer(node)
    ec_operations = EcOperationsServicer(ec)
    ec_mount = EcMountServicer(ec)
    files = FilesServicer(node)
    status = StatusServicer(node)
    marks = MarksServicer(node, profile)
    needles = NeedlesServicer(node, profile)
    tail = TailServicer(node)
    tiering = TieringServicer(node)
    vacuum = VacuumServicer(node, profile)
    return {
        "AllocateVolume": lifecycle.allocate_volume,
        "BatchDelete": DeletesServicer(node).batch_delete,
        "CopyFile": files.copy_file,
        "DeleteCollection": lifecycle.delete_collection,
        "FetchAndWriteNeedle": FetchServicer(node).fetch_and_write_needle,
        "GetState": status.get_state,
        "Ping": status.ping,
        "Query": QueryServicer(node).query,
        "ReadAllNeedles": needles.read_all_needles,
        "ReadNeedleBlob": needles.read_needle_blob,
        "ReadNeedleMeta": needles.read_needle_meta,
        "ReadVolumeFileStatus": files.read_volume_file_status,
        "ReceiveFile": ReceiveServicer(node).receive_file,
        "ScrubEcVolume": EcScrubServicer(node).scrub_ec_volume,
        "ScrubVolume": ScrubServicer(node, marks).scrub_volume,
        "SetState": status.set_state,
        "VacuumVolumeCheck": vacuum.vacuum_volume_check,
        "VacuumVolumeCleanup": vacuum.vacuum_volume_cleanup,
        "VacuumVolumeCommit": vacuum.vacuum_volume_commit,
        "VacuumVolumeCompact": vacuum.vacuum_volume_compact,
        "VolumeConfigure": configure.volume_configure,
        "VolumeConsolidateIndex": configure.volume_consolidate_index,
        "VolumeCopy": CopyServicer(node, profile).volume_copy,
        "VolumeDelete": lifecycle.volume_delete,
        "VolumeEcBlobDelete": ec_needles.volume_ec_blob_delete,
        "VolumeEcShardRead": ec_needles.volume_ec_shard_read,
        "VolumeEcShardsCopy": EcCopyServicer(ec, profile).volume_ec_shards_copy,
        "VolumeEcShardsDelete": EcDeleteServicer(ec).volume_ec_shards_delete,
        "VolumeEcShardsGenerate": ec_operations.volume_ec_shards_generate,
        "VolumeEcShardsRebuild": ec_operations.volume_ec_shards_rebuild,
        "VolumeEcShardsToVolume": EcDecodeServicer(ec).volume_ec_shards_to_volume,
        "VolumeEcShardsInfo": ec_mount.info,
        "VolumeEcShardsMount": ec_mount.mount,
        "VolumeEcShardsUnmount": ec_mount.unmount,
        "VolumeIncrementalCopy": files.volume_incremental_copy,
        "VolumeMarkReadonly": marks.volume_mark_readonly,
        "VolumeMarkWritable": marks.volume_mark_writable,
        "VolumeMount": lifecycle.volume_mount,
        "VolumeNeedleStatus": needles.volume_needle_status,
        "VolumeServerLeave": status.volume_server_leave,
        "VolumeServerStatus": status.volume_server_status,
        "VolumeStatus": status.volume_status,
        "VolumeSyncStatus": files.volume_sync_status,
        "VolumeTailReceiver": TailReceiverServicer(node, profile).volume_tail_receiver,
        "VolumeTailSender": tail.volume_tail_sender,
        "VolumeTierMoveDatFromRemote": tiering.volume_tier_move_dat_from_remote,
        "VolumeTierMoveDatToRemote": tiering.volume_tier_move_dat_to_remote,
        "VolumeUnmount": lifecycle.volume_unmount,
        "WriteNeedleBlob": needles.write_needle_blob,
    }


class _VolumeServerHandler(grpc.GenericRpcHandler):
    """Routes a call by its path; speaks the reference's texts for what does not exist."""

    def __init__(self, behaviours: dict[str, Behaviour], gate: AdminGate) -> None:
        self._handlers: dict[str, Handler] = {
            method.name: method_handler(method, behaviours[method.name], gate) for method in _SERVICE_DESCRIPTOR.methods
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        service, _, method = handler_call_details.method.lstrip("/").rpartition("/")
        if service != SERVICE:
            return refusal(_UNIMPLEMENTED, texts.unknown_service(service))
        return self._handlers.get(method) or refusal(_UNIMPLEMENTED, texts.unknown_method(method, service))


def create_server(
    node: GrpcNode, access: AccessView, interceptors: Sequence[grpc.ServerInterceptor] = ()
) -> grpc.Server:
    """A server with the service and reflection behind ``interceptors``, not bound to a port yet."""
    server = grpc.server(
        CallThreads(), interceptors=list(interceptors), options=_OPTIONS, maximum_concurrent_rpcs=CALLS_MAX
    )
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
    server.add_generic_rpc_handlers((_VolumeServerHandler(served_methods(node), AdminGate(access)),))
    return server
