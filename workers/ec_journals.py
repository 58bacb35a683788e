"""Deletions of needles of erasure coded volumes (docs/spec/erasure-coding.md 3.3, 4.12, rules R1 and R2).

Theory of operation
    A journal is changed in its volume's turn only. Deletions that wait for a turn are written together, with one flush.
    What is durable in the journal goes into the needle map, where readers look; only then is it answered.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from volumed.bus.ec_calls import DeleteEcNeedle, FoldJournal, MergeDeletions, MergeJournal
from volumed.bus.router import Reply
from volumed.erasure.errors import EcVolumeNotFound, NoSuchEcNeedle
from volumed.storage.disk import Disk
from volumed.storage.ec_files import paths_elsewhere
from volumed.storage.ec_journal import fold_at, merge_at
from workers.ec_volumes import EcVolumes
from workers.host import Shell, Work
from workers.map_slices import put_deletions
from workers.refusals import refuse
from workers.turns import End

if TYPE_CHECKING:
    from volumed.storage.ec_volume import EcVolume, Journaled

__all__ = ["EcJournals"]


class _Deletion(NamedTuple):
    key: int
    reply: Reply


class EcJournals:
    """Used on the loop thread."""

    def __init__(self, disk: Disk, shell: Shell, volumes: EcVolumes) -> None:
        self._disk = disk
        self._site = disk.site
        self._shell = shell
        self._volumes = volumes
        self._waiting: dict[int, list[_Deletion]] = {}
        """By volume: what goes with its next turn."""
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {
            DeleteEcNeedle: self._delete,
            MergeJournal: self._merge,
            MergeDeletions: self._merge_others,
            FoldJournal: self._fold,
        }

    # One needle

    def _delete(self, request: DeleteEcNeedle, reply: Reply) -> None:
        volume_id, deletion = request.volume_id, _Deletion(request.key, reply)
        if volume_id not in self._volumes.volumes:
            raise EcVolumeNotFound.of(volume_id)
        if volume_id in self._waiting:
            self._waiting[volume_id].append(deletion)
        else:
            self._waiting[volume_id] = [deletion]
            self._volumes.turns.take(volume_id, partial(self._write, volume_id))

    def _write(self, volume_id: int, end: End) -> None:
        deletions = self._waiting.pop(volume_id)
        volume = self._volumes.volumes.get(volume_id)

        def failed(error: Exception) -> None:
            end()
            for deletion in deletions:
                refuse(deletion.reply, f"delete from ec volume {volume_id}", error)

        def written(journaled: Journaled) -> None:
            self._put(volume, journaled.learned, partial(answer, journaled), failed)

        def answer(journaled: Journaled) -> None:
            end()
            for deletion in deletions:
                if deletion.key in journaled.missing:
                    deletion.reply.error(NoSuchEcNeedle())
                else:
                    deletion.reply.result()

        if volume is None:
            failed(EcVolumeNotFound.of(volume_id))
            return
        keys = [deletion.key for deletion in deletions]
        self._shell.in_background(partial(volume.delete, self._site, keys), written, failed, Work.PIECE)

    def _put(
        self,
        volume: EcVolume | None,
        learned: list[int],
        then: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Let readers know. A volume that was unmounted meanwhile takes it from the journal when it is mounted."""

        def known() -> None:
            if volume is not None:
                volume.delete_count += len(learned)
            then()

        if volume is None or self._volumes.volumes.get(volume.volume_id) is not volume:
            then()
        else:
            put_deletions(self._disk, self._shell, volume.map_id, learned, known, failed)

    # Whole journals

    def _merge(self, request: MergeJournal, reply: Reply) -> None:
        def work(volume: EcVolume | None) -> list[int]:
            if volume is not None:
                return volume.add_deletions(self._site, request.keys)
            merge_at(self._site.files, self._site.paths(request.collection, request.volume_id), request.keys)
            return []

        self._change(request, "merge the journal", work, reply)

    def _merge_others(self, request: MergeDeletions, reply: Reply) -> None:
        """Other disks are read before it is the volume's turn: none of them may hold up a deletion here."""
        volume_id, collection = request.volume_id, request.collection

        def work() -> list[int]:
            from volumed.storage.ec_knowledge import deletions_of_others  # few workers ever need it

            sources = [paths_elsewhere(source, collection, volume_id) for source in request.sources]
            return deletions_of_others(
                self._site, self._site.paths(collection, volume_id), sources, indexes=request.indexes
            )

        self._shell.in_background(
            work,
            lambda keys: self._merge(MergeJournal(volume_id, collection, keys), reply),
            partial(refuse, reply, f"learn the deletions of ec volume {volume_id}"),
            Work.ELSEWHERE,
        )

    def _fold(self, request: FoldJournal, reply: Reply) -> None:
        def work(volume: EcVolume | None) -> list[int]:
            width = self._site.offset_width
            if volume is None:
                paths = self._site.paths(request.collection, request.volume_id)
                fold_at(self._site.files, paths, width)
                return []
            unseen = volume.add_deletions(self._site, [])
            volume.journal.fold_into(volume.ecx, width)
            return unseen

        self._change(request, "fold the journal", work, reply)

    def _change(
        self,
        request: MergeJournal | FoldJournal,
        doing: str,
        work: Callable[[EcVolume | None], list[int]],
        reply: Reply,
    ) -> None:
        """Do ``work`` in turn, on the mounted volume if there is one; it returns deletions that readers do not know."""

        def begin(end: End) -> None:
            mounted = self._volumes.volumes.get(request.volume_id)
            volume = mounted if mounted is not None and mounted.collection == request.collection else None

            def done() -> None:
                end()
                reply.result()

            def failed(error: Exception) -> None:
                end()
                refuse(reply, f"{doing} of ec volume {request.volume_id}", error)

            self._shell.in_background(
                partial(work, volume), lambda learned: self._put(volume, learned, done, failed), failed, Work.COPY
            )

        self._volumes.turns.take(request.volume_id, begin)
