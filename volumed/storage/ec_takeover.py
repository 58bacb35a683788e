"""Deletions that shards know of, and a normal volume of the same needles does not (docs/spec/erasure-coding.md R19,
R20).

What was written anew since then must stay, whatever the shards say. So a deletion is due only to one needle: the one
that lay at this place of the volume when it was looked for, and that was written before the volume was encoded.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from volumed.bus.frames import STORE_DELETE, StoreOperation
from volumed.erasure.errors import BadEcConfig
from volumed.erasure.geometry import is_older
from volumed.erasure.index import find_row
from volumed.errors import CorruptNeedle, VolumedError
from volumed.formats.idx import DELETED
from volumed.formats.needle import HEADER_LENGTH
from volumed.storage.disk import ANY_GENERATION, Disk
from volumed.storage.ec_files import index_path
from volumed.storage.ec_journal import read_journals
from volumed.storage.ec_knowledge import deletions_of_others
from volumed.storage.ec_volume import read_geometry
from volumed.storage.fileio import disk_error, error_text
from volumed.storage.map_records import VolumeFlag
from volumed.storage.site import DiskSite, VolumePaths
from volumed.storage.stored_data import read_stored
from volumed.storage.volume import Volume

__all__ = ["Due", "delete_due", "due_to_decoded", "due_to_encoded"]

_log = logging.getLogger(__name__)

_CHECKSUM_LENGTH, _TIME_LENGTH = 4, 8
_TIMED_VERSION = 3


class Due(NamedTuple):
    """A deletion that a volume has to make up for, of the needle that it has at this place."""

    key: int
    offset: int
    size: int


def due_to_encoded(site: DiskSite, volume: Volume, sources: Iterable[VolumePaths], older_than: int) -> list[Due]:
    """Deletions in the journals of shards that were made of the volume as it is: of needles that lie where the index
    says. ``older_than`` ≠ 0: only of known encode runs before that one. Any thread; may wait for the disk.

    Shards that cannot be read are logged and left out. Raises `OSError`: about the volume.
    """
    found: set[Due] = set()
    for source in sources:
        try:
            encode_ts_ns = read_geometry(site.files, source).encode_ts_ns
            rows = list(_journaled_rows(site, source))
        except (BadEcConfig, OSError) as error:
            why = error_text(error) if isinstance(error, OSError) else error.text
            _log.error("%s: deletions that it alone knows are left out: %s", source.data(""), why)
            continue
        if encode_ts_ns and (not older_than or is_older(encode_ts_ns, older_than)):
            found.update(due for due in rows if _is_stored(volume, due) and 0 < _time(volume, due) <= encode_ts_ns)
    return sorted(found)


def _journaled_rows(site: DiskSite, source: VolumePaths) -> Iterator[Due]:
    index = index_path(site.files, source)
    if index is None:
        return
    ecx = site.files.open(index, writable=False)
    for key in read_journals(site.files, source):
        row = find_row(site.files, ecx, key, site.offset_width)
        if row is not None and row[2] != DELETED:
            yield Due(*row)


def due_to_decoded(volume: Volume, end: int, disks: Sequence[VolumePaths], known: Collection[int]) -> list[Due]:
    """Deletions in the journals of the shards on ``disks``, its own first, that the volume was decoded from, but for
    those ``known`` then: of needles before ``end``, where it ended when it was mounted. Any thread; may wait for the
    disk.

    Shards of other disks that cannot be read are logged and left out. Raises `BadEcConfig`, `OSError`.
    """
    site = volume.site
    encode_ts_ns = read_geometry(site.files, disks[0]).encode_ts_ns
    found = []
    for key in set(deletions_of_others(site, disks[0], disks, indexes=False)).difference(known):
        entry = site.map.lookup(volume.map_id, key)
        if entry is not None and entry[1] >= 0 and 0 < entry[0] < end:
            due = Due(key, *entry)
            # It may have been written between the encode and the decode, to a volume that lay beside the shards.
            if not encode_ts_ns or _time(volume, due) <= encode_ts_ns:
                found.append(due)
    return found


def delete_due(disk: Disk, volume: Volume, dues: Sequence[Due]) -> None:
    """Delete what is still there (loop thread; the volume must not be flushing). Raises `VolumedError`.

    A volume that is read-only deletes too: what was acknowledged does not depend on what it takes now.
    """
    operations = [
        StoreOperation(STORE_DELETE, 0, volume.volume_id, ANY_GENERATION, 0, due.key, 0, 0, b"", 0)
        for due in dues
        if _is_stored(volume, due)
    ]
    mark = volume.flags & VolumeFlag.NO_WRITE_OR_DELETE
    try:
        if operations and mark:
            volume.open_for_writing()
    except OSError as error:
        raise disk_error(f"volume {volume.volume_id}: open for writing", error) from error
    volume.flags &= ~mark
    try:
        results = disk.store(operations).results
    finally:
        volume.flags |= mark
    for result in results:
        if isinstance(result.error, VolumedError):
            raise result.error


def _is_stored(volume: Volume, due: Due) -> bool:
    return volume.site.map.lookup(volume.map_id, due.key) == (due.offset, due.size)


def _time(volume: Volume, due: Due) -> int:
    """When the record was written, in ns; 0: it does not say it."""
    if volume.version < _TIMED_VERSION:
        return 0
    at = due.offset + HEADER_LENGTH + due.size + _CHECKSUM_LENGTH
    try:
        return int.from_bytes(read_stored(volume, at, _TIME_LENGTH), "big")
    except CorruptNeedle:
        return 0
