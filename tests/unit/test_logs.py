"""`volumed.logs`: one line per event, with what it is about."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from volumed.logs import configure_logging

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def _restore_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_names_process_disk_and_volume(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("worker", disk=0)
    logging.getLogger("x").warning("lost %d", 3, extra={"volume": 7})
    assert re.fullmatch(rf"WARNING {STAMP} worker disk=0 volume=7 lost 3\n", capsys.readouterr().err)


def test_a_traceback_stays_one_entry(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("grpc")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("failed")
    first, *rest = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"ERROR {STAMP} grpc failed", first)
    assert rest
    assert all(line.startswith("    ") for line in rest)


@pytest.mark.parametrize(("verbosity", "shown"), [(0, False), (1, True)])
def test_verbosity_shows_details(capsys: pytest.CaptureFixture[str], verbosity: int, shown: bool) -> None:
    configure_logging("http", verbosity)
    logging.getLogger("x").debug("detail")
    assert bool(capsys.readouterr().err) == shown
