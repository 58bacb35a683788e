"""What the benchmark's figures rest on: processor time of other processes, medians, ratios, the table's place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.cpu import CpuMeter
from benchmarks.load import percentile
from benchmarks.measure import Result, Sample
from benchmarks.weedbench import REPORT
from benchmarks.workloads import Workload

BURN_S = 0.05
BURNER = f"""
import sys, threading, time
def burn():
    end = time.thread_time() + {BURN_S}
    while time.thread_time() < end:
        pass
for _ in range(2):
    thread = threading.Thread(target=burn)
    thread.start()
    thread.join()
print("done", flush=True)
sys.stdin.read()
"""
WEED_OUTPUT = """
Completed 2986 of 3000 requests, 99.5% 2986.0/s 3.0MB/s
Time taken for tests:   1.007 seconds
Completed requests:      3000
Failed requests:        2
Percentage of the requests served within a certain time (ms)
   50%      0.4 ms
   98%      1.9 ms
   99%      4.0 ms
  100%    1006.1 ms
"""


def nothing(target: object) -> object:
    raise AssertionError(f"not to be run on {target}")


def result(weed: list[Sample], volumed: list[Sample]) -> Result:
    workload = Workload("GET", nothing, 0.65, 1.2)  # type: ignore[arg-type]
    return Result(workload, {"weed": weed, "volumed": volumed}, {})


def test_cpu_of_another_process_counts_threads_that_have_ended() -> None:
    burner = subprocess.Popen([sys.executable, "-c", BURNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with burner:
        meter = CpuMeter([])
        assert burner.stdout is not None
        assert burner.stdout.readline() == b"done\n"
        assert 2 * BURN_S <= meter.seconds([burner.pid]) < 1.0
        idle = CpuMeter([burner.pid])
        assert idle.seconds([burner.pid]) < BURN_S


def test_a_process_that_has_ended_is_left_out() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert CpuMeter([ended.pid]).seconds([ended.pid]) == 0


def test_ratios_are_taken_between_medians() -> None:
    weed = [Sample(100, 1, 2, 40), Sample(1, 1, 2, 4000), Sample(100, 1, 2, 40)]
    volumed = [Sample(150, 1, 2, 20)] * 3
    row = report.as_markdown([result(weed, volumed)], rounds=3, seconds=1).splitlines()[2]
    assert "| 1.50 (≥ 1.2) |" in row
    assert row.endswith("| 40.0 | 20.0 | 0.50 (≤ 0.65) |")


def test_a_side_that_failed_has_no_figures_but_a_reason() -> None:
    failed = result([Sample(100, 1, 2, 40)], [Sample(150, 1, 2, 20)])
    failed.failures["volumed"] = "37 with an error status"
    table = report.as_markdown([failed], rounds=1, seconds=1)
    assert "| GET | 100 | – | – |" in table
    assert "* GET, volumed: 37 with an error status" in table
    assert list(json.loads(report.as_json([failed], rounds=1, seconds=1))["workloads"][0]["medians"]) == ["weed"]


def test_the_table_replaces_what_is_between_the_markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "performance.md"
    monkeypatch.setattr(report, "DOCUMENT", document)
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_table("new")
    assert document.read_text() == f"before\n{report.BEGIN}\n\nnew\n{report.END}\nafter\n"
    document.write_text("no place for it")
    with pytest.raises(ValueError, match="has no lines"):
        report.write_table("new")


def test_the_document_has_a_place_for_the_table() -> None:
    text = report.DOCUMENT.read_text()
    assert text.count(report.BEGIN) == text.count(report.END) == 1


def test_the_report_of_weed_benchmark_is_read() -> None:
    found = REPORT.search(WEED_OUTPUT)
    assert found is not None
    assert found.groupdict() == {"seconds": "1.007", "done": "3000", "failed": "2", "p50": "0.4", "p99": "4.0"}


def test_percentiles() -> None:
    ordered = [float(n) for n in range(100)]
    assert percentile(ordered, 0.5) == 50
    assert percentile(ordered, 0.99) == 99
    assert percentile([7.0], 0.99) == 7
