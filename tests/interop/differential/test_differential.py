"""The same requests, byte for byte, to the reference server and to both lanes of volumed: the answers must be equal.

Compared are status line, header names (spelling included), their values, and bodies. What differs by its nature is
listed in `wire`, what differs on purpose in `intended`, and nothing else may differ.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.differential.catalogue import CASES, TOPICS
from tests.interop.differential.intended import EXPECTED, INTENDED
from tests.interop.differential.servers import LANES, Answers, ask_all
from tests.interop.differential.wire import Differences, differences

pytestmark = pytest.mark.interop

COMPATIBILITY = Path(__file__).parents[3] / "docs/compatibility.md"
TABLE_TITLE = "### Answers over HTTP"
REQUESTS_MIN = 1_500


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answers]:
    """What everybody said to everything."""
    return ask_all(tmp_path_factory.mktemp("differential"), list(CASES.values()))


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("topic", TOPICS)
def test_the_answers_are_equal(topic: str, lane: str, answers: dict[str, Answers]) -> None:
    found = between(answers["reference"], answers[lane], topic)
    assert found == {name: differs for name, differs in EXPECTED.items() if name.startswith(f"{topic}: ")}


@pytest.mark.parametrize("topic", TOPICS)
def test_both_lanes_answer_alike(topic: str, answers: dict[str, Answers]) -> None:
    first, second = (answers[lane] for lane in LANES)
    assert between(first, second, topic) == {}


def between(first: Answers, second: Answers, topic: str) -> dict[str, Differences]:
    """What differs, by the name of the case."""
    found = {name: differences(first[name], second[name]) for name in CASES if name.startswith(f"{topic}: ")}
    assert found, "no cases"
    return {name: differs for name, differs in found.items() if differs}


def test_the_suite_is_large() -> None:
    assert sum(len(case.methods) for case in CASES.values()) >= REQUESTS_MIN


def test_intended_differences_are_shown_by_cases_that_exist() -> None:
    assert {name for name in EXPECTED if not name.startswith("elsewhere")} <= set(CASES)
    assert [row.where for row in INTENDED if not row.cases] == []


def test_intended_differences_are_documented() -> None:
    _, found, section = COMPATIBILITY.read_text().partition(TABLE_TITLE)
    assert found, "the table is missing"
    lines = [line for line in section.split("\n#")[0].splitlines() if line.startswith("| ")]
    assert lines[1:] == [f"| {row.where} | {row.reference} | {row.ours} | {row.why} |" for row in INTENDED]
