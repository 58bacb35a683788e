"""``make bench``: measure, print the table."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.measure import Result, measure
from benchmarks.report import as_json, as_markdown, write_table
from benchmarks.servers import SIDES, Side
from benchmarks.workloads import WORKLOADS, Workload

__all__ = ["main"]

ROUNDS, SECONDS = 5, 3
QUICK_ROUNDS, QUICK_SECONDS = 3, 1


def main() -> int:
    """Run the chosen workloads. Status 1 if any of them failed."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that servers and files are cleaned up
    if options.list:
        sys.stdout.write("".join(f"{workload.name}\n" for workload in WORKLOADS))
        return 0
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    results = _measure_all(_chosen(options.workload), [options.only] if options.only else list(SIDES), rounds, seconds)
    table = as_markdown(results, rounds=rounds, seconds=seconds)
    sys.stdout.write(as_json(results, rounds=rounds, seconds=seconds) + "\n" if options.json else table)
    if options.write:
        sys.stderr.write(f"written into {write_table(table)}\n")
    return int(any(result.failures for result in results))


def _measure_all(workloads: list[Workload], names: list[str], rounds: int, seconds: int) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="volumed-bench-") as home, ExitStack() as stack:
        sides = [Side(name, Path(home) / name) for name in names]
        for side in sides:
            stack.enter_context(side.master)
        return [measure(workload, sides, rounds=rounds, seconds=seconds) for workload in workloads]


def _chosen(filters: list[str]) -> list[Workload]:
    chosen = [w for w in WORKLOADS if not filters or any(text.lower() in w.name.lower() for text in filters)]
    if not chosen:
        sys.exit(f"no workload matches {filters}; see --list")
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=sys.modules[__name__].__doc__)
    parser.add_argument("--list", action="store_true", help="print the names of the workloads and stop")
    parser.add_argument("--workload", action="append", default=[], metavar="TEXT",
                        help="only workloads whose name contains TEXT; may be repeated")  # fmt: skip
    parser.add_argument("--only", choices=list(SIDES), help="measure one side alone")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds of {QUICK_SECONDS} s")
    parser.add_argument("--rounds", type=int, default=0, help=f"rounds of each side (default {ROUNDS})")
    parser.add_argument("--seconds", type=int, default=0, help=f"length of a round (default {SECONDS})")
    parser.add_argument("--json", action="store_true", help="print all rounds as JSON instead of the table")
    parser.add_argument("--write", action="store_true", help="also put the table into docs/performance.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
