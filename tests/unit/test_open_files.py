"""How a front divides the files that it may have open."""

from __future__ import annotations

import pytest

from volumed.open_files import OpenFiles


@pytest.mark.parametrize("limit", [128, 256, 1024, 4096, 1 << 31], ids=str)
@pytest.mark.parametrize("disks", [1, 2, 12, 60], ids=str)
def test_something_is_left_whatever_is_open(limit: int, disks: int) -> None:
    found = OpenFiles.within(limit, disks)
    assert min(found) >= 1
    assert found.connections + disks * (found.volumes_per_disk - 1 + found.shards_per_disk - 1) < limit - limit // 8


def test_the_usual_limits() -> None:
    assert OpenFiles.within(1024, 2) == OpenFiles(connections=464, volumes_per_disk=58, shards_per_disk=58)
    assert OpenFiles.within(524_288, 1) == OpenFiles(connections=16_384, volumes_per_disk=512, shards_per_disk=512)
    assert OpenFiles.within(524_288, 60) == OpenFiles(connections=16_384, volumes_per_disk=16, shards_per_disk=16)
