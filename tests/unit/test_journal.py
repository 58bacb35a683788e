"""The journal of the kill test finds what a store must not do."""

from __future__ import annotations

import contextlib

import pytest

from tests.journal import ABSENT, Journal, fingerprint

FID = "1,01"


@pytest.fixture
def journal() -> Journal:
    """One object, acknowledged as "old", and then an operation to "new" that nobody answered."""
    journal = Journal()
    journal.add(FID)
    with journal.operation(FID, "old"):
        pass
    with contextlib.suppress(OSError), journal.operation(FID, "new"):
        raise OSError
    return journal


@pytest.mark.parametrize("found", ["old", "new"])
def test_an_unanswered_operation_may_have_either_outcome(journal: Journal, found: str) -> None:
    assert journal.settle(lambda _: found) == []


@pytest.mark.parametrize("found", [ABSENT, "other", "status 500"])
def test_anything_else_is_a_violation(journal: Journal, found: str) -> None:
    assert len(journal.settle(lambda _: found)) == 1


def test_after_settling_only_what_was_seen_is_allowed(journal: Journal) -> None:
    journal.settle(lambda _: "new")
    assert len(journal.settle(lambda _: "old")) == 1


def test_a_delete_must_stay_deleted(journal: Journal) -> None:
    with journal.operation(FID, ABSENT):
        pass
    assert len(journal.settle(lambda _: "old")) == 1


def test_a_file_id_is_assigned_once(journal: Journal) -> None:
    with pytest.raises(AssertionError, match="assigned twice"):
        journal.add(FID)


def test_fingerprints_tell_states_apart() -> None:
    assert len({fingerprint(404, b""), fingerprint(200, b""), fingerprint(200, b"x"), fingerprint(500, b"x")}) == 4
