"""Compaction and commit of a volume on a disk in this process: what is kept, what goes, and what others see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compaction_kit import Vacuum
from tests.storage_kit import STORED, Rig, delete, outcomes, put
from volumed.errors import NeedleNotFound, VolumedError
from volumed.formats.idx import iter_rows


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.allocate()
    yield rig
    rig.close()


def _contents(rig: Rig, keys: range) -> dict[int, bytes]:
    found = {}
    for key in keys:
        try:
            found[key] = bytes(rig.read(1, key).data)
        except VolumedError:
            continue
    return found


def test_a_vacuum_keeps_what_is_alive_and_nothing_else(rig: Rig) -> None:
    rig.store(*[put(key, b"%d" % key * 50) for key in (5, 3, 9, 1, 7)])
    rig.store(put(3, b"other"), delete(9), put(2, b""))
    alive = _contents(rig, range(12))
    vacuum = Vacuum(rig)
    vacuum.compact()
    committed = vacuum.commit()
    assert _contents(rig, range(12)) == alive
    assert committed.volume_size == rig.path("1.dat").stat().st_size
    rows = list(iter_rows(rig.path("1.idx").read_bytes()))
    assert [row[0] for row in rows] == [1, 2, 3, 5, 7]
    with pytest.raises(NeedleNotFound):
        rig.read(1, 9, deleted=True)
    assert {path.suffix for path in rig.directory.glob("1.*")} == {".dat", ".idx", ".vif"}
    status = rig.disk.status(1)
    assert status.compact_revision == 1
    assert outcomes(rig.store(put(20, b"new"))) == [STORED]
    before = rig.disk.status(1), rig.counters()
    rig.reopen()
    assert (rig.disk.status(1), rig.counters()) == before
    assert _contents(rig, range(30)) == alive | {20: b"new"}
