"""Single calls to a master on behalf of fronts (docs/spec/grpc.md 2.9, 3.12, 3.32; http.md 3.2)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from supervisor.jobs import Jobs
from supervisor.lookups import Lookups
from supervisor.loop import Loop
from supervisor.server_calls import delete_at_server
from volumed.bus import calls
from volumed.bus.router import Reply
from volumed.codes import rpc_error_text
from volumed.config.address import http_address
from volumed.errors import ClientError, Code, RetryError, VolumedError, VolumeNotFound
from volumed.grpc.channels import Channels

__all__ = ["MasterCalls", "MasterCluster", "unknown_ping_target"]

_TIMEOUT_S = 10.0
_LEADER_TIMEOUT_S = 5.0
_CACHED_VOLUMES_MAX = 100_000
_NOT_LEADER = "Not current leader"


class _CachedLookup(NamedTuple):
    locations: calls.Locations
    at_s: float


class _CallFailed(Exception):
    """A master answered with an error; the text names the code as the reference's client does."""


class MasterCalls:
    """Calls to the current master. ``current`` gives its address. All methods but `known` block."""

    def __init__(
        self, seeds: Sequence[str], channels: Channels, current: Callable[[], str], ip: str, port: int
    ) -> None:
        self._seeds = tuple(seeds)
        self._open = channels.open
        self._current = current
        self._ip = ip
        self._port = port
        self._lock = threading.Lock()
        self._channels: dict[str, Any] = {}
        self._lookups: dict[int, _CachedLookup] = {}

    def known(self, request: calls.LookupVolume) -> calls.Locations | None:
        """What `lookup` has found lately, at once."""
        cached = self._lookups.get(request.volume_id)
        if cached is not None and time.monotonic() - cached.at_s < request.max_age_s:
            return cached.locations
        return None

    def lookup(self, request: calls.LookupVolume, timeout_s: float) -> calls.Locations:
        """Where a volume is. Only an answer with locations is remembered.

        Raises `VolumeNotFound` when the master knows of none, and `RetryError` when it cannot be asked."""
        from volumed.wire.master_pb2 import LookupVolumeRequest

        message = LookupVolumeRequest(volume_or_file_ids=[str(request.volume_id)], collection=request.collection)
        try:
            response = self._call(self._current(), "LookupVolume", message, timeout_s)
        except _CallFailed as error:
            raise RetryError(str(error)) from None
        for entry in response.volume_id_locations:
            if entry.error:
                raise VolumeNotFound(entry.error)
            if entry.locations:
                return self._remember(request.volume_id, entry.locations)
        raise VolumeNotFound(f"volume id {request.volume_id} not found")

    def _remember(self, volume_id: int, entries: Sequence[Any]) -> calls.Locations:
        locations = calls.Locations([_location(entry) for entry in entries])
        if len(self._lookups) >= _CACHED_VOLUMES_MAX:
            self._lookups.clear()
        self._lookups[volume_id] = _CachedLookup(locations, time.monotonic())
        return locations

    def lookup_shards(self, request: calls.LookupEcVolume, timeout_s: float) -> calls.EcLocations:
        """Where the shards of a volume are. Raises `VolumeNotFound` when the master knows of none, and `RetryError`
        when it cannot be asked."""
        from volumed.wire.master_pb2 import LookupEcVolumeRequest

        message = LookupEcVolumeRequest(volume_id=request.volume_id)
        try:
            response = self._call(self._current(), "LookupEcVolume", message, timeout_s)
        except _CallFailed as error:
            text = f"lookup ec volume {request.volume_id}: {error}"
            unknown = f"ec volume {request.volume_id} not found" in str(error)
            raise (VolumeNotFound(text) if unknown else RetryError(text)) from None
        return calls.EcLocations(
            {
                entry.shard_id: [_location(location) for location in entry.locations]
                for entry in response.shard_id_locations
                if entry.locations
            }
        )

    def mark_readonly(self, request: calls.MarkReadonlyOnMaster) -> None:
        """Tell the current master, or, when it says that it is not the leader, the leader. Raises `VolumedError`."""
        master = self._current()
        try:
            self._mark(master, request)
        except _CallFailed as error:
            if _NOT_LEADER not in str(error):
                raise _mark_failed(master, request, error) from None
        else:
            return
        leader = self._find_leader(master)
        try:
            self._mark(leader, request)
        except _CallFailed as error:
            raise _mark_failed(leader, request, error) from None

    def _mark(self, master: str, request: calls.MarkReadonlyOnMaster) -> None:
        from volumed.wire.master_pb2 import VolumeMarkReadonlyRequest

        message = VolumeMarkReadonlyRequest(
            ip=self._ip,
            port=self._port,
            volume_id=request.volume_id,
            collection=request.collection,
            replica_placement=request.replica_placement,
            ttl=request.ttl,
            disk_type=request.disk_type,
            is_readonly=request.is_readonly,
        )
        self._call(master, "VolumeMarkReadonly", message)

    def _find_leader(self, refused_by: str) -> str:
        """The leader as the first seed that knows one names it."""
        from volumed.wire.master_pb2 import GetMasterConfigurationRequest

        reason = "no master knows a leader"
        for seed in self._seeds:
            try:
                answer = self._call(seed, "GetMasterConfiguration", GetMasterConfigurationRequest(), _LEADER_TIMEOUT_S)
            except _CallFailed as error:
                reason = str(error)
                continue
            if answer.leader:
                return str(answer.leader)
        raise VolumedError(
            f"heartbeat master {http_address(refused_by)} rejected mark-readonly and leader lookup failed: {reason}"
        )

    def ping(self, request: calls.PingMaster) -> calls.PingResult:
        """Ping a known master. Raises `VolumedError`."""
        from volumed.wire.master_pb2 import PingRequest

        wanted = http_address(request.target)
        known = [address for address in (self._current(), *self._seeds) if http_address(address) == wanted]
        if request.target_type != "master" or not known:
            raise unknown_ping_target(request)
        start_ns = time.time_ns()
        try:
            answer = self._call(known[0], "Ping", PingRequest())
        except _CallFailed as error:
            raise VolumedError(f"ping master {request.target}: {error}") from None
        return calls.PingResult(start_ns, answer.start_time_ns, time.time_ns())

    def _call(self, address: str, method: str, message: Any, timeout_s: float = _TIMEOUT_S) -> Any:
        import grpc

        from volumed.wire.master_pb2_grpc import SeaweedStub

        channel = self._channel(address)
        try:
            return getattr(SeaweedStub(channel), method)(message, timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                self._forget(address, channel)
            raise _CallFailed(rpc_error_text(error.code().name, error.details())) from None

    def _channel(self, address: str) -> Any:
        """One for all calls to a master."""
        with self._lock:
            channel = self._channels.get(address)
        if channel is None:
            # Opening may take as long as a handshake, and other masters are not to wait for this one.
            opened = self._open(address)
            with self._lock:
                channel = self._channels.setdefault(address, opened)
            if channel is not opened:
                opened.close()
        return channel

    def _forget(self, address: str, channel: Any) -> None:
        """The next call opens another one, which knows the certificates of that time. Calls under way keep this one."""
        with self._lock:
            if self._channels.get(address) is channel:
                del self._channels[address]


def _location(entry: Any) -> calls.Location:
    return calls.Location(entry.url, entry.public_url, entry.grpc_port, entry.read_only or entry.read_only_can_delete)


def _mark_failed(master: str, request: calls.MarkReadonlyOnMaster, error: _CallFailed) -> VolumedError:
    # COMPAT: the reference says "read only" of both directions.
    return VolumedError(
        f"grpc VolumeMarkReadonly with master {http_address(master)}: "
        f"set volume {request.volume_id} to read only on master: {error}"
    )


class MasterCluster:
    """The same calls from the supervisor's loop: done on threads, answered when they are."""

    def __init__(self, master: MasterCalls, channels: Channels, loop: Loop) -> None:
        self._master = master
        self._channels = channels
        self._lookups = Lookups(Jobs(loop, "look-ups", threads=8))
        self._requests = Jobs(loop, "requests to the master", threads=4)
        self._deletions = Jobs(loop, "deletions at servers", threads=8)

    def look_up(self, request: calls.LookupVolume, reply: Reply) -> None:
        known = self._master.known(request)
        if known is not None:
            reply.result(known)
            return
        question = msgspec.structs.replace(request, max_age_s=0.0)
        self._lookups.ask(question, lambda timeout_s: self._master.lookup(question, timeout_s), reply)

    def look_up_shards(self, request: calls.LookupEcVolume, reply: Reply) -> None:
        self._lookups.ask(request, lambda timeout_s: self._master.lookup_shards(request, timeout_s), reply)

    def mark_readonly(self, request: calls.MarkReadonlyOnMaster, reply: Reply) -> None:
        self._requests.submit(lambda: self._master.mark_readonly(request), lambda _: reply.result(), reply.error)

    def delete_at(self, request: calls.DeleteAtServer, reply: Reply) -> None:
        self._deletions.submit(lambda: delete_at_server(request, self._channels), reply.result, reply.error)

    def ping(self, request: calls.PingMaster, reply: Reply) -> None:
        self._requests.submit(lambda: self._master.ping(request), reply.result, reply.error)

    def assign(self, _request: calls.AssignFileId, _reply: Reply) -> None:
        raise ClientError("file ids are assigned by the master")


def unknown_ping_target(request: calls.PingMaster) -> VolumedError:
    """The answer to any target that is no known master."""
    return VolumedError(f"unknown ping target {request.target} of type {request.target_type}", Code.INVALID_ARGUMENT)
