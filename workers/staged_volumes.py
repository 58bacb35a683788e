"""Volumes whose files were sent one by one get their names and are mounted (docs/spec/erasure-coding.md 5.9)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from volumed.bus.calls import MountVolume
from volumed.bus.ec_calls import MountStaged
from volumed.bus.router import Reply
from volumed.erasure.errors import StagedVolumeError
from volumed.errors import VolumeBusy
from volumed.storage.disk import Disk
from volumed.storage.fileio import FileIO
from volumed.storage.site import COPYING, VolumePaths
from workers.host import Shell, Work
from workers.refusals import refuse

__all__ = ["StagedVolumes"]

Mount = Callable[[MountVolume, Reply], None]
"""Serves the call that mounts a volume."""


class StagedVolumes:
    """Used on the loop thread."""

    def __init__(self, disk: Disk, shell: Shell, mount: Mount) -> None:
        self._disk = disk
        self._shell = shell
        self._mount = mount
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {MountStaged: self._adopt}

    def _adopt(self, request: MountStaged, reply: Reply) -> None:
        volume_id, arriving = request.volume_id, self._disk.arriving
        if volume_id in self._disk.volumes:
            raise StagedVolumeError.exists(volume_id)
        if volume_id in arriving:
            raise VolumeBusy.arriving(volume_id)
        paths = self._disk.site.paths(request.collection, volume_id)
        arriving.add(volume_id)

        def done(_: None) -> None:
            arriving.discard(volume_id)
            self._mount(MountVolume(volume_id, request.collection), reply)

        def failed(error: Exception) -> None:
            arriving.discard(volume_id)
            refuse(reply, "staged volume", error)

        self._shell.in_background(partial(_rename, self._disk.site.files, paths, volume_id), done, failed, Work.COPY)


def _rename(files: FileIO, paths: VolumePaths, volume_id: int) -> None:
    """While the `.note` is there a start removes the volume: it is not whole. Raises `StagedVolumeError`, `OSError`."""
    targets = (paths.data(".vif"), paths.data(".dat"), paths.index(".idx"))
    for extension, target in zip((".dat", ".idx", ".vif"), (targets[1], targets[2], targets[0]), strict=True):
        if not files.exists(target + COPYING):
            raise StagedVolumeError.lacks(volume_id, extension)
    note = paths.data(".note")
    files.replace_file(note, b"put in place from staged files")
    for target in targets:
        files.rename(target + COPYING, target)
    for directory in paths.directories():
        files.sync_directory(directory)
    files.remove(note)
    files.sync_directory(paths.data_directory)
