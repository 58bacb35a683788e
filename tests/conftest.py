"""What all tests share: logs of servers are shown with a failing test, no server outlives the run, and properties are
tried with the same examples every time, however slow the machine is."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests import processes

# A server's process is forked while channels are open; in it the library would start its threads again.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

settings.register_profile(
    "everywhere", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("everywhere")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the log tails of the servers that the failing test used."""
    report = yield
    if report.failed:
        report.sections.extend(processes.log_tails())
    return report


def pytest_runtest_logfinish() -> None:
    """The servers of a finished test are no longer of interest."""
    processes.forget_closed()


def pytest_sessionfinish() -> None:
    """Kill what a broken fixture left."""
    processes.stop_all()
