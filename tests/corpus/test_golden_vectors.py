"""The observed results of the reference: TTL and replication texts, heartbeat digest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from volumed.errors import FormatError
from volumed.formats.replication import ReplicaPlacement
from volumed.formats.report import VolumeReport, volume_hash, volumes_digest
from volumed.formats.ttl import Ttl, parse_ttl

VECTORS = json.loads((Path(__file__).parent / "golden" / "vectors.json").read_text())

BEYOND_NINE = {"00a", "a", "0:0"}
"""DEVIATE: accepted by the reference, refused here (docs/spec/storage.md 1.5)."""


@pytest.mark.parametrize("case", VECTORS["ttl"], ids=lambda case: repr(case["input"]))
def test_ttl(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(FormatError) as failure:
            parse_ttl(case["input"])
        assert failure.value.text == case["error"]
        return
    ttl = parse_ttl(case["input"])
    assert ttl.to_bytes().hex() == case["bytes"]
    assert str(ttl) == case["text"]
    assert Ttl.from_u32(ttl.to_u32()) == ttl == Ttl.from_bytes(ttl.to_bytes())


@pytest.mark.parametrize("case", VECTORS["replication"], ids=lambda case: repr(case["input"]))
def test_replication(case: dict[str, Any]) -> None:
    if "error" in case or case["input"] in BEYOND_NINE:
        with pytest.raises(FormatError) as failure:
            ReplicaPlacement.parse(case["input"])
        padded = case["input"].rjust(3, "0")
        assert failure.value.text == case.get("error", f"unexpected replication type: {padded}")
        return
    placement = ReplicaPlacement.parse(case["input"])
    assert placement.byte == case["byte"]
    assert str(placement) == case["text"]
    assert ReplicaPlacement.from_byte(placement.byte).byte == placement.byte


def report(case: dict[str, Any]) -> VolumeReport:
    return VolumeReport(**{name: value for name, value in case.items() if name != "report_hash"})


@pytest.mark.parametrize("case", VECTORS["volume_digest"]["volumes"], ids=lambda case: str(case["id"]))
def test_volume_hash(case: dict[str, Any]) -> None:
    assert f"{volume_hash(report(case)):016x}" == case["report_hash"]


def test_digest() -> None:
    hashes = [volume_hash(report(case)) for case in VECTORS["volume_digest"]["volumes"]]
    assert len(hashes) > 1
    assert f"{volumes_digest(hashes):016x}" == VECTORS["volume_digest"]["volume_digest"]
