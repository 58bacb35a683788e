"""Encode, rebuild, decode and scrub on files: what goes wrong leaves what was there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.erasure_kit import NOW_NS, RATIO, WIDTH, FailingIO, SmallVolume
from volumed.erasure.code import DEFAULT_RATIO, Ratio
from volumed.erasure.columns import COLUMN_BYTES, Progress
from volumed.erasure.decode import decode_layout, write_dat, write_idx
from volumed.erasure.discovery import FileStat, Verdict, group_files, judge
from volumed.erasure.errors import BadEcIndex, EcInterrupted, RebuildRefused, TooFewShards, UnclearLayout
from volumed.erasure.geometry import Geometry
from volumed.erasure.index import find_row, index_totals, live_bytes, seal_index, search_index
from volumed.erasure.layout import MIB
from volumed.erasure.rebuild import plan_rebuild, rebuild_shards, sum_shards
from volumed.erasure.scrub import check_shards, confirm_damage
from volumed.erasure.sidecar import Sidecar
from volumed.errors import DiskError
from volumed.formats.idx import DELETED, Row, iter_rows, pack_rows
from volumed.formats.ttl import parse_ttl
from volumed.storage.ec_journal import fold_at
from volumed.storage.fileio import File, FileIO
from volumed.storage.site import VolumePaths

BEFORE = {"9.dat", "9.idx"}
COMPLETE = BEFORE | {"9.ec00", "9.ec01", "9.ec02", "9.ec03", "9.ec04", "9.ecx", "9.ecsum", "9.vif"}
GIB = 1 << 30


@pytest.fixture
def volume(tmp_path: Path) -> SmallVolume:
    return SmallVolume(tmp_path / "d")


def targets(volume: SmallVolume) -> dict[int, str]:
    return {shard: str(volume.shard_path(shard)) for shard in range(RATIO.total)}


# Encode


def test_encode_tells_how_far_it_is(volume: SmallVolume) -> None:
    told: list[tuple[int, int]] = []
    volume.encode(progress=Progress(lambda done, total: told.append((done, total))))
    length = volume.shard_path(0).stat().st_size
    total, step = RATIO.data * length, RATIO.data * COLUMN_BYTES
    assert told == [(done, total) for done in range(step, total + 1, step)], "bytes that are read"
    assert volume.names() == COMPLETE


def test_a_rebuild_tells_how_far_it_is(volume: SmallVolume) -> None:
    encoded = volume.encode()
    volume.shard_path(0).unlink()
    length = volume.shard_path(1).stat().st_size
    told: list[tuple[int, int]] = []
    progress = Progress(lambda done, total: told.append((done, total)))
    rebuild_shards(FileIO(), "", RATIO, volume.shards(), targets(volume), encoded.sidecar, progress)
    check, recover = (RATIO.total - 1) * length, RATIO.data * length
    assert [total for _, total in told] == sorted(total for _, total in told)
    assert {total for _, total in told} == {check, check + recover}
    assert told[-1] == (check + recover, check + recover)


def test_a_volume_with_a_ttl_expires(tmp_path: Path) -> None:
    encoded = SmallVolume(tmp_path / "d", needles=1, ttl=parse_ttl("3h")).encode()
    assert encoded.geometry.expire_at_s == NOW_NS // 10**9 + 3 * 3600


def test_a_volume_without_live_needles_is_encoded(tmp_path: Path) -> None:
    volume = SmallVolume(tmp_path / "d", needles=0)
    volume.encode()
    assert volume.names() == COMPLETE
    assert Path(volume.paths.index(".ecx")).read_bytes() == b""


def test_an_encode_that_is_told_to_stop_leaves_nothing(volume: SmallVolume) -> None:
    def stop_in_the_middle(done: int, total: int) -> None:
        if done >= total // 2:
            progress.stop()

    progress = Progress(stop_in_the_middle)
    with pytest.raises(EcInterrupted):
        volume.encode(progress=progress)
    assert volume.names() == BEFORE


def changes_of_an_encode(tmp_path: Path) -> int:
    counting = FailingIO(1 << 30, stays_broken=False)
    SmallVolume(tmp_path / "counted").encode(counting)
    return counting.changes


def test_an_encode_that_fails_anywhere_leaves_nothing(tmp_path: Path) -> None:
    for number in range(changes_of_an_encode(tmp_path)):
        volume = SmallVolume(tmp_path / f"d{number}", needles=3)
        try:
            volume.encode(FailingIO(number, stays_broken=False))
        except OSError:
            # The `.vif` is the volume's too, and says nothing of shards that are there.
            assert volume.names() - {"9.vif"} == BEFORE
        else:
            # The sidecar alone is not worth failing for.
            assert volume.names() >= COMPLETE - {"9.ecsum"}


def test_an_encode_that_is_killed_anywhere_is_undone_or_complete_at_the_next_start(tmp_path: Path) -> None:
    verdicts = []
    for number in range(changes_of_an_encode(tmp_path)):
        volume = SmallVolume(tmp_path / f"d{number}", needles=3)
        with pytest.raises(OSError):  # noqa: PT011 - whatever comes first
            volume.encode(FailingIO(number, stays_broken=True))
        listing = {path.name: FileStat(path.stat().st_size) for path in volume.directory.iterdir()}
        found = group_files(listing, None)["", 9]
        verdicts.append(judge(found, RATIO))
        if verdicts[-1] is Verdict.MOUNT:
            assert volume.names() >= COMPLETE - {"9.ecsum"}
        elif verdicts[-1] is Verdict.NOTHING:
            assert not found.shards
        staged = {name for name in volume.names() if name.endswith(".encoding")}
        assert staged == {name for _, name in found.leftovers}
    assert set(verdicts) == set(Verdict)


def test_the_names_of_shards_are_durable_before_there_is_an_index(tmp_path: Path) -> None:
    class Names(FileIO):
        def rename(self, source: str, target: str) -> None:
            done.append(os.path.basename(target))
            super().rename(source, target)

        def sync_directory(self, path: str) -> None:
            done.append(os.path.basename(path))
            super().sync_directory(path)

    done: list[str] = []
    volume = SmallVolume(tmp_path / "data", needles=3)
    (tmp_path / "index").mkdir()
    (volume.directory / "9.idx").rename(tmp_path / "index" / "9.idx")
    volume.paths = VolumePaths(str(volume.directory), str(tmp_path / "index"), "9")
    volume.encode(Names())
    assert done[-3:] == ["data", "9.ecx", "index"]


# Rebuild


def test_rebuild_writes_only_what_it_was_given_places_for(volume: SmallVolume) -> None:
    encoded = volume.encode()
    before = volume.shard_bytes()
    os.unlink(volume.shard_path(1))
    volume.damage(4)
    mine = {1: str(volume.shard_path(1))}
    rebuilt = rebuild_shards(volume.files, "9", RATIO, volume.shards(), mine, encoded.sidecar, Progress())
    assert rebuilt == ([1], [4])
    assert volume.shard_bytes()[:4] == before[:4]
    assert volume.shard_bytes()[4] != before[4]
    assert rebuild_shards(volume.files, "9", RATIO, volume.shards(), {}, None, Progress()) == ([], [])


def test_without_checksums_damage_goes_unseen_but_empty_shards_are_lost_ones(volume: SmallVolume) -> None:
    volume.encode()
    before = volume.shard_bytes()
    os.truncate(volume.shard_path(0), 0)
    assert rebuild_shards(volume.files, "9", RATIO, volume.shards(), targets(volume), None, Progress()).made == [0]
    assert volume.shard_bytes() == before


def test_a_rebuild_that_fails_or_is_stopped_changes_nothing(volume: SmallVolume) -> None:
    encoded = volume.encode()
    os.unlink(volume.shard_path(1))
    volume.damage(4)
    before = {name: (volume.directory / name).read_bytes() for name in volume.names()}
    stopped = Progress()
    stopped.stop()
    with pytest.raises(EcInterrupted):
        rebuild_shards(volume.files, "9", RATIO, volume.shards(), targets(volume), encoded.sidecar, stopped)
    # Two files: emptied, four columns each, flushed.
    for number in range(12):
        broken = FailingIO(number, stays_broken=False)
        with pytest.raises(OSError, match="Input/output error"):
            rebuild_shards(broken, "9", RATIO, volume.shards(), targets(volume), encoded.sidecar, Progress())
        assert {name: (volume.directory / name).read_bytes() for name in volume.names()} == before


class Dying(FileIO):
    """The second half of some shards cannot be read; every error is noted."""

    def __init__(self, *extensions: str) -> None:
        self.extensions = extensions
        self.noted: list[OSError] = []

    def read_into(self, file: File, offset: int, buffer: memoryview) -> int:
        if file.path.endswith(self.extensions) and offset + len(buffer) > MIB // 2:
            raise OSError(5, "Input/output error")
        return super().read_into(file, offset, buffer)

    def note(self, error: OSError) -> None:
        self.noted.append(error)


def test_without_checksums_shards_that_cannot_be_read_are_done_without(volume: SmallVolume) -> None:
    volume.encode()
    before = volume.shard_bytes()
    os.unlink(volume.shard_path(3))
    told: list[tuple[int, int]] = []
    progress = Progress(lambda done, total: told.append((done, total)))
    files = Dying(".ec01")
    assert rebuild_shards(files, "9", RATIO, volume.shards(), targets(volume), None, progress) == ([3], [])
    assert volume.shard_bytes() == before
    assert told[-1][0] == told[-1][1]
    os.unlink(volume.shard_path(3))
    with pytest.raises(OSError, match="Input/output error") as caught:
        rebuild_shards(Dying(".ec01", ".ec02"), "9", RATIO, volume.shards(), targets(volume), None, Progress())
    assert caught.value.filename in {str(volume.shard_path(shard)) for shard in (1, 2)}
    assert volume.names() == COMPLETE - {"9.ec03"}


def test_with_checksums_shards_that_cannot_be_read_are_made_again(volume: SmallVolume) -> None:
    encoded = volume.encode()
    before = volume.shard_bytes()
    inode = volume.shard_path(1).stat().st_ino
    files = Dying(".ec01")
    made = rebuild_shards(files, "9", RATIO, volume.shards(), targets(volume), encoded.sidecar, Progress()).made
    assert made == [1]
    assert [str(error) for error in files.noted] == ["[Errno 5] Input/output error"]
    assert volume.shard_bytes() == before
    assert volume.shard_path(1).stat().st_ino != inode


def test_a_stale_sidecar_stops_a_rebuild(volume: SmallVolume) -> None:
    encoded = volume.encode()
    os.unlink(volume.shard_path(1))
    wrong = encoded.sidecar.shards[0]
    shards = (*encoded.sidecar.shards[:1], wrong, *encoded.sidecar.shards[2:])
    stale = Sidecar(shards, RATIO, MIB, bytes(16))
    with pytest.raises(RebuildRefused, match=r"bitrot: regenerated shard 1 for 9 does not match sidecar \(1 blocks"):
        rebuild_shards(volume.files, "9", RATIO, volume.shards(), targets(volume), stale, Progress())
    assert volume.names() == COMPLETE - {"9.ec01"}


def test_a_sidecar_of_another_ratio_stops_a_rebuild(volume: SmallVolume) -> None:
    shards = volume.encode().sidecar.shards[:4]
    other = Sidecar(shards, Ratio(2, 2), MIB, bytes(16))
    with pytest.raises(RebuildRefused, match="bitrot sidecar for 9 is malformed/unverifiable; refusing to rebuild"):
        rebuild_shards(volume.files, "9", RATIO, volume.shards(), targets(volume), other, Progress())


@pytest.mark.parametrize(
    ("lengths", "damaged", "kind", "text"),
    [
        (
            {0: MIB, 1: MIB, 2: 0}, (), TooFewShards,
            "not enough shards to rebuild b: found 2 shards, need at least 3 (data shards), missing shards: [2 3 4]",
        ),
        (
            dict.fromkeys(range(5), MIB) | {3: 2 * MIB}, (), RebuildRefused,
            "rebuildEcFiles: ec rebuild: input shard 3 size 2097152 != 1048576 (truncated input?)",
        ),
        (
            dict.fromkeys(range(5), MIB), (0, 1, 2), RebuildRefused,
            "bitrot sidecar suspect for b: 3/5 present shards mismatch (> parity 2); refusing to rebuild "
            "(pass unsafeIgnoreSidecar to override)",
        ),
        (
            dict.fromkeys(range(4), MIB), (0, 1), RebuildRefused,
            "bitrot: only 2 verified-good shards for b, need 3 data shards; sidecar may be stale "
            "(pass unsafeIgnoreSidecar to override)",
        ),
    ],
    ids=["too_few", "lengths", "suspect", "too_few_good"],
)  # fmt: skip
def test_rebuilds_that_are_refused(
    lengths: dict[int, int], damaged: tuple[int, ...], kind: type[DiskError], text: str
) -> None:
    with pytest.raises(kind) as failure:
        plan_rebuild("b", RATIO, lengths, damaged)
    assert failure.value.text == text


def test_a_lost_sidecar_can_be_made_again(volume: SmallVolume) -> None:
    encoded = volume.encode()
    assert tuple(sum_shards(volume.files, volume.shards(), Progress())) == encoded.sidecar.shards


# Scrub


def test_scrub_finds_what_differs(volume: SmallVolume) -> None:
    encoded = volume.encode()
    volume.damage(1, offset=700_000)
    os.truncate(volume.shard_path(3), 5)
    damage = check_shards(volume.files, encoded.sidecar, volume.shards(), Progress())
    assert {shard: (item.blocks, item.length) for shard, item in damage.items()} == {1: ((0,), MIB), 3: ((0,), 5)}
    shards = volume.shards()
    assert confirm_damage(volume.files, RATIO, shards, damage, 16 * MIB, Progress()) == {1, 3}


def test_a_read_error_is_damage(volume: SmallVolume) -> None:
    class Unreadable(FileIO):
        def read_into(self, *_: object) -> int:
            raise OSError(5, "Input/output error")

    encoded = volume.encode()
    damage = check_shards(Unreadable(), encoded.sidecar, volume.shards(lost=[1, 2, 3, 4]), Progress())
    assert damage[0].blocks == (0,)
    assert str(damage[0].error) == "[Errno 5] Input/output error"


def test_a_shard_that_the_others_agree_with_is_only_accused_by_a_stale_sidecar(volume: SmallVolume) -> None:
    encoded = volume.encode()
    shards = (encoded.sidecar.shards[1], *encoded.sidecar.shards[1:])
    stale = Sidecar(shards, RATIO, MIB, bytes(16))
    damage = check_shards(volume.files, stale, volume.shards(), Progress())
    assert list(damage) == [0]
    assert confirm_damage(volume.files, RATIO, volume.shards(), damage, 16 * MIB, Progress()) == set()
    assert set(confirm_damage(volume.files, RATIO, volume.shards([3, 4]), damage, 16 * MIB, Progress())) == {0}


# Decode


def test_decode_gives_the_live_part_of_the_volume(volume: SmallVolume) -> None:
    encoded = volume.encode()
    original = Path(volume.paths.data(".dat")).read_bytes()
    dat = volume.directory / "new.dat"
    live = len(original) // 2
    layout = decode_layout(encoded.geometry, MIB, live, "9")
    data = list(volume.shards().values())[: RATIO.data]
    write_dat(volume.files, layout, data, str(dat), live, Progress())
    assert dat.read_bytes() == original[:live]


def test_a_decode_that_fails_or_is_stopped_leaves_no_file(volume: SmallVolume) -> None:
    encoded = volume.encode()
    layout = decode_layout(encoded.geometry, MIB, encoded.geometry.dat_size, "9")
    dat = volume.directory / "new.dat"
    data = list(volume.shards().values())[: RATIO.data]
    stopped = Progress(lambda _done, _total: stopped.stop())
    for files, progress in ((volume.files, stopped), (FailingIO(2, stays_broken=False), Progress())):
        with pytest.raises((EcInterrupted, OSError)):
            write_dat(files, layout, data, str(dat), layout.dat_size, progress)
        assert volume.names() == COMPLETE
    os.truncate(volume.shard_path(2), 100)
    with pytest.raises(UnclearLayout, match="ec shard 2 has 100 bytes, expected 1048576"):
        write_dat(volume.files, layout, data, str(dat), layout.dat_size, Progress())


def test_shards_that_do_not_say_what_they_hold() -> None:
    legacy, told = Geometry(DEFAULT_RATIO, 0), Geometry(DEFAULT_RATIO, 0, dat_size=5 * GIB)
    assert decode_layout(legacy, 2 * GIB, 8, "b").large_rows == 2
    assert decode_layout(legacy, GIB + MIB, 10 * GIB, "b").large_rows == 1
    assert decode_layout(Geometry(DEFAULT_RATIO, MIB), MIB, 10 * MIB, "b").large_rows == 1
    with pytest.raises(UnclearLayout) as failure:
        decode_layout(legacy, 2 * GIB, 11 * GIB, "b")
    assert failure.value.text == (
        f"shard size {2 * GIB} of b does not identify the block layout; re-encode to record the dat size in .vif"
    )
    with pytest.raises(UnclearLayout, match=f"dat file size {6 * GIB} exceeds encoded dat file size {5 * GIB}"):
        decode_layout(told, GIB, 6 * GIB, "b")
    assert decode_layout(told, GIB, 5 * GIB, "b").dat_size == 5 * GIB


# Index


def test_index_of_what_is_alive(tmp_path: Path) -> None:
    rows = [(5, 8, 10), (1 << 63, 64, 20), (3, 128, 0), (5, 192, 30), (7, 256, 9), (7, 0, DELETED), (3, 0, 5)]
    sealed = seal_index(pack_rows(rows, WIDTH) + b"cut", WIDTH)
    assert list(iter_rows(sealed, WIDTH)) == [(5, 192, 30), (1 << 63, 64, 20)]
    ecx = tmp_path / "9.ecx"
    ecx.write_bytes(sealed + b"odd")
    files = FileIO()
    assert find_row(files, files.open(str(ecx)), 5, WIDTH) == (5, 192, 30)
    with pytest.raises(BadEcIndex):
        live_bytes(files, files.open(str(ecx)), WIDTH, 3)


def test_large_indexes_are_searched_and_folded(tmp_path: Path) -> None:
    rows = [(key * 3, 8 * key, key) for key in range(1, 100_001)]
    ecx = tmp_path / "9.ecx"
    ecx.write_bytes(pack_rows(rows, WIDTH))
    files = FileIO()
    file = files.open(str(ecx))
    for key, offset, size in (*rows[:300], *rows[-300:], rows[50_000]):
        assert find_row(files, file, key, WIDTH) == (key, offset, size)
        assert find_row(files, file, key + 1, WIDTH) is None
    assert find_row(files, file, 0, WIDTH) is None
    journal = tmp_path / "9.ecj"
    journal.write_bytes(b"".join(key.to_bytes(8, "big") for key in (3, 300_000, 4)))
    fold_at(files, VolumePaths(str(tmp_path), str(tmp_path), "9"), WIDTH)
    assert journal.read_bytes() == b""
    assert index_totals(files, file, WIDTH) == (99_998, 2, sum(range(2, 100_000)))
    assert find_row(files, file, 300_000, WIDTH) == (300_000, 800_000, DELETED)
    assert live_bytes(files, file, WIDTH, 3) == 8 * 99_999 + 16 + 99_999 + 12 + (8 - (99_999 + 28) % 8)


def test_the_first_steps_of_a_search_are_remembered() -> None:
    rows = [(key * 3, 8 * key, key) for key in range(1, 100_001)]
    ecx, reads, fences = pack_rows(rows, WIDTH), 0, dict[int, int]()

    def read(at: int, length: int) -> bytes:
        nonlocal reads
        reads += 1
        return ecx[at : at + length]

    def find(key: int) -> Row | None:
        return search_index(read, len(ecx), key, WIDTH, fences)

    for key, offset, size in rows[::200]:
        assert find(key) == (key, offset, size)
    known, reads = dict(fences), 0
    for key, offset, size in rows[100::200]:
        assert find(key) == (key, offset, size)
        assert find(key + 1) is None
    assert reads <= 3 * 2 * len(rows[100::200])
    assert fences == known
    assert 100 < len(fences) < 256


def test_a_torn_journal_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "9.ecx").write_bytes(pack_rows([(1, 8, 5)], WIDTH))
    (tmp_path / "9.ecj").write_bytes((1).to_bytes(8, "big") + b"\0")
    files = FileIO()
    with pytest.raises(BadEcIndex):
        fold_at(files, VolumePaths(str(tmp_path), str(tmp_path), "9"), WIDTH)
    assert find_row(files, files.open(str(tmp_path / "9.ecx")), 1, WIDTH) == (1, 8, 5)


def test_a_decode_of_nothing_and_an_index_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "9.ecx").write_bytes(pack_rows([(1, 8, DELETED)], WIDTH))
    files = FileIO()
    ecx = files.open(str(tmp_path / "9.ecx"))
    assert live_bytes(files, ecx, WIDTH, 3) is None
    with pytest.raises(OSError, match="Input/output error"):
        write_idx(FailingIO(2, stays_broken=False), ecx, [], str(tmp_path / "9.idx"), WIDTH)
    assert os.listdir(tmp_path) == ["9.ecx"]
