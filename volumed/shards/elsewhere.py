"""Shards that this node does not have: who has them is asked of the master, when one is needed (rule R4), and kept."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

from volumed.bus.calls import EcLocations, Location, LookupEcVolume
from volumed.config.address import http_address, join_host_port
from volumed.config.node import NodeConfig
from volumed.erasure.layout import Interval
from volumed.errors import NeedleDeleted, VolumedError
from volumed.shards.gathering import HASTY, PATIENT, NoAnswer, Patience
from volumed.shards.locations import ShardLocations
from volumed.shards.occasional import Occasional
from volumed.shards.peers import PeerError, ShardPeers, peer_address
from volumed.shards.threads import BoundedThreads
from volumed.shards.view import NodeEcVolume

__all__ = ["OtherServers"]

_log = logging.getLogger(__name__)

_SERVERS_MAX = 256
_THREADS_PER_SERVER = 8
_WAITING_PER_SERVER_MAX = 256
_LOOK_UPS_MAX = 4
_LOOK_UPS_WAITING_MAX = 256
_VOLUMES_MAX = 10_000
_SILENT_S = 5.0
"""A server that did not answer is not asked for so long, unless nothing else helps."""
_ANSWERED_SHARE = 0.9
"""Of the patience of a read, after which a server is given up: what the read does then must know of it."""

LookUp = Callable[[LookupEcVolume, float], EcLocations]


class _Known:
    """The locations of one volume, and why they could not be learnt."""

    def __init__(self, volume: NodeEcVolume) -> None:
        self.lock = threading.Lock()
        self.locations = ShardLocations(volume.source.layout.ratio)
        self.error: VolumedError | None = None
        self.is_asked_ahead = False
        """Somebody is about to ask the master while its last answer is still believed."""


class _Sought(NamedTuple):
    """A piece that is wanted from servers that have the shard."""

    volume: NodeEcVolume
    key: int
    piece: Interval
    known: _Known
    recovers: bool


class OtherServers:
    """Implements `volumed.shards.gathering.Elsewhere`. Any thread."""

    def __init__(self, config: NodeConfig, look_up: LookUp, peers: ShardPeers) -> None:
        """``look_up`` asks the supervisor, with a time limit in seconds."""
        self._own = join_host_port(config.ip, config.port)
        self._master = http_address(config.masters[0]) if config.masters else ""
        self._look_up = look_up
        self._peers = peers
        self._look_ups = BoundedThreads("shard-look-ups", _LOOK_UPS_MAX, _LOOK_UPS_WAITING_MAX)
        self._threads: dict[str, BoundedThreads] = {}
        """By address, those asked lately at the end."""
        self._lock = threading.Lock()
        self._volumes: dict[int, _Known] = {}
        self._silent_until_s: dict[str, float] = {}
        self._log_times = Occasional()

    def start(
        self, volume: NodeEcVolume, key: int, wanted: Interval, patience: Patience, *, recovers: bool = False
    ) -> Future[bytes | None] | None:
        """Read a piece on a thread; None: nobody is known to have it."""
        known = self._ask(volume, patience)
        locations = self._in_order(self._others(known, wanted.shard))
        if not locations:
            return None
        sought = _Sought(volume, key, wanted, known, recovers)
        threads = self._threads_of(peer_address(locations[0]))
        return threads.submit(partial(self._read, sought, locations, patience))

    def locations(self, volume: NodeEcVolume, shard: int, patience: Patience) -> list[Location]:
        """The other servers that have a shard, as far as the master tells."""
        return self._others(self._ask(volume, patience), shard)

    def is_lost(self, volume_id: int, shard: int) -> bool:
        """Whether the master has said lately that no other server has a shard."""
        known, now_s = self._volumes.get(volume_id), time.monotonic()
        if known is None or known.error is not None or not known.locations.is_fresh(now_s):
            return False
        if known.locations.is_ending(now_s) and not known.is_asked_ahead:
            known.is_asked_ahead = True
            if self._look_ups.submit(partial(self._ask_ahead, volume_id, known)) is None:
                known.is_asked_ahead = False
        return not self._others(known, shard)

    def renew(self, volume_id: int) -> None:
        """Let the next read of a volume ask the master again; waits if it was asked just now."""
        known = self._volumes.get(volume_id)
        if known is not None:
            time.sleep(known.locations.renew(time.monotonic()))

    def lookup_failure(self, volume_id: int) -> str:
        """Why it is not known who has the shards of a volume; empty when the master has answered."""
        known = self._volumes.get(volume_id)
        if known is None or known.error is None:
            return ""
        return f"failed to locate shard via master grpc {self._master}: {known.error.text}"

    def _others(self, known: _Known, shard: int) -> list[Location]:
        return [location for location in known.locations.of(shard) if location.url != self._own]

    def _in_order(self, locations: list[Location]) -> list[Location]:
        """Who did not answer the last time comes last."""
        return sorted(locations, key=lambda location: peer_address(location) in self._silent_until_s)

    def _threads_of(self, address: str) -> BoundedThreads:
        """Threads that ask one server: who wants something of others does not wait for it."""
        with self._lock:
            threads = self._threads.pop(address, None) or BoundedThreads(
                "shard-peers", _THREADS_PER_SERVER, _WAITING_PER_SERVER_MAX
            )
            while len(self._threads) >= _SERVERS_MAX:
                del self._threads[next(iter(self._threads))]
            self._threads[address] = threads
        return threads

    def _ask(self, volume: NodeEcVolume, patience: Patience) -> _Known:
        with self._lock:
            known = self._volumes.get(volume.volume_id)
            if known is None:
                while len(self._volumes) >= _VOLUMES_MAX:
                    del self._volumes[next(iter(self._volumes))]
                known = self._volumes[volume.volume_id] = _Known(volume)
        if known.locations.is_fresh(time.monotonic()) or not known.lock.acquire(timeout=patience.peer_s):
            return known
        try:
            if not known.locations.is_fresh(time.monotonic()):
                self._refresh(volume.volume_id, known, patience)
        finally:
            known.lock.release()
        return known

    def _ask_ahead(self, volume_id: int, known: _Known) -> None:
        try:
            with known.lock:
                if known.locations.is_ending(time.monotonic()):
                    self._refresh(volume_id, known, HASTY)
        finally:
            known.is_asked_ahead = False

    def _refresh(self, volume_id: int, known: _Known, patience: Patience) -> None:
        try:
            found = self._look_up(LookupEcVolume(volume_id), patience.peer_s)
        except VolumedError as error:
            if self._log_times.is_due(volume_id):
                _log.warning("who has the shards of ec volume %d is not known: %s", volume_id, error.text)
            known.error = error
            known.locations.not_answered(time.monotonic())
        else:
            known.error = None
            known.locations.learn(found.shards, time.monotonic())

    def _read(self, sought: _Sought, locations: Sequence[Location], patience: Patience) -> bytes | None:
        data = self._read_from(sought, locations, patience)
        if data is None and not sought.recovers:
            # The shard has moved, and who has it now knows whether the needle is deleted.
            self.renew(sought.volume.volume_id)
            others = self._others(self._ask(sought.volume, patience), sought.piece.shard)
            data = self._read_from(sought, [new for new in others if new not in locations], patience)
        return data

    def _read_from(self, sought: _Sought, locations: Sequence[Location], patience: Patience) -> bytes | None:
        late = False
        until = time.monotonic() + _ANSWERED_SHARE * patience.peer_s
        for location in locations:
            address = peer_address(location)
            left_s = until - time.monotonic()
            if left_s <= 0 or (patience is not PATIENT and self._is_silent(address)):
                late = True
                continue
            try:
                data = self._peers.read(address, sought.volume, sought.key, sought.piece, left_s)
            except NeedleDeleted:
                self._silent_until_s.pop(address, None)
                raise
            except VolumedError as error:
                late = self._failed(sought, location, error) or late
                continue
            self._silent_until_s.pop(address, None)
            if len(data) == sought.piece.length:
                return data
            self._failed(sought, location, PeerError("it has not so many bytes"))
        if late:
            raise NoAnswer(late=True)
        return None

    def _is_silent(self, address: str) -> bool:
        """Whether to do without a server that did not answer. From time to time one read finds out whether it does
        again, and only this one waits for it."""
        with self._lock:
            until_s, now_s = self._silent_until_s.get(address), time.monotonic()
            if until_s is not None and until_s <= now_s:
                self._silent_until_s[address] = now_s + _SILENT_S
        return until_s is not None and now_s < until_s

    def _failed(self, sought: _Sought, location: Location, error: VolumedError) -> bool:
        """Remember it; whether the server might answer later."""
        shard, now_s = sought.piece.shard, time.monotonic()
        if self._log_times.is_due((sought.volume.volume_id, shard, location.url)):
            _log.warning("shard %d.%d of %s: %s", sought.volume.volume_id, shard, location.url, error.text)
        sought.known.locations.failed(shard, location, now_s, recovers=sought.recovers)
        silent = isinstance(error, PeerError) and error.silent
        if silent:
            self._silent_until_s[peer_address(location)] = now_s + _SILENT_S
        else:
            self._silent_until_s.pop(peer_address(location), None)
        return silent
