"""Long changes of the needle map, a slice between other things of the loop thread at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from volumed.formats.idx import DELETED
from volumed.storage.compaction_map import SLICE_ROWS, drop_slice
from volumed.storage.disk import Disk
from volumed.storage.map_load import MapScan
from volumed.storage.needle_map import MapError
from workers.host import Shell

__all__ = ["drop_entries", "put_deletions", "put_scan"]

_log = logging.getLogger(__name__)


def drop_entries(disk: Disk, shell: Shell, map_id: int) -> None:
    """Remove the entries of a map id that is not used any more. What an error leaves goes when the disk is opened
    next."""

    def step() -> None:
        try:
            if drop_slice(disk.site.map, map_id):
                shell.post(step)
        except MapError as error:
            _log.error("old entries stay in the needle map: %s", error)

    shell.post(step)


def put_scan(disk: Disk, shell: Shell, scan: MapScan, then: Callable[[], None]) -> None:
    """Bring the map of a volume that is not mounted up to date, then do ``then``, whether that succeeded or not: the
    map is looked at again when the volume is mounted."""

    def step(first: int) -> None:
        try:
            if scan.put(disk.site, first, SLICE_ROWS):
                shell.post(lambda: step(first + SLICE_ROWS))
                return
            outdated = scan.finish(disk.site)
        except MapError as error:
            _log.error("volume %d: needle map: %s", scan.volume_id, error)
        else:
            if outdated is not None:
                drop_entries(disk, shell, outdated)
        then()

    step(0)


def put_deletions(
    disk: Disk,
    shell: Shell,
    map_id: int,
    keys: Sequence[int],
    then: Callable[[], None],
    failed: Callable[[Exception], None],
) -> None:
    """Mark needles of an erasure coded volume as deleted. What was marked before an error stays so."""

    def step(first: int) -> None:
        try:
            with disk.site.map.begin() as txn:
                for key in keys[first : first + SLICE_ROWS]:
                    txn.put(map_id, key, 0, DELETED)
        except MapError as error:
            failed(error)
            return
        if first + SLICE_ROWS < len(keys):
            shell.post(lambda: step(first + SLICE_ROWS))
        else:
            then()

    step(0)
