"""Rounds: the sides take turns, so that whatever else the machine does hits both alike; medians count."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from benchmarks.cpu import CpuMeter
from benchmarks.load import LoadError
from benchmarks.servers import Side, Target
from benchmarks.workloads import Run, Workload

__all__ = ["Result", "Sample", "measure", "say"]

WARM_UP_S = 1


class Sample(NamedTuple):
    """One round of one side, or the median of rounds."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """User and system time of all processes of the server, per request."""


class Result(NamedTuple):
    """What a workload gave: per side its rounds, or why there are none."""

    workload: Workload
    rounds: dict[str, list[Sample]]
    failures: dict[str, str]

    def median(self, side: str) -> Sample | None:
        """Medians of each figure over the rounds; None if the side failed or was left out."""
        if side in self.failures or not self.rounds.get(side):
            return None
        return Sample(*map(statistics.median, zip(*self.rounds[side], strict=True)))


def measure(workload: Workload, sides: Sequence[Side], *, rounds: int, seconds: int) -> Result:
    """Run one workload on fresh servers of every side. A side that fails is reported, the others go on."""
    result = Result(workload, {side.name: [] for side in sides}, {})
    with ExitStack() as stack:
        loads = {}
        for side in sides:
            say(f"{workload.name}: {side.name}: prepare")
            try:
                target = stack.enter_context(side.fresh_target())
                loads[side.name] = target, _prepared(workload, target)
            except (LoadError, OSError, AssertionError) as error:
                _fail(result, side.name, error)
        for number in range(rounds):
            for name, (target, run) in loads.items():
                if name not in result.failures:
                    _round(result, name, target, run, seconds, f"round {number + 1}/{rounds}")
    return result


def say(line: str) -> None:
    """Progress for the one who waits."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _prepared(workload: Workload, target: Target) -> Run:
    run = workload.prepare(target)
    run(WARM_UP_S)
    return run


def _round(result: Result, name: str, target: Target, run: Run, seconds: int, label: str) -> None:
    meter = CpuMeter(target.server.pids())
    try:
        load = run(seconds)
    except (LoadError, OSError) as error:
        _fail(result, name, error)
        return
    cpu_s = meter.seconds(target.server.pids())
    sample = Sample(load.requests / load.seconds, load.p50_ms, load.p99_ms, cpu_s / load.requests * 1e6)
    result.rounds[name].append(sample)
    say(
        f"{result.workload.name}: {name}: {label}: {sample.requests_per_s:,.0f}/s, "
        f"p50 {sample.p50_ms:.2f} ms, p99 {sample.p99_ms:.2f} ms, CPU {sample.cpu_us:,.1f} µs"
    )


def _fail(result: Result, name: str, error: Exception) -> None:
    result.failures[name] = str(error).partition("\n")[0]
    say(f"{result.workload.name}: {name}: FAILED: {error}")
