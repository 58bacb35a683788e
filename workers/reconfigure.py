"""Changes of a volume that need it closed for a moment (docs/spec/grpc.md 3.10, 3.14)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from volumed.bus import calls
from volumed.bus.file_calls import ConfigureVolume, ConsolidateIndex, VolumeConfigured
from volumed.bus.router import Reply
from volumed.errors import VolumedError, VolumeNotFound
from volumed.storage.disk import Disk
from volumed.storage.fileio import disk_error
from volumed.storage.index_move import IndexMove
from volumed.storage.volume import Volume
from workers.host import Shell, Work, nothing
from workers.refusals import refuse

__all__ = ["Reconfiguration"]

Call = Callable[[Any, Reply], None]


class _Then(Reply):
    """What happens after a call that this process makes to itself."""

    __slots__ = ("_done", "_failed")

    def __init__(self, done: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        self._done = done
        self._failed = failed

    def result(self, value: msgspec.Struct | None = None) -> None:  # noqa: ARG002
        self._done()

    def error(self, error: BaseException) -> None:
        self._failed(error)


class Reconfiguration:
    """Closes volumes, changes them, and opens them again. Used on the loop thread."""

    def __init__(self, disk: Disk, shell: Shell, call: Call) -> None:
        """``call`` serves calls of this worker: it knows what has to be waited for before a volume is closed."""
        self._disk = disk
        self._shell = shell
        self._call = call
        self.handlers: dict[type[Any], Call] = {
            ConfigureVolume: self._configure,
            ConsolidateIndex: self._consolidate,
        }

    def _configure(self, request: ConfigureVolume, reply: Reply) -> None:
        volume = self._find(request.volume_id)
        try:
            volume.save_info(replace(volume.info, replication=request.replication))
        except OSError as error:
            raise disk_error(f"volume {volume.volume_id}: save .vif", error) from error

        def failed(step: str) -> Callable[[BaseException], None]:
            return lambda error: reply.result(VolumeConfigured(step, str(error)))

        def mount() -> None:
            self._mount(volume, lambda: reply.result(VolumeConfigured()), failed("mount"))

        self._unmount(volume, mount, failed("unmount"))

    def _consolidate(self, request: ConsolidateIndex, reply: Reply) -> None:
        volume = self._find(request.volume_id)
        site = self._disk.site
        target = site.paths(volume.collection, volume.volume_id)
        if volume.paths.index_directory == target.index_directory:
            reply.result()
            return
        move = IndexMove(site.files, volume.paths, target)

        def copied(_: None) -> None:
            self._unmount(volume, change_over, failed)

        def change_over() -> None:
            try:
                move.finish()
            except OSError as error:
                reason = error
                self._mount(volume, lambda: failed(reason), failed)
            else:
                self._mount(volume, reply.result, reply.error)

        def failed(error: BaseException) -> None:
            refuse(reply, "move the index", error)
            self._shell.in_background(move.give_up, nothing, nothing)

        self._shell.in_background(move.copy_ahead, copied, failed, Work.COPY)

    def _find(self, volume_id: int) -> Volume:
        volume = self._disk.volumes.get(volume_id)
        if volume is None:
            raise VolumeNotFound.on_mount(volume_id)
        return volume

    def _unmount(self, volume: Volume, done: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        self._ask(calls.UnmountVolume(volume.volume_id), done, failed)

    def _mount(self, volume: Volume, done: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        self._ask(calls.MountVolume(volume.volume_id, volume.collection), done, failed)

    def _ask(self, request: Any, done: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        try:
            self._call(request, _Then(done, failed))
        except VolumedError as error:
            failed(error)
