"""Metrics pages, what fronts count in them, and the text that comes out."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hand_shell import HandShell
from tests.metrics_kit import Scrape, parse
from tests.storage_kit import BreakableFiles, Rig, put
from volumed.errors import Corruption
from volumed.http.objects.replicas import ReplicaError
from volumed.metrics import families
from volumed.metrics.exporter import render
from volumed.metrics.families import FAMILIES, Family, Kind, Owner
from volumed.metrics.front import WRITE_TO_LOCAL_DISK, FrontMetrics, HandlerEvent
from volumed.metrics.grpc_front import GrpcMetrics
from volumed.metrics.page import CELLS_MAX, MetricsPage, read_page
from volumed.metrics.recorder import Recorder
from volumed.metrics.stated import Stated
from volumed.wire.volume_server_pb2 import VolumeScrubMode
from workers.io_errors import CountingFiles
from workers.volumes import VolumeHost

PREFIX = "SeaweedFS_volumeServer_"


@pytest.fixture
def page_path(tmp_path: Path) -> str:
    return str(tmp_path / "metrics-http-0")


def samples(pages: str, stated: list[Stated] | None = None) -> Scrape:
    return parse(render(pages, stated or []).decode())


# Pages


def test_a_successor_goes_on_counting(page_path: str) -> None:
    for _ in range(3):  # none of them closes its page
        page = MetricsPage(page_path)
        page.cells[page.find("a", ("x",), 1)] += 1
        page.cells[page.find("b", (), 3) + 2] += 1
    series, missing = read_page(page_path)
    assert [(item.name, item.labels, item.cells) for item in series] == [("a", ("x",), [3]), ("b", (), [0, 0, 3])]
    assert missing == 0


def test_a_crash_while_a_series_is_added_leaves_nothing_behind(page_path: str) -> None:
    page = MetricsPage(page_path)
    page.cells[page.find("a", (), 1)] += 1
    before = Path(page_path).read_bytes()
    page.find("b", ("label",), 1)
    after = Path(page_path).read_bytes()
    changed = [at for at in range(len(before)) if before[at] != after[at]]
    header = [at for at in changed if at < 64]
    torn = bytearray(after)
    for at in header:  # everything was written but what makes it count
        torn[at] = before[at]
    Path(page_path).write_bytes(torn)
    assert [item.name for item in read_page(page_path)[0]] == ["a"]
    successor = MetricsPage(page_path)
    successor.cells[successor.find("c", (), 1)] += 5
    assert [(item.name, item.cells) for item in read_page(page_path)[0]] == [("a", [1]), ("c", [5])]


def test_a_page_that_is_just_being_made_is_empty(page_path: str) -> None:
    Path(page_path).touch()
    assert read_page(page_path) == ([], 0)


@pytest.mark.parametrize("cells", [1, 26], ids=["the directory is full", "the cells are used up"])
def test_what_does_not_fit_is_dropped_and_counted(page_path: str, cells: int) -> None:
    page = MetricsPage(page_path)
    added = CELLS_MAX + 10
    for number in range(added):
        page.cells[page.find("series", (f"{number:024}",), cells)] += 1
    series, missing = read_page(page_path)
    assert len(series) + missing == added
    assert 0 < len(series) <= CELLS_MAX // cells
    assert all(item.cells[0] == 1 for item in series)
    assert samples(page_path).value("volumed_metrics_dropped_total") == missing


# Fronts


def test_requests_in_progress_end_with_their_front(page_path: str) -> None:
    metrics = FrontMetrics(MetricsPage(page_path))
    metrics.request_began("PUT")
    metrics.step_began(WRITE_TO_LOCAL_DISK)
    metrics.answered("GET", 200, 0.0, public=False)
    assert samples(page_path).value(PREFIX + "in_flight_requests", type="PUT") == 1
    FrontMetrics(MetricsPage(page_path))
    found = samples(page_path)
    assert found.value(PREFIX + "in_flight_requests", type="PUT") == 0
    assert found.value(PREFIX + "in_flight_requests", type=WRITE_TO_LOCAL_DISK) == 0
    assert found.value(PREFIX + "request_total", type="GET", code="200") == 1


@pytest.mark.parametrize(
    ("method", "public", "counted", "in_flight"),
    [
        ("GET", False, "GET", "GET"),
        ("PATCH", False, "INVALID", "PATCH"),
        ("PATCH", True, "PATCH", None),
        ("BREW", False, "INVALID", "INVALID"),
        ("BREW", True, "INVALID", None),
    ],
    ids=str,
)
def test_labels_of_methods(page_path: str, method: str, public: bool, counted: str, in_flight: str | None) -> None:
    FrontMetrics(MetricsPage(page_path)).answered(method, 400, 0.0, public=public)
    found = samples(page_path)
    assert found.value(PREFIX + "request_total", type=counted, code="400") == 1
    assert found.value(PREFIX + "request_seconds_count", type=counted) == 1
    shown = {dict(labels)["type"] for name, labels in found.values if name == PREFIX + "in_flight_requests"}
    assert shown == ({in_flight} if in_flight else set())


def test_observations_are_in_all_buckets_from_their_own_on(page_path: str) -> None:
    metrics = FrontMetrics(MetricsPage(page_path))
    for targets in (0, 1, 2, 9):
        metrics.replicates_to(targets)
    found = samples(page_path)
    counts = {bound: found.value(PREFIX + "replication_targets_bucket", le=bound) for bound in "12345"}
    assert counts == {"1": 2, "2": 3, "3": 3, "4": 3, "5": 3}
    assert found.value(PREFIX + "replication_targets_bucket", le="+Inf") == 4
    assert found.value(PREFIX + "replication_targets_count") == 4
    assert found.value(PREFIX + "replication_targets_sum") == 12


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ReplicaError("[a:1]: dial tcp a:1: connect: connection refused"), "connection_refused"),
        (ReplicaError("[a:1]: dial tcp a:1: i/o timeout"), "timeout"),
        (ReplicaError("[a:1]: EOF"), "server_error"),
        (asyncio.CancelledError(), "context_cancelled"),
    ],
    ids=["refused", "timeout", "server", "cancelled"],
)
def test_failed_replication(page_path: str, error: BaseException, reason: str) -> None:
    metrics = FrontMetrics(MetricsPage(page_path))
    with pytest.raises(type(error)), metrics.replication("write", 2):
        raise error
    found = samples(page_path)
    assert found.value(PREFIX + "replication_failures_total", operation="write", reason=reason) == 1
    assert found.value(PREFIX + "replication_operations_total", operation="write", result="failure") == 1
    assert found.value(PREFIX + "replication_seconds_count", operation="write") == 1
    assert found.value(PREFIX + "handler_total", type="errorWriteToReplicas") == 1
    assert found.value(PREFIX + "in_flight_requests", type="writeToReplicas") == 0


def test_a_delete_without_copies_is_no_replication(page_path: str) -> None:
    metrics = FrontMetrics(MetricsPage(page_path))
    with metrics.replication("delete", 0):
        pass
    found = samples(page_path)
    assert found.value(PREFIX + "replication_targets_count") == 1
    assert not any(name.startswith(PREFIX + "replication_operations") for name, _ in found.values)


# The gRPC front


def test_scrubs_outlive_the_front_that_made_them(page_path: str) -> None:
    before_s = int(time.time())
    metrics = GrpcMetrics(MetricsPage(page_path))
    metrics.volumes_scrubbed(VolumeScrubMode.FULL, 2)
    metrics.shards_scrubbed(VolumeScrubMode.FULL, 1, 0)
    metrics.shards_scrubbed(VolumeScrubMode.CHECKSUM, 1, 3)
    GrpcMetrics(MetricsPage(page_path))
    told = samples(page_path)
    for mode, volumes, shards in (("FULL", 3, 0), ("CHECKSUM", 1, 3)):
        assert before_s <= (told.value(PREFIX + "scrub_last_time_seconds", mode=mode) or 0) <= time.time()
        assert told.value(PREFIX + "scrub_volume_failures_total", mode=mode) == volumes
        assert told.value(PREFIX + "scrub_shard_failures_total", mode=mode) == shards


def test_a_mode_that_does_not_exist_is_no_label(page_path: str) -> None:
    metrics = GrpcMetrics(MetricsPage(page_path))
    metrics.volumes_scrubbed(99, 0)
    metrics.shards_scrubbed(-1, 0, 0)
    assert not read_page(page_path)[0]


def test_repairs_are_counted_with_those_of_http(page_path: str) -> None:
    GrpcMetrics(MetricsPage(page_path)).needle_repaired()
    FrontMetrics(MetricsPage(page_path + "1")).needle_repaired()
    assert samples(page_path).value("volumed_ec_repaired_reads_total") == 2


def test_errors_of_disks_are_counted_by_whoever_reads_shards(page_path: str) -> None:
    GrpcMetrics(MetricsPage(page_path)).disk_failed()
    FrontMetrics(MetricsPage(page_path + "1")).disk_failed()
    assert samples(page_path).value(PREFIX + "storage_io_error_total") == 2


# Workers


@pytest.mark.parametrize(("number", "count"), [(errno.EIO, 1), (errno.ENOSPC, 0)], ids=["EIO", "ENOSPC"])
def test_input_output_errors_are_counted(
    page_path: str, monkeypatch: pytest.MonkeyPatch, number: int, count: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    files = CountingFiles(Recorder(MetricsPage(page_path), Owner.WORKER))
    file = files.open(page_path)
    operations: dict[str, Callable[[], object]] = {
        "pread": lambda: files.read_at(file, 0, 1),
        "preadv": lambda: files.read_into(file, 0, memoryview(bytearray(1))),
        "copy_file_range": lambda: files.copy(file, file, 0, 1),
        "pwritev": lambda: files.write_at(file, 0, [b"x"]),
        "fdatasync": lambda: files.sync(file),
    }
    for system_call, operation in operations.items():
        monkeypatch.setattr(os, system_call, fail)
        with pytest.raises(OSError, match=f"{os.strerror(number)}: '{page_path}'"):
            operation()
    assert samples(page_path).value(PREFIX + "storage_io_error_total") == count * len(operations)


def test_withdrawn_volumes_are_counted(page_path: str, tmp_path: Path) -> None:
    class Shell(HandShell):
        def publish(self, _: object) -> None:
            """Nobody listens."""

    files = BreakableFiles()
    rig = Rig(tmp_path, files)
    rig.allocate()
    shell: Any = Shell()
    host = VolumeHost(rig.disk, rig.node, 1, shell, Recorder(MetricsPage(page_path), Owner.WORKER))

    def withdrawn() -> dict[str, float | None]:
        host.tick()
        found = samples(page_path)
        return {kind: found.value(PREFIX + "io_quarantine", kind=kind) for kind in ("volume", "ec_shard")}

    assert withdrawn() == {"volume": 0, "ec_shard": 0}
    for _ in range(3):
        files.break_next("write_at", ".dat")
        rig.store(put(1, b"a"))
    assert withdrawn() == {"volume": 1, "ec_shard": 0}
    rig.disk.mark_writable(1)
    assert withdrawn() == {"volume": 0, "ec_shard": 0}
    rig.close()


# Text


def test_pages_are_added_up_and_one_that_is_damaged_is_left_out(tmp_path: Path) -> None:
    for slot in range(2):
        metrics = FrontMetrics(MetricsPage(str(tmp_path / f"metrics-http-{slot}")))
        metrics.answered("GET", 200, 0.0, public=False)
        metrics.corrupt_needle(Corruption.CRC)
        metrics.read_failed(HandlerEvent.INTERNAL)
    MetricsPage(str(tmp_path / "metrics-http-2"))
    with open(tmp_path / "metrics-http-2", "r+b") as file:
        file.write((500).to_bytes(8, "little"))  # a directory of nothing but zeros
    found = samples(str(tmp_path / "metrics-"))
    assert found.value(PREFIX + "request_total", type="GET", code="200") == 2
    assert found.value(PREFIX + "request_seconds_count", type="GET") == 2
    assert found.value(PREFIX + "handler_total", type="errorCRC") == 2
    assert found.value(PREFIX + "file_read_failures_total") == 2


def test_every_family_is_stated_under_its_own_name_and_type(page_path: str) -> None:
    page = MetricsPage(page_path)
    for family in FAMILIES.values():
        page.find(family.name, family.labels, family.cells)
    text = render(page_path, []).decode()
    types = parse(text).types
    assert {name: types.get(name) for name in FAMILIES} == {
        name: family.kind.value for name, family in FAMILIES.items()
    }
    help_texts = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE))
    assert {name: help_texts.get(name) for name in FAMILIES} == {name: family.help for name, family in FAMILIES.items()}


def test_label_values_are_escaped(tmp_path: Path) -> None:
    name = 'C:\\ "disk"\n2'
    found = samples(str(tmp_path / "none"), [Stated(families.DISK_ERROR, (name, "error"), 1)])
    assert found.value(PREFIX + "disk_error_status", name=name, type="error") == 1


def test_buckets_grow_and_a_series_fits_its_scratch() -> None:
    histograms = [family for family in FAMILIES.values() if family.kind is Kind.HISTOGRAM]
    assert histograms
    for family in histograms:
        assert list(family.buckets) == sorted(set(family.buckets)), family.name
        assert family.cells <= 32, family.name


def _row(family: Family) -> tuple[str, ...]:
    owner = family.owner
    origin = f"{owner.value}s" if owner in (Owner.FRONT, Owner.WORKER) else owner.value
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return (f"`{family.name}`", family.kind.value, labels, origin, family.help)


def test_the_document_lists_every_metric() -> None:
    document = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in document.splitlines()
        if line.startswith(("| `SeaweedFS_", "| `volumed_"))
    ]
    assert rows == [_row(family) for family in FAMILIES.values()]
