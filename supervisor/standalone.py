"""A node that is its own cluster: file ids, volumes on demand, look-ups (``volumed standalone``).

Needle keys and volume ids are handed out in growing order and never twice, also after a crash or when the volume they
were used in is gone: a block of keys, and each volume id, is on disk before it is used. Cookies are random.
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from supervisor.jobs import Jobs
from supervisor.master_calls import unknown_ping_target
from supervisor.node import Node, ShardChanges, VolumeChanges
from volumed.bus import calls
from volumed.bus.events import NodeOptions, StorageBackends
from volumed.bus.router import Reply
from volumed.config.address import join_host_port
from volumed.config.node import NodeConfig
from volumed.errors import ClientError, NodeError, NoFreeSpace, RetryError, VolumedError, VolumeNotFound
from volumed.formats.fileid import format_file_id
from volumed.formats.ttl import parse_ttl
from volumed.formats.volumename import check_collection

__all__ = ["IdStore", "Standalone"]

_KEYS_PER_BLOCK = 10_000
_COUNT_MAX = 100_000
_WAITING_MAX = 10_000
_KEY_FLOOR_MAX = 1 << 62
"""A stored needle with a larger key was not named by us and must not exhaust our keys."""
_COOKIE_BITS = 32
_VOLUME_VERSION = 3
_ALLOCATE_TIMEOUT_S = 30.0


class _Counters(msgspec.Struct):
    """What is never used again: keys below ``next_key``, volume ids up to ``last_volume_id``."""

    next_key: int = 1
    last_volume_id: int = 0


class IdStore:
    """The persistent counters. Methods block on the file and may be called on any thread."""

    def __init__(self, state_dir: str, first_directory: str) -> None:
        # Nodes of one user share a state directory; the first data directory tells them apart.
        name = hashlib.sha256(os.path.realpath(first_directory).encode()).hexdigest()[:16]
        self._path = Path(state_dir) / f"standalone-{name}.json"
        self._lock = threading.Lock()
        self._counters = self._load()

    @property
    def last_volume_id(self) -> int:
        return self._counters.last_volume_id

    def reserve_keys(self, count: int, at_least: int) -> range:
        """A block of keys that nobody was or will be given again."""
        with self._lock:
            start = max(self._counters.next_key, at_least)
            self._save(msgspec.structs.replace(self._counters, next_key=start + count))
            return range(start, start + count)

    def use_volume_id(self, volume_id: int) -> None:
        """Remember that the id is taken for ever."""
        with self._lock:
            if volume_id > self._counters.last_volume_id:
                self._save(msgspec.structs.replace(self._counters, last_volume_id=volume_id))

    def _load(self) -> _Counters:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Counters)
        except FileNotFoundError:
            return _Counters()
        except (OSError, msgspec.MsgspecError) as error:
            raise NodeError(f"cannot read {self._path}: {error}") from None

    def _save(self, counters: _Counters) -> None:
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("wb") as file:
                file.write(msgspec.json.encode(counters))
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(self._path)
        except OSError as error:
            raise NodeError(f"cannot write {self._path}: {error.strerror}") from None
        self._counters = counters


class _Kind(NamedTuple):
    """Volumes that may hold the same objects."""

    collection: str
    ttl: int


class _Wanted(NamedTuple):
    """A request that waits for keys or for a volume."""

    kind: _Kind
    keys: int
    reply: Reply


class CallClient(Protocol):
    """Blocking calls to a worker (``volumed.bus.caller.Caller``)."""

    def call(self, endpoint: str, request: calls.Request, timeout_s: float) -> object: ...


class Standalone:
    """Answers assignments and look-ups on the supervisor's loop; files and workers are waited for by jobs.

    A `Membership` of a cluster of one, and the `Cluster` that requests ask."""

    found = True
    current_master = ""
    disconnections: Mapping[str, int] = {}
    backends = StorageBackends([])

    def __init__(self, config: NodeConfig, node: Node, ids: IdStore, jobs: Jobs, caller: CallClient) -> None:
        self.options = NodeOptions(config.volume_size_limit_bytes, config.preallocate)
        self._config = config
        self._node = node
        self._ids = ids
        self._jobs = jobs
        self._caller = caller
        self._url = join_host_port(config.ip, config.port)
        self._keys = range(0)
        self._reserving = False
        self._last_volume_id = ids.last_volume_id
        self._allocating: dict[tuple[_Kind, int], int] = {}
        self._writable: dict[_Kind, list[int]] = {}
        self._waiting: list[_Wanted] = []

    def look_up(self, request: calls.LookupVolume, reply: Reply) -> None:
        """This node is the only location there is. Raises `VolumeNotFound`."""
        if not self._node.holds(request.volume_id):
            raise VolumeNotFound(f"volume id {request.volume_id} not found")
        here = calls.Location(self._url, self._config.public_url, self._config.grpc_port)
        reply.result(calls.Locations([here]))

    def look_up_shards(self, request: calls.LookupEcVolume, reply: Reply) -> None:
        """The shards that are mounted here. Raises `VolumeNotFound`."""
        here = calls.Location(self._url, self._config.public_url, self._config.grpc_port)
        shards = {
            shard: [here]
            for report in self._node.shard_reports()
            if report.id == request.volume_id
            for shard in report.shards
        }
        if not shards:
            raise VolumeNotFound(f"lookup ec volume {request.volume_id}: ec volume {request.volume_id} not found")
        reply.result(calls.EcLocations(shards))

    def mark_readonly(self, _: calls.MarkReadonlyOnMaster, reply: Reply) -> None:
        """Nobody else has to know."""
        reply.result()

    def ping(self, request: calls.PingMaster, _: Reply) -> None:
        """There is no master to ping."""
        raise unknown_ping_target(request)

    def delete_at(self, request: calls.DeleteAtServer, _reply: Reply) -> None:
        """There is no other server."""
        raise ClientError(f"unknown server {request.url}")

    def assign(self, request: calls.AssignFileId, reply: Reply) -> None:
        """Answer now or as soon as there are keys and a volume with room. Raises for a bad request."""
        if not 1 <= request.count <= _COUNT_MAX:
            raise ClientError(f"count {request.count} is not between 1 and {_COUNT_MAX}")
        if len(self._waiting) >= _WAITING_MAX:
            raise RetryError("too many assignments are waiting")
        check_collection(request.collection)
        kind = _Kind(request.collection, parse_ttl(request.ttl).to_u32())
        self._waiting.append(_Wanted(kind, request.count, reply))
        self._serve()

    def start(self) -> None:
        """There is nobody to look for."""

    def ports_opened(self) -> None:
        """There is nobody to tell."""

    def leave(self, done: Callable[[], None]) -> None:
        """There is nobody to leave."""
        done()

    def volumes_changed(self, _: VolumeChanges) -> None:
        self.volumes_reported()

    def shards_changed(self, _: ShardChanges) -> None:
        """There is nobody to tell."""

    def capacity_changed(self) -> None:
        self.volumes_reported()

    def volumes_reported(self) -> None:
        """Another volume may be writable now."""
        self._writable.clear()
        self._allocating = {
            place: volume_id for place, volume_id in self._allocating.items() if not self._node.holds(volume_id)
        }
        if self._waiting:
            self._serve()

    def _serve(self) -> None:
        """Answer whom we can; what is missing for the others is being fetched afterwards."""
        waiting, self._waiting = self._waiting, []
        for wanted in waiting:
            if not self._answered(wanted):
                self._waiting.append(wanted)

    def _answered(self, wanted: _Wanted) -> bool:
        volumes = self._writable_volumes(wanted.kind)
        if not volumes:
            return not self._allocate_for(wanted)
        key = self._take_keys(wanted.keys)
        if key is None:
            return False
        volume_id = random.choice(volumes)
        fid = format_file_id(volume_id, key, secrets.randbits(_COOKIE_BITS))
        wanted.reply.result(calls.Assignment(fid, self._url, self._config.public_url, wanted.keys))
        return True

    def _writable_volumes(self, kind: _Kind) -> list[int]:
        """Ids of volumes of the kind that take writes and have room; remembered until a worker reports."""
        if kind not in self._writable:
            self._writable[kind] = [
                volume.report.id
                for disk in self._node.disks
                if disk.behaviour.serves and not disk.space_low
                for volume in disk.volumes.values()
                if _Kind(volume.report.collection, volume.report.ttl) == kind
                and volume.reported
                and not volume.report.read_only
                and volume.report.size < self._config.volume_size_limit_bytes
            ]
        return self._writable[kind]

    def _take_keys(self, count: int) -> int | None:
        """First of ``count`` consecutive keys, None while more are being reserved."""
        floor = self._node.max_file_key() + 1
        if self._keys.start < floor <= _KEY_FLOOR_MAX:
            self._keys = range(min(floor, self._keys.stop), self._keys.stop)
        if len(self._keys) < count:
            self._reserve_keys(count, floor)
            return None
        key = self._keys.start
        self._keys = self._keys[count:]
        return key

    def _reserve_keys(self, count: int, floor: int) -> None:
        if self._reserving:
            return
        self._reserving = True
        at_least = floor if floor <= _KEY_FLOOR_MAX else 0
        self._jobs.submit(
            lambda: self._ids.reserve_keys(max(count, _KEYS_PER_BLOCK), at_least),
            self._keys_reserved,
            self._no_keys,
        )

    def _keys_reserved(self, keys: range) -> None:
        self._reserving = False
        self._keys = keys
        self._serve()

    def _no_keys(self, error: VolumedError) -> None:
        self._reserving = False
        self._fail_waiting(error, lambda _: True)

    def _allocate_for(self, wanted: _Wanted) -> bool:
        """Create one volume of the kind on every disk with room, so that writes use all disks. False when there is
        no disk; the request is answered then."""
        if any(kind == wanted.kind for kind, _ in self._allocating):
            return True
        started = [self._allocate(wanted.kind, disk_id) for disk_id in range(len(self._node.disks))]
        if not any(started):
            wanted.reply.error(NoFreeSpace.for_volume())
            return False
        return True

    def _allocate(self, kind: _Kind, disk_id: int) -> bool:
        volume_id = self._next_volume_id()
        try:
            self._node.place_on(volume_id, disk_id, time.monotonic())
        except NoFreeSpace:
            return False
        self._last_volume_id = volume_id
        self._allocating[kind, disk_id] = volume_id
        endpoint = self._config.worker_endpoint(disk_id, self._node.disks[disk_id].epoch)
        request = calls.AllocateVolume(volume_id, kind.collection, 0, kind.ttl, _VOLUME_VERSION)

        def create() -> None:
            self._ids.use_volume_id(volume_id)
            self._caller.call(endpoint, request, _ALLOCATE_TIMEOUT_S)

        def created(_: None) -> None:
            # The worker's event, which was sent before its answer, makes the volume known.
            self._node.release(volume_id)

        def failed(error: VolumedError) -> None:
            self._node.release(volume_id)
            self._allocating.pop((kind, disk_id), None)
            if not any(other == kind for other, _ in self._allocating):
                self._fail_waiting(error, lambda wanted: wanted.kind == kind)

        self._jobs.submit(create, created, failed)
        return True

    def _next_volume_id(self) -> int:
        highest = max((max(disk.volumes, default=0) for disk in self._node.disks), default=0)
        return max(self._last_volume_id, highest) + 1

    def _fail_waiting(self, error: VolumedError, concerns: Callable[[_Wanted], bool]) -> None:
        waiting, self._waiting = self._waiting, []
        for wanted in waiting:
            if concerns(wanted):
                wanted.reply.error(error)
            else:
                self._waiting.append(wanted)
