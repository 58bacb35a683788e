"""A normal volume learns what was deleted in its shards (docs/spec/erasure-coding.md R19, R20).

Both directions of an encode leave a moment in which only shards take deletions: after an encode the volume is read-only
until it goes, or stays because the encode failed; after a decode nobody has mounted it yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from volumed.bus.ec_calls import TakeOverDeletions
from volumed.bus.router import Reply
from volumed.errors import VolumeBusy, VolumedError
from volumed.storage.disk import Disk
from volumed.storage.ec_files import paths_elsewhere
from volumed.storage.site import VolumePaths
from volumed.storage.volume import Volume
from workers.host import Shell, Work
from workers.refusals import refusal, refuse

if TYPE_CHECKING:
    from volumed.storage.ec_takeover import Due

__all__ = ["EcTakeover"]

_log = logging.getLogger(__name__)

_DELETIONS_AT_ONCE = 1000
"""In one piece on the loop thread."""

Failed = Callable[[Exception], None]


class _Decoded(NamedTuple):
    """A volume that was decoded."""

    disks: Sequence[VolumePaths]
    """Where its shards are, its own disk first."""
    known: frozenset[int]
    """Deletions that its files know of."""
    end: int = 0
    """Where its `.dat` ended when it was mounted; 0: it is not yet."""


class EcTakeover:
    """Used on the loop thread."""

    def __init__(self, disk: Disk, shell: Shell) -> None:
        self._disk = disk
        self._shell = shell
        self._decoded: dict[int, _Decoded] = {}
        """By volume, until it has learnt what came later."""
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {TakeOverDeletions: self._from_encoded}

    # After an encode

    def _from_encoded(self, request: TakeOverDeletions, reply: Reply) -> None:
        volume_id, collection = request.volume_id, request.collection
        volume = self._disk.volumes.get(volume_id)
        if volume is None or volume.collection != collection:
            reply.result()
            return
        generation = volume.generation
        failed = partial(refuse, reply, _doing(volume_id))

        def work() -> list[Due]:
            from volumed.storage.ec_takeover import due_to_encoded  # few workers ever need it

            sources = [paths_elsewhere(source, collection, volume_id) for source in request.sources]
            return due_to_encoded(self._disk.site, volume, sources, request.older_than)

        def found(dues: list[Due]) -> None:
            if volume.generation != generation:
                self._from_encoded(request, reply)  # its needles lie elsewhere now
            else:
                self._delete(volume, generation, dues, reply.result, failed)

        self._shell.in_background(work, found, failed, Work.ELSEWHERE)

    # After a decode

    def decoded(self, volume_id: int, disks: Sequence[VolumePaths], known: frozenset[int]) -> None:
        """A volume was put together from the shards on some disks, this one first, without the needles that were
        ``known`` to be deleted."""
        self._decoded[volume_id] = _Decoded(disks, known)

    def forget(self, volume_id: int) -> None:
        """A volume has learnt it, or is unmounted: what its files have now is not known here."""
        self._decoded.pop(volume_id, None)

    def mounted(self, volume_id: int, done: Callable[[], None], failed: Failed) -> None:
        """A volume is mounted. Fronts see it, and what they delete in the shards from now on they delete in it as well;
        what they have deleted before is in the journals. After a failure comes `mounted_before`."""
        found, volume = self._decoded.get(volume_id), self._disk.volumes.get(volume_id)
        if found is None or volume is None:
            done()
            return
        decoded = self._decoded[volume_id] = found._replace(end=found.end or volume.dat_end)
        volume.held_while, generation = "being mounted", volume.generation

        def work() -> list[Due]:
            from volumed.storage.ec_takeover import due_to_decoded  # few workers ever need it

            return due_to_decoded(volume, decoded.end, decoded.disks, decoded.known)

        def ended() -> None:
            volume.held_while = ""
            self.forget(volume_id)
            done()

        def broken(error: Exception) -> None:
            volume.held_while = ""
            told = refusal(_doing(volume_id), error)
            # A mount goes on with the next disk, and its client hears nothing of this.
            _log.error("%s", told)
            failed(told)

        def learnt(dues: list[Due]) -> None:
            self._delete(volume, generation, dues, ended, broken)

        self._shell.in_background(work, learnt, broken, Work.ELSEWHERE)

    def mounted_before(self, volume_id: int, done: Callable[[], None], failed: Failed) -> None:
        """Somebody wants a volume mounted that is: repeat what has failed then. One that nobody has told of since its
        decode may have needles that were written anew."""
        found, volume = self._decoded.get(volume_id), self._disk.volumes.get(volume_id)
        if found is None or not found.end or volume is None:
            done()
            return
        try:
            volume.require_free()  # perhaps it is being learnt at this moment
        except VolumeBusy as error:
            failed(error)
        else:
            self.mounted(volume_id, done, failed)

    # Both

    def _delete(
        self, volume: Volume, generation: int, dues: Sequence[Due], done: Callable[[], None], failed: Failed
    ) -> None:
        """Durably: the journals may be removed afterwards."""
        if not dues:
            done()
            return
        if self._disk.is_flushing(volume.volume_id):
            self._shell.after_flush(partial(self._delete, volume, generation, dues, done, failed))
            return
        if volume.generation != generation:
            # The needles lie elsewhere now: they would not be found, and nobody would know.
            failed(VolumeBusy(f"volume {volume.volume_id} has changed meanwhile"))
            return
        from volumed.storage.ec_takeover import delete_due

        try:
            delete_due(self._disk, volume, dues[:_DELETIONS_AT_ONCE])
        except VolumedError as error:
            failed(error)
            return
        rest = partial(self._delete, volume, generation, dues[_DELETIONS_AT_ONCE:], done, failed)
        self._shell.in_background(volume.flush, lambda _: rest(), failed, Work.COPY)


def _doing(volume_id: int) -> str:
    return f"take the deletions of its shards over into volume {volume_id}"
