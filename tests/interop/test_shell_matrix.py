"""Where each command of docs/spec/grpc.md 6.2 is tested: on servers of ours alone, on the way from the reference to
ours, and on the way from ours to the reference. A command with no direction has the same test for both ways."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
SPECIFICATION = HERE.parents[1] / "docs/spec/grpc.md"


class Places(NamedTuple):
    """Functions in this directory, as ``module.function``."""

    ours: str
    to_ours: str
    from_ours: str


def everywhere(name: str) -> Places:
    """One test for all make-ups."""
    return Places(name, name, name)


MATRIX = {
    "cluster.check": everywhere("test_membership.test_the_shell_reaches_the_node_and_back"),
    "cluster.ps": everywhere("test_membership.test_the_shell_reaches_the_node_and_back"),
    "collection.delete": everywhere("test_shell_volumes.test_collections_are_deleted"),
    "remote.cache": everywhere("test_shell_filer.test_objects_of_another_cluster_are_cached"),
    "volume.balance": everywhere("test_shell_make_ups.balanced_and_evacuated"),
    "volume.check.disk": everywhere("test_shell_needles.test_replicas_that_differ"),
    "volume.configure.replication": everywhere("test_shell_make_ups.replicated"),
    "volume.copy": everywhere("test_shell_make_ups.copied"),
    "volume.delete": everywhere("test_shell_volumes.test_unmount_mount_and_delete"),
    "volume.deleteEmpty": everywhere("test_shell_volumes.test_empty_volumes_are_deleted"),
    "volume.fix.replication": everywhere("test_shell_make_ups.replicated"),
    "volume.fsck": everywhere("test_shell_filer.test_what_no_filer_knows_is_purged"),
    "volume.list": everywhere("test_shell_volumes.test_list"),
    "volume.mark": everywhere("test_shell_volumes.test_marks"),
    "volume.merge": Places(
        "test_shell_make_ups.merged",
        "test_shell_needles.test_merge_into_volumed",
        "test_shell_moves.test_merge_through_the_reference",
    ),
    "volume.mount": everywhere("test_shell_volumes.test_unmount_mount_and_delete"),
    "volume.move": everywhere("test_shell_make_ups.moved"),
    "volume.scrub": everywhere("test_shell_volumes.test_broken_copies_are_found_and_replaced"),
    "volume.tier.compact": everywhere("test_tiering.test_the_shell_compacts_what_is_tiered"),
    "volume.tier.download": everywhere("test_tiering.test_a_replica_of_a_tiered_volume_is_its_index"),
    "volume.tier.move": everywhere("test_shell_make_ups.tier_moved"),
    "volume.tier.upload": everywhere("test_tiering.test_a_replica_of_a_tiered_volume_is_its_index"),
    "volume.unmount": everywhere("test_shell_volumes.test_unmount_mount_and_delete"),
    "volume.vacuum": everywhere("test_shell_volumes.test_vacuum"),
    "volumeServer.evacuate": everywhere("test_shell_make_ups.balanced_and_evacuated"),
    "volumeServer.leave": everywhere("test_shell_make_ups.left"),
    "volumeServer.state": everywhere("test_membership.test_maintenance_mode_is_set_and_told"),
    "weed backup": everywhere("test_shell_volumes.test_backups"),
}


def test_every_command_of_the_specification_is_here() -> None:
    section = SPECIFICATION.read_text().partition("### 6.2 ")[2].partition("\n## ")[0]
    first_columns = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
    commands = {name for column in first_columns for name in re.findall(r"\b[a-zA-Z]+\.[a-zA-Z.]+\b", column)}
    assert commands
    assert commands <= MATRIX.keys()


@pytest.mark.parametrize("name", sorted({name for places in MATRIX.values() for name in places}))
def test_a_test_is_there(name: str) -> None:
    module, _, function = name.partition(".")
    assert f"\ndef {function}(" in (HERE / f"{module}.py").read_text()
