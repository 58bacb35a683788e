"""Which RPCs are administration, and who may call them (docs/spec/grpc.md 1.2, 1.3 column A, and 7.4)."""

from __future__ import annotations

from urllib.parse import unquote

import grpc

from volumed.grpc import texts
from volumed.security.access import AccessView
from volumed.security.guard import canonical_address

__all__ = ["ADMIN_METHODS", "AdminGate", "peer_address"]

ADMIN_METHODS = frozenset(
    {
        "AllocateVolume",
        "BatchDelete",
        "DeleteCollection",
        "FetchAndWriteNeedle",
        "ReadAllNeedles",
        "ScrubEcVolume",
        "ScrubVolume",
        "SetState",
        "VacuumVolumeCleanup",
        "VacuumVolumeCommit",
        "VacuumVolumeCompact",
        "VolumeConfigure",
        "VolumeConsolidateIndex",
        "VolumeCopy",
        "VolumeDelete",
        "VolumeEcShardsCopy",
        "VolumeEcShardsDelete",
        "VolumeEcShardsGenerate",
        "VolumeEcShardsRebuild",
        "VolumeEcShardsToVolume",
        "VolumeEcShardsUnmount",
        "VolumeMarkReadonly",
        "VolumeMarkWritable",
        "VolumeMount",
        "VolumeNeedleStatus",
        "VolumeServerLeave",
        "VolumeTailReceiver",
        "VolumeTierMoveDatFromRemote",
        "VolumeTierMoveDatToRemote",
        "VolumeUnmount",
    }
)


class AdminGate:
    """The white list in front of these methods, whether they are implemented or not."""

    def __init__(self, access: AccessView) -> None:
        self._access = access

    def check(self, method: str, context: grpc.ServicerContext) -> None:
        """End the call with PERMISSION_DENIED when its caller is not on the list."""
        white_list = self._access.current.white_list
        if white_list is None or method not in ADMIN_METHODS:
            return
        address = peer_address(context.peer())
        if not address:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, texts.no_peer_info())
        if not white_list.allows(address):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, texts.not_authorized(address))


def peer_address(peer: str) -> str:
    """The address in what the library calls a peer, ``ipv4:1.2.3.4:5`` or ``ipv6:[::1]:5``; empty for other kinds."""
    kind, _, rest = unquote(peer).partition(":")
    host = rest.rpartition(":")[0].strip("[]")
    return canonical_address(host) if kind in ("ipv4", "ipv6") else ""
