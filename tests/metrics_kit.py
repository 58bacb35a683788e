"""Reading what a metrics listener says."""

from __future__ import annotations

import re
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.processes import HOST, ServerError
from tests.web import get

__all__ = ["Labels", "Scrape", "parse", "scrape"]

Labels = frozenset[tuple[str, str]]


class Scrape(NamedTuple):
    """Types by metric, values by sample name and labels. Names of counters end with ``_total`` whatever they are in
    the text: the parser sees to that."""

    types: dict[str, str]
    values: dict[tuple[str, Labels], float]

    def value(self, name: str, /, **labels: str) -> float | None:
        """One sample; None when it is not there."""
        return self.values.get((name, frozenset(labels.items())))


def parse(text: str) -> Scrape:
    """Read an exposition."""
    values = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return Scrape(dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)), values)


def scrape(port: int) -> Scrape:
    """Ask the listener on a port. Raises ``OSError`` while there is none."""
    answer = get(f"{HOST}:{port}", "/metrics")
    kind = answer.headers["Content-Type"]
    if answer.status != 200 or not kind.startswith("text/plain; version=0.0.4; charset=utf-8"):
        raise ServerError(f"port {port}: status {answer.status}, {kind}")
    return parse(answer.body.decode())
