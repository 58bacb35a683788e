from __future__ import annotations

import pytest

from volumed import errors
from volumed.errors import Code, Corruption, CorruptNeedle, VolumedError

EXAMPLES = {
    "not found": errors.NeedleNotFound(),
    "already deleted": errors.NeedleDeleted(),
    "mismatching cookie ff": errors.CookieMismatch.on_write(0xFF),
    "File Random Cookie does not match.": errors.CookieMismatch.on_delete(),
    "volume 7 is read only": errors.ReadOnlyVolume.of(7),
    "volume 7 not found": errors.VolumeNotFound.of(7),
    "volume 7 not found on 10.0.0.1:8080": errors.VolumeNotFound.on_server(7, "10.0.0.1:8080"),
    "volume 7 not found on disk": errors.VolumeNotFound.on_mount(7),
    "delete volume 7 not found on disk: volume not found": errors.VolumeNotFound.on_delete(7),
    "volume id 7 is not found during check compact: volume not found": errors.VolumeNotFound.on_check(7),
    "compact volume 7: volume id 7 is not found during compact: volume not found": (
        errors.VolumeNotFound.on_compact(7)
    ),
    "commit compact volume 7: volume id 7 is not found during commit compact: volume not found": (
        errors.VolumeNotFound.on_commit(7)
    ),
    "cleanup volume 7: volume id 7 is not found during cleaning up: volume not found": (
        errors.VolumeNotFound.on_cleanup(7)
    ),
    "Volume Id 7 already exists!": errors.VolumeExists.of(7),
    "DeleteVolume 7: volume not empty": errors.VolumeNotEmpty.of(7),
    "volume 7 is compacting": errors.VolumeBusy.compacting(7),
    "volume 7 is closed": errors.VolumeClosed.of(7),
    "volume 7 is unavailable: fsync: EIO: volume unavailable": errors.VolumeUnavailable.of(7, "fsync: EIO"),
    "volume 7 cannot be marked writable: volume 7 is unavailable: x: volume unavailable": (
        errors.VolumeUnavailable.on_mark_writable(7, "x")
    ),
    "volume 7.dat not initialized": errors.VolumeLoadError.not_initialized("7.dat"),
    "cannot read Volume Data file 7.dat": errors.VolumeLoadError.unreadable("7.dat"),
    "Unsupported volume 7 version 9": errors.VolumeLoadError.unsupported_version(7, 9),
    "Error parse volume 7 replication 9zz : why": errors.VolumeLoadError.bad_replication(7, "9zz", "why"),
    "unexpected file 7.idx size: 18": errors.VolumeLoadError.index_length("7.idx", 18),
    "BytesOffset mismatch in volume info file 7.vif, try use binary version without large_disk": (
        errors.VolumeLoadError.offset_width("7.vif", 5)
    ),
    "BytesOffset mismatch in volume info file 7.vif, try use binary version with large_disk": (
        errors.VolumeLoadError.offset_width("7.vif", 4)
    ),
    "volume 7 compact swap aborted: missing .cpd/.cpx": errors.CompactionError.swap_aborted(7),
    "volume id 7 skips compact because volume is stopping": errors.CompactionError.stopping(7),
    "current old dat file's compact revision 2 is not the expected one 1": (
        errors.CompactionError.other_revision(2, 1)
    ),
    "volume 7 unexpected new data size: 8 does not match expected live content size 16 from the "
    "pre-compaction snapshot": errors.CompactionError.unexpected_size(7, 8, 16),
    "cleanup volume 7: volume 7: refusing cleanup while commit marker present": (errors.CompactionError.committing(7)),
    "interrupted": errors.CompactionError.interrupted(),
    "Volume Size 9 Exceeded 8": errors.SizeLimitExceeded.volume_end(9, 8),
    "volume size limit 8 exceeded! current size is 9": errors.SizeLimitExceeded.volume_content(8, 9),
    "file over the limited 100 bytes": errors.SizeLimitExceeded.file(100),
    "No more free space left": errors.NoFreeSpace.for_volume(),
    "compact volume 7: insufficient free space for compaction: need 3 bytes (volume: 2, index: 1), but only 0 "
    "bytes available: insufficient free space": errors.NoFreeSpace.for_compaction(7, 3, 2, 1, 0),
    "needle 5 has invalid size -1": errors.InvalidBlob.negative_size(5, -1),
    "needle 5 blob of 3 bytes is shorter than a needle header": errors.InvalidBlob.no_header(5, 3),
    "needle 5 size 1 does not match its blob header size 2": errors.InvalidBlob.other_size(5, 1, 2),
    "needle 5 blob of 40 bytes does not match the 48 bytes size 12 takes in a version 3 volume": (
        errors.InvalidBlob.other_length(5, 40, 48, 12, 3)
    ),
    "size mismatch: entry not found: offset 8 found id 31 size 2, expected size 3": (
        CorruptNeedle.size_mismatch(8, 1, 2, 3)
    ),
    "size mismatch for entry at offset 8: found id 6162 size 2, expected size 3": (
        CorruptNeedle.paged_size_mismatch(8, 0xAB, 2, 3)
    ),
    "index out of range 4: needle data corrupted": CorruptNeedle.out_of_range(4),
    "invalid needle meta size -1: DataSize=9, size=8, offset=16": CorruptNeedle.meta_size(-1, 9, 8, 16),
    "invalid CRC for needle ab (got 00000001, want 00000002), data on disk corrupted: needle data corrupted": (
        CorruptNeedle.crc(0xAB, 1, 2)
    ),
    "ReadNeedleData checksum 1 expected 2 for Needle: 7,ab": CorruptNeedle.paged_crc(1, 2, 7, "ab"),
    "EOF": CorruptNeedle.eof(),
    "volume super block version 9 is not supported": errors.FormatError.unsupported_version(9),
    "index file's size is 18 bytes, maybe corrupted": errors.FormatError.index_length(18),
}


@pytest.mark.parametrize(("text", "error"), EXAMPLES.items())
def test_texts(text: str, error: VolumedError) -> None:
    assert error.text == str(error) == text


@pytest.mark.parametrize("error", EXAMPLES.values(), ids=lambda error: type(error).__name__)
def test_crosses_the_bus(error: VolumedError) -> None:
    copy = VolumedError.from_wire(*error.to_wire())
    assert type(copy) is type(error)
    assert (copy.text, copy.code) == (error.text, error.code)
    assert copy.to_wire() == error.to_wire()


def test_every_class_crosses_the_bus_with_any_code() -> None:
    for name in set(errors.__all__) - {"Code", "Corruption"}:
        copy = VolumedError.from_wire(name, 14, "text")
        assert type(copy).__name__ == name
        assert (copy.text, copy.code) == ("text", Code.UNAVAILABLE)


def test_the_kind_of_a_corruption_survives() -> None:
    for kind in Corruption:
        copy = VolumedError.from_wire(*CorruptNeedle("x", kind=kind).to_wire())
        assert isinstance(copy, CorruptNeedle)
        assert copy.kind is kind


def test_unknown_kinds_and_codes_become_plain_errors() -> None:
    copy = VolumedError.from_wire("FromTheFuture", 99, "text")
    assert type(copy) is VolumedError
    assert (copy.text, copy.code) == ("text", Code.UNKNOWN)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (errors.ReadOnlyVolume.of(1), errors.ClientError),
        (CorruptNeedle.eof(), errors.DiskError),
        (errors.VolumeUnavailable.of(1, ""), errors.DiskError),
        (errors.StaleGeneration("moved"), errors.RetryError),
        (errors.DiskUnavailable("gone"), errors.RetryError),
    ],
)
def test_fault(error: VolumedError, fault: type[VolumedError]) -> None:
    assert isinstance(error, fault)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NeedleNotFound(), Code.NOT_FOUND),
        (errors.NeedleDeleted(), Code.UNKNOWN),
        (errors.VolumeNotFound.of(1), Code.UNKNOWN),
        (errors.VolumeNotFound.on_delete(1), Code.NOT_FOUND),
        (errors.VolumeNotEmpty.of(1), Code.FAILED_PRECONDITION),
        (errors.NoFreeSpace.for_compaction(1, 1, 1, 0, 0), Code.RESOURCE_EXHAUSTED),
        (errors.DiskUnavailable("gone"), Code.UNAVAILABLE),
    ],
)
def test_code(error: VolumedError, code: Code) -> None:
    assert error.code is code
