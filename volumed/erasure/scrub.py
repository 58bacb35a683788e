"""Shards against their recorded checksums (docs/spec/erasure-coding.md 5.6 step 4, 5.12 CHECKSUM)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from volumed.erasure.code import Ratio, erasure_code
from volumed.erasure.coding import Coder, CoderHere
from volumed.erasure.columns import COLUMN_BYTES, Column, Progress, column_buffers, for_all_columns
from volumed.erasure.sidecar import ShardSums, Sidecar
from volumed.formats.checksum import crc32c
from volumed.storage.fileio import File, FileIO

__all__ = ["CheckShards", "ShardDamage", "check_shards", "confirm_damage"]


class ShardDamage(NamedTuple):
    """A shard that is not what its checksums say."""

    shard_id: int
    length: int
    """Bytes of the file."""
    expected_length: int
    blocks: tuple[int, ...]
    """Numbers of the blocks that differ, cannot be read, or lie behind the end of the file."""
    error: OSError | None = None
    """The first read that failed."""


def check_shards(
    files: FileIO, sidecar: Sidecar, shards: Mapping[int, File], progress: Progress, coder: Coder | None = None
) -> dict[int, ShardDamage]:
    """The damaged ones among ``shards``, by id. A shard that the sidecar does not know counts as damaged; one that
    cannot be read too. ``coder`` computes, None: here. Raises `EcInterrupted`, `NodeError`."""
    damage = (coder or CoderHere(files)).run(CheckShards(sidecar, tuple(shards)), list(shards.values()), progress)
    for found in damage.values():
        if found.error is not None:
            files.note(found.error)
    return damage


class CheckShards(NamedTuple):
    """Shards against their checksums; the files are those of the ids."""

    sidecar: Sidecar
    shard_ids: tuple[int, ...]

    def run(self, files: FileIO, opened: Sequence[File], progress: Progress, threads: int) -> dict[int, ShardDamage]:
        """See `CodingTask`; what `check_shards` says."""
        damage = {}
        known = dict(enumerate(self.sidecar.shards))
        shards = [
            (shard_id, file, known.get(shard_id, ShardSums(0, ())))
            for shard_id, file in sorted(zip(self.shard_ids, opened, strict=True))
        ]
        progress.expect(sum(min(files.size(file), expected.length) for _, file, expected in shards))
        for shard_id, file, expected in shards:
            found = _check(files, shard_id, file, expected, self.sidecar.checksum_block, progress, threads)
            if found is not None:
                damage[shard_id] = found
        return damage


def _check(
    files: FileIO, shard_id: int, file: File, expected: ShardSums, block: int, progress: Progress, threads: int
) -> ShardDamage | None:
    length = files.size(file)
    bad: list[int] = []
    errors: list[OSError] = []

    def work(columns: Iterator[Column]) -> None:
        buffer = column_buffers(1)[0]
        for column in columns:
            try:
                checksum = _checksum(files, file, column, buffer)
            except OSError as error:
                errors.append(error)
                bad.append(column.number)
                continue
            if checksum != expected.blocks[column.number]:
                bad.append(column.number)

    for_all_columns(min(length, expected.length), work, progress, threads=threads, bytes_per_column=block)
    if length == expected.length and not bad:
        return None
    readable = -(-min(length, expected.length) // block)
    bad.extend(range(readable, len(expected.blocks)))
    return ShardDamage(shard_id, length, expected.length, tuple(sorted(bad)), errors[0] if errors else None)


def _checksum(files: FileIO, file: File, block: Column, buffer: memoryview) -> int:
    """Of the part of a block that the file has."""
    checksum = 0
    end = block.offset + block.length
    for offset in range(block.offset, end, COLUMN_BYTES):
        piece = buffer[: min(COLUMN_BYTES, end - offset)]
        got = files.read_into(file, offset, piece)
        checksum = crc32c(piece[:got], checksum)
    return checksum


def confirm_damage(
    files: FileIO,
    ratio: Ratio,
    shards: Mapping[int, File],
    damage: Mapping[int, ShardDamage],
    block: int,
    progress: Progress,
) -> Collection[int]:
    """Which of the damaged shards really differ from what the clean ones say: a stale sidecar accuses good shards.

    ``block`` is the checksum block in bytes. Without k clean shards nobody can tell, and all stay accused. Raises
    `OSError` (a clean shard), `EcInterrupted`.
    """
    clean = shards.keys() - damage.keys()
    if len(clean) < ratio.data:
        return damage.keys()
    return {
        shard_id for shard_id, found in damage.items() if _differs(files, ratio, shards, clean, found, block, progress)
    }


def _differs(
    files: FileIO,
    ratio: Ratio,
    shards: Mapping[int, File],
    clean: Collection[int],
    damage: ShardDamage,
    block: int,
    progress: Progress,
) -> bool:
    # DEVIATE: the reference calls a short shard right if the bytes that are there are.
    if damage.error is not None or damage.length != damage.expected_length or damage.shard_id >= ratio.total:
        return True
    recovery = erasure_code(ratio).recovery(clean, [damage.shard_id])
    *sources, derived, stored = column_buffers(ratio.data + 2)
    for offset in _column_offsets(damage, block):
        progress.require_running()
        length = min(COLUMN_BYTES, damage.length - offset)
        pieces = [buffer[:length] for buffer in sources]
        for shard_id, piece in zip(recovery.sources, pieces, strict=True):
            if files.read_into(shards[shard_id], offset, piece) < length:
                raise OSError(f"{shards[shard_id].path} ends before {offset + length}")
        recovery.compute(pieces, [derived[:length]])
        if files.read_into(shards[damage.shard_id], offset, stored[:length]) < length:
            return True
        if derived[:length] != stored[:length]:
            return True
    return False


def _column_offsets(damage: ShardDamage, block: int) -> Iterator[int]:
    for number in damage.blocks:
        yield from range(number * block, min((number + 1) * block, damage.length), COLUMN_BYTES)
