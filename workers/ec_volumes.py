"""Erasure coded volumes of one disk: which shards are mounted (docs/spec/erasure-coding.md 4.3, 4.4, 4.10).

Theory of operation
    Everything that may wait for the disk runs in the background, for each volume one piece after the other (`Turns`).
    Only the loop thread says what is mounted: it unmounts at once, and mounts what was opened in the background. Every
    mount and unmount gives the volume's record another generation, so that readers open its files anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from volumed.bus.ec_calls import (
    DescribeShards,
    EcVolumeView,
    MountShards,
    ShardMount,
    ShardsMounted,
    ShardUnreadable,
    UnmountShards,
)
from volumed.bus.events import ShardsChanged
from volumed.bus.router import Reply
from volumed.erasure.errors import EcVolumeNotFound
from volumed.erasure.index import EcIndexTotals
from volumed.errors import DiskError
from volumed.formats.report import EcVolumeReport
from volumed.storage.disk import Disk
from volumed.storage.needle_map import MapError
from workers.host import Shell, Work
from workers.map_slices import drop_entries, put_deletions
from workers.refusals import refuse
from workers.turns import End, Turns

if TYPE_CHECKING:
    from volumed.storage.ec_volume import EcVolume, OpenedShards

__all__ = ["EcVolumes"]

_log = logging.getLogger(__name__)

T = TypeVar("T")
Mounted = Callable[[list[ShardMount]], None]
Failed = Callable[[Exception], None]


class EcVolumes:
    """Used on the loop thread."""

    def __init__(self, disk: Disk, shell: Shell, epoch: int) -> None:
        self._disk = disk
        self._site = disk.site
        self._shell = shell
        self._epoch = epoch
        self._volumes: dict[int, EcVolume] = {}
        self.turns = Turns(shell)
        """Whose turn it is has the files of a volume for itself."""
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {
            MountShards: self._mount_call,
            UnmountShards: self._unmount_call,
            ShardUnreadable: self._unreadable_call,
            DescribeShards: self._describe,
        }

    @property
    def volumes(self) -> Mapping[int, EcVolume]:
        """Those with mounted shards, by id."""
        return self._volumes

    def reports(self) -> list[EcVolumeReport]:
        """All of them, for the supervisor."""
        return [volume.report(self._disk.config.disk_id) for volume in self._volumes.values()]

    @property
    def unreadable_shards(self) -> int:
        """How many of the mounted shards could not be read everywhere since they were mounted."""
        return sum(len(volume.unreadable) for volume in self._volumes.values())

    # Mounting

    def mount(self, request: MountShards, done: Mounted, failed: Failed) -> None:
        """Mount shards, later."""
        self.turns.take(request.volume_id, partial(self._mount, request, done, failed))

    def _mount(self, request: MountShards, done: Mounted, failed: Failed, end: End) -> None:
        volume_id, collection = request.volume_id, request.collection
        known = self._volumes.get(volume_id)
        if known is not None and known.collection != collection:
            end()
            done([ShardMount(shard_id, mounted=False) for shard_id in request.shard_ids])
            return

        def work() -> OpenedShards:
            # Only disks with such volumes pay for what this imports.
            from volumed.storage.ec_volume import open_shards

            return open_shards(self._site, known, collection, volume_id, request.shard_ids)

        def opened(found: OpenedShards) -> None:
            if self._volumes.get(volume_id) is not known:
                self._mount(request, done, failed, end)  # unmounted meanwhile: what was opened may be out of date
            elif found.volume is None or found.volume.map_id:
                put(found)
            else:
                self._give_entries(found.volume, partial(put, found), not_mounted)

        def put(found: OpenedShards) -> None:
            try:
                if found.volume is not None:
                    self._add(found.volume, found.lengths, request.disk_type)
            except MapError as error:
                not_mounted(error)
                return
            end()
            done(_outcomes(request.shard_ids, found))

        def not_mounted(error: Exception) -> None:
            end()
            failed(DiskError(f"mount ec volume {volume_id}: {error}"))

        self._shell.in_background(work, opened, not_mounted)

    def _give_entries(self, volume: EcVolume, then: Callable[[], None], failed: Failed) -> None:
        """Put what the journal deletes into the map, under a new map id."""
        try:
            with self._site.map.begin() as txn:
                volume.map_id = txn.next_generation()
        except MapError as error:
            failed(error)
            return
        deleted, volume.deleted = volume.deleted, []
        volume.delete_count = len(deleted)

        def not_put(error: Exception) -> None:
            drop_entries(self._disk, self._shell, volume.map_id)
            failed(error)

        put_deletions(self._disk, self._shell, volume.map_id, deleted, then, not_put)

    def _add(self, volume: EcVolume, lengths: dict[int, int], disk_type: str) -> None:
        """Raises `MapError`."""
        volume_id = volume.volume_id
        shards = volume.shards | lengths
        if not shards:
            drop_entries(self._disk, self._shell, volume.map_id)
            return
        if disk_type:
            volume.disk_type = disk_type
        volume.shards = shards
        self._publish(volume)
        self._volumes[volume_id] = volume
        self._tell(mounted=[volume.change(self._disk.config.disk_id, lengths)])

    # Unmounting

    def unmount(self, volume_id: int, shard_ids: Collection[int]) -> None:
        """Unmount shards, at once; those that are not mounted do not matter. Their files stay. Raises `DiskError`."""
        volume = self._volumes.get(volume_id)
        gone = [] if volume is None else [shard_id for shard_id in volume.shards if shard_id in shard_ids]
        if volume is None or not gone:
            return
        before = volume.shards
        volume.shards = {key: length for key, length in before.items() if key not in gone}
        try:
            self._publish(volume)
        except MapError as error:
            volume.shards = before
            raise DiskError(f"unmount ec volume {volume_id}: {error}") from error
        if not volume.shards:
            del self._volumes[volume_id]
            drop_entries(self._disk, self._shell, volume.map_id)
        _log.info("unmounted shards %s of volume %d", sorted(gone), volume_id)
        self._tell(gone=[volume.change(self._disk.config.disk_id, dict.fromkeys(gone, 0))])

    def run_unmounted(
        self,
        volume_id: int,
        shard_ids: Collection[int],
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Failed,
    ) -> None:
        """When it is their turn, unmount shards, and do ``work`` in the background, where they may be removed."""

        def begin(end: End) -> None:
            try:
                self.unmount(volume_id, shard_ids)
            except DiskError as error:
                end()
                failed(error)
                return
            self.turns.run_to(end, work, done, failed, Work.COPY)

        self.turns.take(volume_id, begin)

    def files_replaced(self, volume_id: int, done: Callable[[], None], failed: Failed) -> None:
        """Files of a volume are others than before: if it is mounted, measure its shards, and let readers open them
        anew. To be called in its turn."""
        volume = self._volumes.get(volume_id)
        if volume is None:
            done()
            return

        def work() -> dict[int, int]:
            from volumed.storage.ec_volume import measure_shards

            return measure_shards(self._site.files, volume.paths, tuple(volume.shards))[0]

        def measured(lengths: dict[int, int]) -> None:
            try:
                if self._volumes.get(volume_id) is volume:
                    self._renew(volume, lengths)
            except MapError as error:
                failed(error)
            else:
                done()

        self._shell.in_background(work, measured, failed)

    def _renew(self, volume: EcVolume, lengths: dict[int, int]) -> None:
        """Raises `MapError`."""
        others = {key: length for key, length in lengths.items() if volume.shards.get(key, length) != length}
        volume.shards = volume.shards | others
        self._publish(volume)
        if others:
            self._tell(mounted=[volume.change(self._disk.config.disk_id, others)])

    def _publish(self, volume: EcVolume) -> None:
        with self._site.map.begin() as txn:
            generation = 0
            if volume.shards:
                generation = txn.next_generation()
                txn.put_shards(volume.volume_id, volume.record(generation))
            else:
                txn.remove_shards(volume.volume_id)
        volume.generation = generation
        volume.unreadable.clear()

    def _tell(self, mounted: list[EcVolumeReport] | None = None, gone: list[EcVolumeReport] | None = None) -> None:
        self._shell.publish(ShardsChanged(self._disk.config.disk_id, self._epoch, mounted or [], gone or []))

    # Calls

    def _mount_call(self, request: MountShards, reply: Reply) -> None:
        self.mount(request, lambda outcomes: reply.result(ShardsMounted(outcomes)), reply.error)

    def _unmount_call(self, request: UnmountShards, reply: Reply) -> None:
        volume, limit_ts_ns = self._volumes.get(request.volume_id), request.encode_ts_ns
        if volume is not None and (not limit_ts_ns or volume.is_older(limit_ts_ns)):
            self.unmount(request.volume_id, request.shard_ids)
        reply.result()

    def _unreadable_call(self, request: ShardUnreadable, reply: Reply) -> None:
        volume = self._volumes.get(request.volume_id)
        if volume is not None and volume.generation == request.generation and request.shard_id in volume.shards:
            volume.unreadable.add(request.shard_id)
        reply.result()

    def _describe(self, request: DescribeShards, reply: Reply) -> None:
        volume = self._volumes.get(request.volume_id)
        if volume is None:
            raise EcVolumeNotFound.for_info(request.volume_id)
        geometry, shards = volume.geometry, dict(sorted(volume.shards.items()))

        def counted(totals: EcIndexTotals) -> None:
            view = EcVolumeView(
                collection=volume.collection,
                shards=shards,
                data_shards=geometry.ratio.data,
                parity_shards=geometry.ratio.parity,
                block_size=geometry.block_size,
                encode_ts_ns=geometry.encode_ts_ns,
                live=totals.live,
                deleted=totals.deleted,
                content_bytes=totals.content_bytes,
            )
            reply.result(view)

        if request.count:
            failed = partial(refuse, reply, f"count what ec volume {request.volume_id} has")
            self._shell.in_background(partial(volume.totals, self._site), counted, failed)
        else:
            counted(EcIndexTotals(0, 0, 0))


def _outcomes(shard_ids: Collection[int], found: OpenedShards) -> list[ShardMount]:
    """In the order of the request."""
    return [
        ShardMount(shard_id, mounted=shard_id in found.lengths, error=found.errors.get(shard_id, ""))
        for shard_id in shard_ids or sorted({*found.lengths, *found.errors})
    ]
