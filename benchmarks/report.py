"""Results as a Markdown table and as JSON."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Result, Sample

__all__ = ["as_json", "as_markdown", "write_table"]

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN = "<!-- table of make bench: begin -->"
END = "<!-- table of make bench: end -->"

REFERENCE, OURS = "weed", "volumed"
HEAD = (
    "| Work | weed: per s | volumed: per s | ratio (goal) | weed: p50 / p99 ms | volumed: p50 / p99 ms "
    "| weed: CPU µs | volumed: CPU µs | ratio (goal) |"
)
RULE = "|---|--:|--:|--:|--:|--:|--:|--:|--:|"


def as_markdown(results: Sequence[Result], *, rounds: int, seconds: int) -> str:
    """The table, with a line below it that says where and how it was measured."""
    rows = [_row(result) for result in results]
    return "\n".join([HEAD, RULE, *rows, "", _circumstances(rounds, seconds), *_failures(results), ""])


def as_json(results: Sequence[Result], *, rounds: int, seconds: int) -> str:
    """All rounds and their medians."""
    workloads = [
        {
            "name": result.workload.name,
            "goals": {
                "cpu_ratio_max": result.workload.cpu_ratio_max,
                "throughput_ratio_min": result.workload.throughput_ratio_min,
            },
            "rounds": {side: [sample._asdict() for sample in samples] for side, samples in result.rounds.items()},
            "medians": {side: median._asdict() for side in result.rounds if (median := result.median(side))},
            "failures": result.failures,
        }
        for result in results
    ]
    return json.dumps({"circumstances": _circumstances(rounds, seconds), "workloads": workloads}, indent=1)


def write_table(table: str) -> Path:
    """Put the table between the two markers of docs/performance.md. Raises ValueError if they are missing."""
    text = DOCUMENT.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT} has no lines {BEGIN} and {END}")
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table}\n{END}{after}")
    return DOCUMENT


def _row(result: Result) -> str:
    weed, ours = result.median(REFERENCE), result.median(OURS)
    cells = [
        result.workload.name,
        _rate(weed), _rate(ours),
        _ratio(ours and ours.requests_per_s, weed and weed.requests_per_s, "≥", result.workload.throughput_ratio_min),
        _latency(weed), _latency(ours),
        _cpu(weed), _cpu(ours),
        _ratio(ours and ours.cpu_us, weed and weed.cpu_us, "≤", result.workload.cpu_ratio_max),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _rate(sample: Sample | None) -> str:
    return f"{sample.requests_per_s:,.0f}" if sample else "–"


def _latency(sample: Sample | None) -> str:
    return f"{sample.p50_ms:.2f} / {sample.p99_ms:.2f}" if sample else "–"


def _cpu(sample: Sample | None) -> str:
    return f"{sample.cpu_us:,.1f}" if sample else "–"


def _ratio(ours: float | None, weed: float | None, relation: str, goal: float | None) -> str:
    if not ours or not weed:
        return "–"
    return f"{ours / weed:.2f}" + (f" ({relation} {goal})" if goal else "")


def _failures(results: Sequence[Result]) -> list[str]:
    lines = [
        f"* {result.workload.name}, {side}: {reason}" for result in results for side, reason in result.failures.items()
    ]
    return ["", "Failed:", "", *lines] if lines else []


def _circumstances(rounds: int, seconds: int) -> str:
    cores = len(os.sched_getaffinity(0))
    return (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}; {_processor()}, {cores} cores, load generator included; "
        f"Linux {platform.release()}, Python {platform.python_version()}; medians of {rounds} rounds of {seconds} s."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
