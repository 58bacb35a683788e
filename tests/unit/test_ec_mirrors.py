"""A worker copies what it lacks from another disk, but not what belongs to another encode run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ec_sets import EncodedSet
from tests.erasure_kit import SmallVolume
from tests.hand_shell import HandShell, start_call
from tests.storage_kit import Rig
from volumed.bus.calls import Empty
from volumed.bus.ec_calls import EcDirectories, MirrorSidecars
from volumed.erasure.errors import OtherEncodeRun
from volumed.erasure.names import INDEX, INFO
from volumed.formats.vif import decode_vif, encode_vif
from workers.ec_listing import EcListings
from workers.ec_volumes import EcVolumes

VOLUME = 7


class Disks:
    """One with a worker, and the directory of another, which has everything."""

    def __init__(self, home: Path, encoded: EncodedSet) -> None:
        self.rig = Rig(home)
        self.other = home / "other"
        encoded.place(self.rig.directory, VOLUME)
        encoded.place(self.other, VOLUME)
        shell = HandShell()
        self.handlers = EcListings(self.rig.disk, shell, EcVolumes(self.rig.disk, shell, 1)).handlers

    def mirror(self, extension: str) -> object:
        """The answer, and nothing is left when it is an error."""
        source = EcDirectories(str(self.other), str(self.other))
        (answer,) = start_call(self.handlers, MirrorSidecars(VOLUME, "", [extension], source))
        assert self.own(extension).exists() == isinstance(answer, Empty)
        return answer

    def own(self, extension: str) -> Path:
        return self.rig.path(f"{VOLUME}{extension}")


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedSet:
    return EncodedSet(tmp_path_factory.mktemp("set") / "files")


@pytest.fixture
def disks(tmp_path: Path, encoded: EncodedSet) -> Iterator[Disks]:
    made = Disks(tmp_path, encoded)
    yield made
    made.rig.close()


def test_an_index_comes_from_the_same_run(disks: Disks) -> None:
    disks.own(INDEX).unlink()
    assert disks.mirror(INDEX) == Empty()


def test_an_index_does_not_come_from_another_run(disks: Disks) -> None:
    disks.own(INDEX).unlink()
    path = disks.other / f"{VOLUME}{INFO}"
    info = decode_vif(path.read_bytes())
    assert info.ec_shard_config is not None
    path.write_bytes(encode_vif(replace(info, ec_shard_config=replace(info.ec_shard_config, encode_ts_ns=5))))
    assert isinstance(disks.mirror(INDEX), OtherEncodeRun)


def test_a_layout_comes_from_who_has_the_same_index(disks: Disks) -> None:
    disks.own(INFO).unlink()
    assert disks.mirror(INFO) == Empty()


def test_a_layout_does_not_come_from_who_has_another_index(disks: Disks, tmp_path: Path) -> None:
    disks.own(INFO).unlink()
    other = SmallVolume(tmp_path / "v", needles=12, needle_bytes=900)
    other.encode()
    (disks.other / f"{VOLUME}{INDEX}").write_bytes((other.directory / "9.ecx").read_bytes())
    assert isinstance(disks.mirror(INFO), OtherEncodeRun)
