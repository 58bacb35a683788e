"""The text form of all metrics: what processes have counted in their pages, and what the supervisor states.

`prometheus_client` is imported here, and this module only by threads that need it.
"""

from __future__ import annotations

import glob
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric

from volumed.metrics.families import FAMILIES, METRICS_DROPPED, Family, Kind
from volumed.metrics.page import read_page
from volumed.metrics.stated import Stated

__all__ = ["CONTENT_TYPE", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_log = logging.getLogger(__name__)
_TOTAL = "_total"


class _Sum(NamedTuple):
    """One series, added up over all pages."""

    cells: list[int]
    float_cell: float

    def plus(self, other: _Sum) -> _Sum:
        cells = [mine + theirs for mine, theirs in zip(self.cells, other.cells, strict=True)]
        return _Sum(cells, self.float_cell + other.float_cell)


def render(pages: str, stated: Iterable[Stated]) -> bytes:
    """Everything as Prometheus text. ``pages`` is the common beginning of the pages' paths."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Collected(list(_collect(pages, stated))))
    return _true_names(generate_latest(registry).decode()).encode()


class _Collected:
    """Metrics that are complete; `prometheus_client`'s custom collector."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def _collect(pages: str, stated: Iterable[Stated]) -> Iterator[Metric]:
    counted, dropped = _add_up(pages)
    values: dict[str, list[Stated]] = defaultdict(list)
    for item in (*stated, Stated(METRICS_DROPPED, (), dropped)):
        values[item.family.name].append(item)
    for family in FAMILIES.values():
        metric = Metric(family.name.removesuffix(_TOTAL), family.help, family.kind.value)
        for labels, total in counted[family.name].items():
            _add(metric, family, labels, total)
        for item in values[family.name]:
            metric.add_sample(family.name, dict(zip(family.labels, item.labels, strict=True)), item.value)
        if metric.samples:
            yield metric


def _add_up(pages: str) -> tuple[dict[str, dict[tuple[str, ...], _Sum]], int]:
    """Sums of all series by name and labels, and how many series found no room."""
    sums: dict[str, dict[tuple[str, ...], _Sum]] = defaultdict(dict)
    dropped = 0
    for path in sorted(glob.glob(glob.escape(pages) + "*")):
        try:
            series, missing = read_page(path)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            _log.error("metrics of %s are left out: %s", os.path.basename(path), error)
            continue
        dropped += missing
        for name, labels, cells, float_cell in series:
            here, known = _Sum(cells, float_cell), sums[name].get(labels)
            sums[name][labels] = here if known is None else known.plus(here)
    return sums, dropped


def _add(metric: Metric, family: Family, values: tuple[str, ...], total: _Sum) -> None:
    labels = dict(zip(family.labels, values, strict=True))
    if family.kind is not Kind.HISTOGRAM:
        metric.add_sample(family.name, labels, total.cells[0])
        return
    bounds = (*(_number(bound) for bound in family.buckets), "+Inf")
    counts = list(accumulate(total.cells[:-1]))
    for bound, count in zip(bounds, counts, strict=True):
        metric.add_sample(family.name + "_bucket", {**labels, "le": bound}, count)
    metric.add_sample(family.name + "_sum", labels, total.float_cell)
    metric.add_sample(family.name + "_count", labels, counts[-1])


def _number(bound: float) -> str:
    """A bound as the reference writes it: the shortest form, without a trailing ``.0``."""
    return repr(bound).removesuffix(".0")


def _true_names(text: str) -> str:
    """COMPAT: some counters of the reference have no ``_total``, which `prometheus_client` puts into their heading."""
    for family in FAMILIES.values():
        if family.kind is Kind.COUNTER and not family.name.endswith(_TOTAL):
            for heading in ("HELP", "TYPE"):
                text = text.replace(f"# {heading} {family.name}{_TOTAL} ", f"# {heading} {family.name} ")
    return text
