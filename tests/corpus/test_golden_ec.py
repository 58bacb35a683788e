"""The erasure coded volumes of the reference, bit for bit, in both directions."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from volumed.erasure.code import Ratio
from volumed.erasure.columns import Progress
from volumed.erasure.decode import decode_layout, write_dat, write_idx
from volumed.erasure.encode import encode_shards, encode_volume
from volumed.erasure.galois import encoding_matrix
from volumed.erasure.geometry import FoundFile, Geometry, resolve_geometry
from volumed.erasure.index import find_row, live_bytes, seal_index
from volumed.erasure.layout import Interval, Layout
from volumed.erasure.names import INDEX, JOURNAL, SIDECAR, shard_extension
from volumed.erasure.read import EcSource, answered, read_needle
from volumed.erasure.rebuild import rebuild_shards
from volumed.erasure.scrub import check_shards
from volumed.erasure.sidecar import Sidecar, decode_sidecar, encode_sidecar
from volumed.formats.idx import is_live, iter_rows
from volumed.formats.vif import decode_vif
from volumed.storage.ec_journal import fold_at, read_journals
from volumed.storage.fileio import File, FileIO
from volumed.storage.site import VolumePaths

GOLDEN = Path(__file__).parent / "golden" / "ec"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
SETS = sorted(MANIFEST["sets"])
NEW_SETS = [name for name in SETS if MANIFEST["sets"][name]["layout"] == "uniform"]
WIDTH = 5
FILES = FileIO()


@dataclass
class GoldenSet:
    """One set, with its shards in ``directory``, made by our encoder."""

    facts: dict[str, Any]
    golden: Path
    """The reference's files, without extension."""
    directory: Path
    geometry: Geometry
    layout: Layout
    sidecar: Sidecar

    @property
    def shard_paths(self) -> list[Path]:
        return [self.directory / f"x{shard_extension(shard)}" for shard in range(self.geometry.ratio.total)]

    def shards(self) -> dict[int, File]:
        return {
            shard: FILES.open(str(path), writable=False) for shard, path in enumerate(self.shard_paths) if path.exists()
        }

    def hashes(self) -> list[str]:
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.shard_paths]

    def read(self, extension: str) -> bytes:
        return self.golden.with_name(self.golden.name + extension).read_bytes()


def dat_of(golden: Path) -> bytes:
    plain = golden.with_name(golden.name + ".dat")
    if plain.exists():
        return plain.read_bytes()
    return gzip.decompress(plain.with_name(plain.name + ".gz").read_bytes())


@pytest.fixture(scope="module", params=SETS)
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GoldenSet:
    facts = MANIFEST["sets"][request.param]
    base = f"{facts['collection']}_{facts['volume_id']}" if facts["collection"] else str(facts["volume_id"])
    files = GOLDEN / request.param / base
    directory = tmp_path_factory.mktemp("ec")
    vif = files.with_name(base + ".vif").read_bytes()
    geometry = resolve_geometry(FoundFile("x.vif", vif), None)
    sidecar = decode_sidecar(files.with_name(base + SIDECAR).read_bytes())
    layout = geometry.layout(facts["shard_size"])
    item = GoldenSet(facts, files, directory, geometry, layout, sidecar)
    dat = directory / "x.dat"
    dat.write_bytes(dat_of(files))
    sums = encode_shards(FILES, FILES.open(str(dat)), layout, [str(path) for path in item.shard_paths], Progress())
    assert tuple(sums) == sidecar.shards
    return item


def test_matrices() -> None:
    for text, rows in json.loads((GOLDEN / "matrices.json").read_text()).items():
        data, parity = map(int, text.split("+"))
        assert [list(row) for row in encoding_matrix(data, parity)[data:]] == rows


def test_geometry(golden: GoldenSet) -> None:
    facts = golden.facts
    assert golden.geometry.ratio == (facts["data_shards"], facts["parity_shards"])
    assert golden.geometry.block_size == facts["block_size"]
    assert golden.geometry.dat_size == facts["dat_size"]
    assert golden.layout.shard_length == facts["shard_size"]
    assert golden.geometry.matches(golden.sidecar)
    if facts["layout"] == "uniform":
        assert Layout.for_encoding(golden.geometry.ratio, facts["dat_size"]) == golden.layout


def test_shards(golden: GoldenSet) -> None:
    assert golden.hashes() == golden.facts["shard_sha256"]
    for column in golden.facts["sample_columns"]:
        at = column["shard_offset"]
        found = [FILES.read_at(file, at, 16).hex() for file in golden.shards().values()]
        assert found == column["bytes"]


def test_sidecar(golden: GoldenSet) -> None:
    content = golden.read(SIDECAR)
    assert encode_sidecar(golden.sidecar) == content
    assert golden.sidecar.uuid.hex() == golden.facts.get("ecsum", {}).get("encode_uuid", golden.sidecar.uuid.hex())
    assert check_shards(FILES, golden.sidecar, golden.shards(), Progress()) == {}


def test_index(golden: GoldenSet, tmp_path: Path) -> None:
    sealed = seal_index(golden.read(".idx"), WIDTH)
    assert sealed == golden.read(INDEX)
    ecx = tmp_path / "x.ecx"
    ecx.write_bytes(sealed)
    file = FILES.open(str(ecx))
    for needle in golden.facts["needles"]:
        expected = (needle["needle_id"], needle["dat_offset"], needle["size"])
        assert find_row(FILES, file, needle["needle_id"], WIDTH) == expected
    assert find_row(FILES, file, 0xFFFF, WIDTH) is None


def test_needles(golden: GoldenSet) -> None:
    """Read whole, and with as many shards lost as there may be, one of them wrong instead of lost."""
    ratio = golden.geometry.ratio
    source = EcSource(golden.facts["volume_id"], 3, golden.layout)
    shards = golden.shards()
    uploaded = {item["needle_id"]: item for item in golden.facts["uploaded"]}
    for needle in golden.facts["needles"]:
        intervals = [tuple(item) for item in golden.layout.intervals(needle["dat_offset"], needle["record_length"])]
        assert intervals == [tuple(item) for item in needle["intervals"]]
        row = (needle["needle_id"], needle["dat_offset"], needle["size"])
        lost = [(intervals[0][0] + step) % ratio.total for step in range(ratio.parity)]
        for gone in ([], lost):

            def read(wanted: Interval, gone: list[int] = gone) -> bytes | None:
                if wanted.shard in gone:
                    return None
                return FILES.read_at(shards[wanted.shard], wanted.offset, wanted.length)

            found = answered(read_needle(source, row), read)
            assert found.suspect is None
            assert hashlib.sha256(found.needle.data).hexdigest() == uploaded[row[0]]["payload_sha256"]
            assert found.needle.cookie == uploaded[row[0]]["cookie"]


def test_rebuild(golden: GoldenSet) -> None:
    """Any parity, any data, both; and a shard that is wrong."""
    ratio, total = golden.geometry.ratio, golden.geometry.ratio.total
    targets = {shard: str(path) for shard, path in enumerate(golden.shard_paths)}
    for lost in ([0], list(range(ratio.parity)), list(range(ratio.data, total)), [1, ratio.data - 1, ratio.data + 1]):
        for shard in lost[:-1]:
            os.unlink(targets[shard])
        if len(lost) > 1:
            with open(targets[lost[-1]], "r+b") as file:
                file.write(b"wrong")
        else:
            os.unlink(targets[lost[0]])
        rebuilt = rebuild_shards(FILES, "x", ratio, golden.shards(), targets, golden.sidecar, Progress())
        assert rebuilt == (sorted(lost), [])
        assert golden.hashes() == golden.facts["shard_sha256"]


def test_decode(golden: GoldenSet, tmp_path: Path) -> None:
    ecx_path = tmp_path / "x.ecx"
    ecx_path.write_bytes(golden.read(INDEX))
    ecx = FILES.open(str(ecx_path))
    live = live_bytes(FILES, ecx, WIDTH, 3)
    assert live
    dat = tmp_path / "x.dat"
    layout = decode_layout(golden.geometry, golden.facts["shard_size"], live, "x")
    shards = golden.shards()
    data = [shards[shard] for shard in range(layout.ratio.data)]
    write_dat(FILES, layout, data, str(dat), live, Progress())
    assert dat.read_bytes() == dat_of(golden.golden)[:live]
    write_idx(FILES, ecx, [77], str(tmp_path / "x.idx"), WIDTH)
    assert (tmp_path / "x.idx").read_bytes()[: len(golden.read(INDEX))] == golden.read(INDEX)
    *_, last = iter_rows((tmp_path / "x.idx").read_bytes(), WIDTH)
    assert last == (77, 0, -1)


@pytest.mark.parametrize("name", NEW_SETS)
def test_the_whole_encode(name: str, tmp_path: Path) -> None:
    facts = MANIFEST["sets"][name]
    base = next((GOLDEN / name).glob("*.ecx")).stem
    golden = GOLDEN / name / base
    (tmp_path / "data").mkdir()
    (tmp_path / "index").mkdir()
    paths = VolumePaths(str(tmp_path / "data"), str(tmp_path / "index"), base)
    Path(paths.data(".dat")).write_bytes(dat_of(golden))
    Path(paths.index(".idx")).write_bytes(golden.with_name(base + ".idx").read_bytes())
    dat, idx = FILES.open(paths.data(".dat")), FILES.open(paths.index(".idx"))
    ratio = Ratio(facts["data_shards"], facts["parity_shards"])
    encoded = encode_volume(
        FILES, paths, dat, idx, ratio=ratio, offset_width=WIDTH, now_ns=1_800_000_000 * 10**9, progress=Progress()
    )
    shards = [Path(paths.data(shard_extension(shard))) for shard in range(ratio.total)]
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in shards] == facts["shard_sha256"]
    assert Path(paths.index(INDEX)).read_bytes() == golden.with_name(base + INDEX).read_bytes()
    theirs = decode_sidecar(golden.with_name(base + SIDECAR).read_bytes())
    ours = decode_sidecar(Path(paths.data(SIDECAR)).read_bytes())
    assert ours == encoded.sidecar
    assert (ours.shards, ours.ratio, ours.layout_block) == (theirs.shards, theirs.ratio, theirs.layout_block)
    vif = Path(paths.data(".vif")).read_bytes()
    stamp = decode_vif(golden.with_name(base + ".vif").read_bytes()).ec_shard_config
    assert stamp is not None
    expected = golden.with_name(base + ".vif").read_bytes().replace(str(stamp.encode_ts_ns).encode(), b"18" + b"0" * 17)
    assert vif == expected
    assert resolve_geometry(FoundFile("x.vif", vif), None) == encoded.geometry
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    extensions = itertools.chain((".dat", ".idx", ".vif", INDEX, SIDECAR), map(shard_extension, range(ratio.total)))
    assert names == {base + extension for extension in extensions}


def test_the_journal_folds_into_the_index_as_the_reference_does(tmp_path: Path) -> None:
    golden = GOLDEN / "uniform-small"
    ecx = tmp_path / "7.ecx"
    ecx.write_bytes((golden / "7.ecx").read_bytes())
    (tmp_path / f"7{JOURNAL}").write_bytes((golden / f"7{JOURNAL}").read_bytes())
    paths = VolumePaths(str(tmp_path), str(tmp_path), "7")
    assert read_journals(FILES, paths) == set(MANIFEST["sets"]["uniform-small"]["deleted_after_encode"])
    fold_at(FILES, paths, WIDTH)
    assert ecx.read_bytes() == (golden / "decoded" / "7.ecx").read_bytes()
    rows = list(iter_rows(ecx.read_bytes(), WIDTH))
    kept = [row for row in iter_rows((golden / "decoded" / "7.idx").read_bytes(), WIDTH) if is_live(row[1], row[2])]
    assert [row[0] for row in rows if is_live(row[1], row[2])] == sorted(row[0] for row in kept)
