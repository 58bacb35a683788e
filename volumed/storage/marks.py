"""Read-only marks of a volume, kept in memory or in its `.vif` (docs/spec/storage.md 5.4).

A volume that is sealed, because its data are in a remote tier, refuses writes whatever its marks say.
"""

from __future__ import annotations

from dataclasses import replace

from volumed.errors import VolumeUnavailable
from volumed.storage.fileio import disk_error
from volumed.storage.map_records import VolumeFlag
from volumed.storage.volume import Volume

__all__ = ["mark_readonly", "mark_writable"]

_MARKS = VolumeFlag.NO_WRITE_OR_DELETE | VolumeFlag.NO_WRITE_CAN_DELETE


def mark_readonly(volume: Volume, *, can_delete: bool, persist: bool) -> None:
    """Set flag B with ``can_delete``, else A. Without ``persist`` the mark is gone after a restart.

    Raises `DiskError`; then nothing changed. Publish the volume afterwards.
    """
    if can_delete:
        _open_for_writing(volume)
    if persist:
        info = replace(volume.info, read_only=True, read_only_can_delete=can_delete)
        try:
            volume.save_info(info)
        except OSError as error:
            raise disk_error(f"volume {volume.volume_id}: save .vif", error) from error
    wanted = VolumeFlag.NO_WRITE_CAN_DELETE if can_delete else VolumeFlag.NO_WRITE_OR_DELETE
    if volume.sealed:
        wanted |= VolumeFlag.NO_WRITE_CAN_DELETE
    if VolumeFlag.UNAVAILABLE in volume.flags:
        wanted |= VolumeFlag.NO_WRITE_OR_DELETE
    volume.flags = volume.flags & ~_MARKS | wanted


def mark_writable(volume: Volume) -> None:
    """Clear A and B, the quarantine and the persisted mark. Raises `VolumeUnavailable`, `DiskError`; then nothing
    changed. Publish the volume afterwards."""
    if VolumeFlag.UNAVAILABLE in volume.flags:
        raise VolumeUnavailable.on_mark_writable(volume.volume_id, volume.unavailable_reason)
    _open_for_writing(volume)
    try:
        volume.save_info(replace(volume.info, read_only=False, read_only_can_delete=False))
    except OSError as error:
        raise disk_error(f"volume {volume.volume_id}: save .vif", error) from error
    volume.flags &= ~(VolumeFlag.NO_WRITE_OR_DELETE if volume.sealed else _MARKS)
    volume.quarantined = False
    volume.io_error_streak = 0


def _open_for_writing(volume: Volume) -> None:
    try:
        volume.open_for_writing()
    except OSError as error:
        raise disk_error(f"volume {volume.volume_id}: open for writing", error) from error
