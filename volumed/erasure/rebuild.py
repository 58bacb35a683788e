"""Lost and damaged shards from the others (docs/spec/erasure-coding.md 5.6, steps 3 to 7 and 9).

The block layout does not matter here: any column of a shard follows from the same column of k others. A new shard gets
its name when all new ones are complete, flushed and, where checksums are recorded, right.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from volumed.erasure.code import Ratio, Recovery, erasure_code
from volumed.erasure.coding import Coder, CoderHere
from volumed.erasure.columns import (
    Column,
    ColumnSums,
    Progress,
    column_buffers,
    for_all_columns,
    new_files,
    sync_all,
)
from volumed.erasure.errors import RebuildRefused, TooFewShards
from volumed.erasure.names import REBUILDING
from volumed.erasure.scrub import check_shards
from volumed.erasure.sidecar import ShardSums, Sidecar, differing_blocks
from volumed.formats.checksum import crc32c
from volumed.storage.fileio import File, FileIO, error_text

__all__ = ["RebuildPlan", "Rebuilt", "RecoverColumns", "SumShards", "plan_rebuild", "rebuild_shards", "sum_shards"]

_log = logging.getLogger(__name__)


class Rebuilt(NamedTuple):
    """Ids of the shards that are as good as new, and of those that still have to be rebuilt elsewhere."""

    made: list[int]
    left: list[int]


class RebuildPlan(NamedTuple):
    """What to compute from what. Nothing is wanted when all shards are there and good."""

    sources: tuple[int, ...]
    wanted: tuple[int, ...]
    length: int
    """Bytes of every shard."""


def plan_rebuild(
    base: str, ratio: Ratio, lengths: Mapping[int, int], damaged: Collection[int] = frozenset()
) -> RebuildPlan:
    """Decide. ``lengths`` are those of the shards that exist; an empty one is as good as lost. ``damaged`` are those
    that a sidecar accuses, empty when there is none or it is to be ignored. ``base`` is for error texts.

    Raises `RebuildRefused`, `TooFewShards`.
    """
    present = sorted(shard for shard, length in lengths.items() if length and shard < ratio.total)
    accused = [shard for shard in present if shard in damaged]
    good = [shard for shard in present if shard not in damaged]
    if len(accused) > ratio.parity:
        raise RebuildRefused.sidecar_suspect(base, len(accused), len(present), ratio.parity)
    missing = [shard for shard in range(ratio.total) if shard not in present]
    if len(present) < ratio.data:
        raise TooFewShards.for_rebuild(base, len(present), ratio.data, missing)
    if len(good) < ratio.data:
        raise RebuildRefused.too_few_good(len(good), base, ratio.data)
    expected = lengths[good[0]]
    for shard in good:
        if lengths[shard] != expected:
            raise RebuildRefused.lengths_differ(shard, lengths[shard], expected)
    return RebuildPlan(tuple(good), tuple(sorted(missing + accused)), expected)


def rebuild_shards(
    files: FileIO,
    base: str,
    ratio: Ratio,
    shards: Mapping[int, File],
    targets: Mapping[int, str],
    sidecar: Sidecar | None,
    progress: Progress,
    coder: Coder | None = None,
) -> Rebuilt:
    """Rebuild what is missing or damaged.

    ``shards`` are all that exist, wherever they are. ``targets`` says by id where a new one would go: over the damaged
    one, or to the directory of the rebuild; ids that it lacks are left to the owner of another disk. ``sidecar`` is
    None when there is none or it is to be ignored, ``base`` is for error texts, ``coder`` computes, None: here. Raises
    `OSError`, `RebuildRefused`, `TooFewShards`, `EcInterrupted`, `NodeError`; then no shard is worse than it was.
    """
    if sidecar is not None and len(sidecar.shards) != ratio.total:
        raise RebuildRefused.sidecar_unverifiable(base)
    lengths = {shard: files.size(file) for shard, file in shards.items()}
    present = {shard: file for shard, file in shards.items() if lengths[shard]}
    damaged = check_shards(files, sidecar, present, progress, coder) if sidecar else {}
    plan = plan_rebuild(base, ratio, lengths, damaged)
    left = [shard for shard in plan.wanted if shard not in targets]
    plan = plan._replace(wanted=tuple(shard for shard in plan.wanted if shard in targets))
    if not plan.wanted:
        return Rebuilt([], left)
    paths = [targets[shard] for shard in plan.wanted]
    try:
        outputs = new_files(files, [path + REBUILDING for path in paths])
        sums = _recover(coder or CoderHere(files), ratio, plan, shards, outputs, progress)
        progress.require_running()
        if sidecar is not None:
            _require_expected(base, sidecar, dict(zip(plan.wanted, sums, strict=True)))
        for shard, path in zip(plan.wanted, paths, strict=True):
            files.rename(path + REBUILDING, path)
            if (found := damaged.get(shard)) is not None:
                reason = "its checksums differ" if found.error is None else error_text(found.error)
                _log.warning("%s was replaced: %s", path, reason)
    except BaseException:
        for path in paths:
            files.remove(path + REBUILDING)
        raise
    for directory in {path.rpartition("/")[0] for path in paths}:
        files.sync_directory(directory)
    return Rebuilt(list(plan.wanted), left)


def sum_shards(
    files: FileIO, shards: Mapping[int, File], progress: Progress, coder: Coder | None = None
) -> list[ShardSums]:
    """Checksums of shards as they are, in the order of their ids, for a sidecar that was lost (step 9). Raises
    `OSError`, `EcInterrupted`, `NodeError`."""
    return (coder or CoderHere(files)).run(SumShards(), [file for _, file in sorted(shards.items())], progress)


def _recover(
    coder: Coder,
    ratio: Ratio,
    plan: RebuildPlan,
    shards: Mapping[int, File],
    outputs: Sequence[File],
    progress: Progress,
) -> list[ShardSums]:
    """The wanted shards. Sources that cannot be read are done without, as long as there are enough others."""
    while True:
        sources = [shards[shard] for shard in plan.sources]
        try:
            return coder.run(RecoverColumns(ratio, plan), [*sources, *outputs], progress)
        except OSError as error:
            others = tuple(shard for shard in plan.sources if shards[shard].path != error.filename)
            if len(others) == len(plan.sources) or len(others) < ratio.data:
                raise
            _log.warning("cannot read %s: %s; shards are rebuilt without it", error.filename, error_text(error))
            plan = plan._replace(sources=others)
            progress.expect(progress.done_bytes - progress.total_bytes)  # all of it is still to be done


class RecoverColumns(NamedTuple):
    """The wanted shards of a plan; its sources are the first files. Returns the checksums of what was wanted."""

    ratio: Ratio
    plan: RebuildPlan

    def run(self, files: FileIO, opened: Sequence[File], progress: Progress, threads: int) -> list[ShardSums]:
        """See `CodingTask`."""
        plan = self.plan
        count = len(plan.sources)
        shards, outputs = dict(zip(plan.sources, opened, strict=False)), opened[count:]
        recovery = erasure_code(self.ratio).recovery(plan.sources, plan.wanted)
        sums = [ColumnSums(plan.length) for _ in plan.wanted]

        def work(columns: Iterator[Column]) -> None:
            _compute_columns(files, recovery, shards, outputs, sums, columns)

        progress.expect(plan.length * self.ratio.data)
        for_all_columns(plan.length, work, progress, threads=threads, reads=self.ratio.data)
        sync_all(files, outputs)
        return [item.result() for item in sums]


class SumShards(NamedTuple):
    """The checksums of all files."""

    def run(self, files: FileIO, opened: Sequence[File], progress: Progress, threads: int) -> list[ShardSums]:
        """See `CodingTask`."""
        progress.expect(sum(map(files.size, opened)))
        return [_sum(files, file, progress, threads) for file in opened]


def _sum(files: FileIO, file: File, progress: Progress, threads: int) -> ShardSums:
    total = ColumnSums(files.size(file))

    def work(columns: Iterator[Column]) -> None:
        buffer = column_buffers(1)[0]
        for column in columns:
            _read_whole(files, file, column, buffer[: column.length])
            total.put(column, crc32c(buffer[: column.length]))

    for_all_columns(files.size(file), work, progress, threads=threads)
    return total.result()


def _compute_columns(
    files: FileIO,
    recovery: Recovery,
    shards: Mapping[int, File],
    outputs: Sequence[File],
    sums: list[ColumnSums],
    columns: Iterator[Column],
) -> None:
    count = len(recovery.sources)
    buffers = column_buffers(count + len(outputs))
    for column in columns:
        pieces = [buffer[: column.length] for buffer in buffers]
        for shard_id, piece in zip(recovery.sources, pieces, strict=False):
            _read_whole(files, shards[shard_id], column, piece)
        recovery.compute(pieces[:count], pieces[count:])
        for output, total, piece in zip(outputs, sums, pieces[count:], strict=True):
            total.put(column, crc32c(piece))
            files.write_at(output, column.offset, [piece])
        if column.ends_a_stretch:
            for output in outputs:
                files.sync(output)


def _read_whole(files: FileIO, file: File, column: Column, piece: memoryview) -> None:
    try:
        got = files.read_into(file, column.offset, piece)
    except OSError as error:
        error.filename = file.path
        raise
    if got < len(piece):
        raise OSError(f"{file.path} ends before {column.offset + len(piece)}")


def _require_expected(base: str, sidecar: Sidecar, found: Mapping[int, ShardSums]) -> None:
    for shard_id, sums in found.items():
        different = differing_blocks(sidecar.shards[shard_id], sums)
        if different:
            raise RebuildRefused.result_differs(shard_id, base, len(different))
