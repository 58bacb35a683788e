"""The golden `.vif` files, byte for byte, and the damaged ones of the load cases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from volumed.formats.vif import EcShardConfig, VolumeInfo, decode_vif, encode_vif

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.rglob("*.vif"))
LEGACY = GOLDEN / "ec" / "legacy-multi" / "pics_10.vif"
TEXTS = {
    case["name"]: changes[-1][1].encode()
    for case in json.loads((GOLDEN / "vectors.json").read_text())["load_cases"]["cases"]
    for extension, changes in case["changes"].items()
    if extension == ".vif" and changes[-1][0] == "text"
}


@pytest.mark.parametrize(
    "path", [path for path in FILES if path != LEGACY], ids=lambda path: str(path.relative_to(GOLDEN))
)
def test_written_exactly_as_the_reference_does(path: Path) -> None:
    content = path.read_bytes()
    info = decode_vif(content)
    assert info.intact
    assert not info.unknown
    assert encode_vif(info) == content


def test_a_file_of_an_older_release_gains_the_new_field() -> None:
    content = LEGACY.read_bytes()
    info = decode_vif(content)
    assert info.ec_shard_config == EcShardConfig(10, 4, 1795227050288147607, 0)
    last = b'"encodeTsNs":  "1795227050288147607"'
    assert encode_vif(info) == content.replace(last, last + b',\n    "blockSize":  "0"')


def test_values() -> None:
    assert decode_vif((GOLDEN / "data/8.vif").read_bytes()) == VolumeInfo(
        version=3, bytes_offset=5, read_only=True, read_only_can_delete=True
    )
    assert decode_vif((GOLDEN / "data/a_b_9.vif").read_bytes()).expire_at_sec == 1795232057
    assert decode_vif((GOLDEN / "ec/ratio-6-3/pics_12.vif").read_bytes()) == VolumeInfo(
        version=3,
        dat_file_size=24455720,
        ec_shard_config=EcShardConfig(6, 3, 1795227055662705731, 4194304),
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vif_garbage", VolumeInfo(intact=False)),
        ("vif_unknown_field_and_readonly", VolumeInfo(version=3, read_only=True, unknown={"foo": 1})),
        ("vif_snake_case", VolumeInfo(version=3, bytes_offset=5, read_only=True)),
        (
            "vif_old_format_readonly",
            VolumeInfo(version=3, bytes_offset=5, expire_at_sec=12, read_only=True),
        ),
        ("vif_readonly", VolumeInfo(read_only=True)),
        ("vif_readonly_can_delete", VolumeInfo(read_only=True, read_only_can_delete=True)),
        ("vif_can_delete_without_readonly", VolumeInfo(read_only_can_delete=True)),
        ("vif_replication_bad", VolumeInfo(replication="9zz")),
        ("vif_version_2", VolumeInfo(version=2)),
    ],
)
def test_load_cases(name: str, expected: VolumeInfo) -> None:
    assert decode_vif(TEXTS[name]) == expected
