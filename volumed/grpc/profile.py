"""The rows of docs/spec/grpc.md section 0 that concern served RPCs, as data (rule P1)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROFILES", "Profile"]


@dataclass(frozen=True, slots=True)
class Profile:
    """One behaviour profile, chosen with ``-compat``."""

    delete_in_maintenance: bool
    mark_readonly_in_maintenance: bool
    missing_volume_has_code: bool
    """NOT_FOUND with the suffix ``: volume not found``, instead of UNKNOWN without it."""
    not_empty_names_volume: bool
    """FAILED_PRECONDITION ``DeleteVolume N: volume not empty``, instead of UNKNOWN ``volume not empty``."""
    missing_needle_has_code: bool
    """NOT_FOUND of ``VolumeNeedleStatus``, instead of UNKNOWN."""
    no_space_has_code: bool
    """RESOURCE_EXHAUSTED when there is no room for a compaction, instead of UNKNOWN."""
    checks_sources: bool
    """Refuse to pull from loopback and link-local addresses, unless a flag allows it."""
    counts_copied_needles: bool
    """Compare the counts of a copied volume with those of its source."""


PROFILES = {
    "4.44": Profile(
        delete_in_maintenance=False,
        mark_readonly_in_maintenance=False,
        missing_volume_has_code=False,
        not_empty_names_volume=False,
        missing_needle_has_code=False,
        no_space_has_code=False,
        checks_sources=False,
        counts_copied_needles=False,
    ),
    "4.48": Profile(
        delete_in_maintenance=True,
        mark_readonly_in_maintenance=True,
        missing_volume_has_code=True,
        not_empty_names_volume=True,
        missing_needle_has_code=True,
        no_space_has_code=True,
        checks_sources=True,
        counts_copied_needles=True,
    ),
}
