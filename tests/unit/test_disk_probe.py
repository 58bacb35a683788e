"""Probing of disks: what `volume.toml` sets, when a disk counts as degraded, and that a hung probe holds nobody up."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import wait_until
from volumed.config.disks import ConfigError
from volumed.config.flags import parse_command_line
from volumed.config.node import DiskConfig, ProbeSettings
from volumed.config.volume_toml import read_probe_settings
from volumed.storage.fileio import File, FileIO, SpaceInfo
from workers.probe import DiskProbe
from workers.probe_window import ProbeWindow

SETTINGS = ProbeSettings(window_s=60.0, samples_min=10, slow_percent=20.0, error_percent=10.0, recovery=0.5)
FAST, SLOW, LATE = 0.01, 0.6, 2.1
FAILED = None


def judged(*times: float | None, settings: ProbeSettings = SETTINGS) -> str:
    window = ProbeWindow(settings, slow_after_s=0.5)
    for took_s in times:
        window.add(0.0, took_s)
    return window.problem(1.0)


class TestWindow:
    @pytest.mark.parametrize(
        ("times", "problem"),
        [
            ([], ""),
            ([FAST] * 10, ""),
            ([FAST] * 9 + [SLOW], ""),
            ([FAST] * 8 + [SLOW] * 2, "probe: 20 % of the operations or more took more than 500 ms"),
            ([FAST] * 10 + [FAILED], ""),
            ([FAST] * 9 + [FAILED], "probe: 10 % of the operations or more failed or took more than 2 s"),
            ([FAST] * 9 + [LATE], "probe: 10 % of the operations or more failed or took more than 2 s"),
            ([SLOW] * 5 + [FAILED] * 5, "probe: 10 % of the operations or more failed or took more than 2 s"),
            ([FAILED] * 9, ""),
        ],
    )
    def test_shares(self, times: list[float | None], problem: str) -> None:
        assert judged(*times) == problem

    def test_old_probes_do_not_count(self) -> None:
        window = ProbeWindow(SETTINGS, 0.5)
        for at_s, took_s in ((0.0, SLOW), (30.0, FAST)):
            for _ in range(10):
                window.add(at_s, took_s)
        assert window.problem(60.0) == "probe: 20 % of the operations or more took more than 500 ms"
        assert window.problem(61.0) == ""

    def test_too_few_probes_change_no_judgement(self) -> None:
        window = ProbeWindow(SETTINGS, 0.5)
        for _ in range(10):
            window.add(0.0, SLOW)
        degraded = window.problem(0.0)
        assert degraded
        assert window.problem(1000.0) == degraded
        for _ in range(9):
            window.add(1000.0, FAST)
        assert window.problem(1000.0) == degraded
        window.add(1000.0, FAST)
        assert window.problem(1000.0) == ""

    def test_a_degraded_disk_must_become_clearly_better(self) -> None:
        window = ProbeWindow(SETTINGS, 0.5)
        for at_s, slow, problem in ((0.0, 2, True), (100.0, 1, True), (200.0, 0, False), (300.0, 1, False)):
            for number in range(10):
                window.add(at_s, SLOW if number < slow else FAST)
            assert bool(window.problem(at_s)) is problem

    def test_the_directory_is_missed_after_so_many_failures_in_a_row(self) -> None:
        window = ProbeWindow(SETTINGS, 0.5)
        for found in (False, False, False, False, True, False, False, False, False):
            window.examined(found=found)
            assert window.problem(0.0) == ""
        window.examined(found=False)
        assert window.problem(0.0) == "probe: the directory could not be examined 5 times in a row"
        window.examined(found=True)
        assert window.problem(0.0) == ""

    def test_a_probe_that_hangs_counts_at_once(self) -> None:
        window = ProbeWindow(SETTINGS, 0.5)
        assert window.problem(0.0, waiting_s=1.9) == ""
        assert window.problem(0.0, waiting_s=2.1) == "probe: no answer from the disk for more than 2 s"
        assert window.problem(0.0) == ""


class ProbedFiles(FileIO):
    """A disk whose flushes do what the test wants, and whose directory may be gone."""

    def __init__(self) -> None:
        self.on_sync: Callable[[], object] = lambda: None
        self.rounds = 0
        self.synced = 0
        self.gone = False

    def space(self, path: str) -> SpaceInfo:
        self.rounds += 1
        if self.gone:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().space(path)

    def sync(self, _file: File) -> None:
        self.synced += 1
        self.on_sync()


@pytest.fixture
def files() -> Iterator[ProbedFiles]:
    rig = ProbedFiles()
    yield rig
    rig.gone = False
    rig.on_sync = threading.Event().wait  # the thread sleeps until the process ends


def probe(files: FileIO, directory: Path, **settings: float) -> DiskProbe:
    chosen = ProbeSettings(interval_s=0.01, samples_min=3, **settings)  # type: ignore[arg-type]
    return DiskProbe(chosen, DiskConfig(0, str(directory), str(directory)), files)


class TestProbe:
    def test_a_healthy_disk_has_no_problem_and_no_left_over_file(self, files: ProbedFiles, tmp_path: Path) -> None:
        watched = probe(files, tmp_path)
        wait_until(lambda: files.rounds > 2, timeout_s=30, what="two rounds")
        assert watched.problem(time.monotonic()) == ""
        assert list(tmp_path.iterdir()) == []

    def test_errors_degrade_the_disk_until_they_end(self, files: ProbedFiles, tmp_path: Path) -> None:
        def fail() -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        files.on_sync = fail
        watched = probe(files, tmp_path, window_s=0.2)
        wait_until(lambda: "failed" in watched.problem(time.monotonic()), timeout_s=30, what="degraded")
        files.on_sync = lambda: None
        wait_until(lambda: not watched.problem(time.monotonic()), timeout_s=30, what="well again")

    def test_a_full_disk_is_not_a_sick_one(self, files: ProbedFiles, tmp_path: Path) -> None:
        def fail() -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        files.on_sync = fail
        watched = probe(files, tmp_path)
        wait_until(lambda: files.rounds > 2, timeout_s=30, what="two rounds")
        assert watched.problem(time.monotonic()) == ""

    def test_a_hung_disk_is_noticed_by_who_does_not_wait_for_it(self, files: ProbedFiles, tmp_path: Path) -> None:
        thaw = threading.Event()
        files.on_sync = lambda: thaw.wait(60)
        watched = probe(files, tmp_path, timeout_s=0.05, window_s=0.2)
        wait_until(lambda: "no answer" in watched.problem(time.monotonic()), timeout_s=30, what="hung")
        thaw.set()
        wait_until(lambda: not watched.problem(time.monotonic()), timeout_s=30, what="well again")

    def test_a_directory_that_is_gone(self, files: ProbedFiles, tmp_path: Path) -> None:
        files.gone = True
        watched = probe(files, tmp_path, stat_failures_max=2)
        wait_until(lambda: "examined" in watched.problem(time.monotonic()), timeout_s=30, what="gone")
        assert files.synced == 0


def read(folder: Path, content: str, **environ: str) -> ProbeSettings | None:
    (folder / "volume.toml").write_text(content)
    return read_probe_settings(parse_command_line([f"-config_dir={folder}"]), environ)


class TestSettings:
    def test_disks_are_not_probed_unless_asked_for(self, tmp_path: Path) -> None:
        line = parse_command_line([f"-config_dir={tmp_path}"])
        assert read_probe_settings(line, {}) is None
        assert read(tmp_path, '[volume.disk.io]\ntimeout = "1s"\n') is None
        assert read(tmp_path, "[volume.disk.io]\nprobe = true\n") == ProbeSettings()
        assert read(tmp_path, "", WEED_VOLUME_DISK_IO_PROBE="true") == ProbeSettings()

    def test_the_example_has_every_setting_with_its_default(self, tmp_path: Path) -> None:
        example = (Path(__file__).parents[2] / "conf" / "volume.toml").read_text()
        active = "\n".join(line.removeprefix("#") for line in example.splitlines() if not line.startswith("# "))
        assert read(tmp_path, active.replace("probe = false", "probe = true")) == ProbeSettings()
        assert active.count(" = ") == len(ProbeSettings.__struct_fields__) + 1

    def test_every_setting_is_read(self, tmp_path: Path) -> None:
        settings = read(
            tmp_path,
            """[volume.disk.io]
            probe = true
            timeout = "1s"
            interval = "1m1s"
            slow.latency.hdd = "3ms"
            slow.latency.ssd = "4ms"
            slow.latency.nvme = "5ms"
            window = "6s"
            min.samples = 7
            slow.percent = 8
            error.percent = 9.5
            max.stat.failures = 10
            recovery.coef = 0.25
            """,
        )
        assert settings == ProbeSettings(
            timeout_s=1.0,
            interval_s=61.0,
            slow_hdd_s=0.003,
            slow_ssd_s=0.004,
            slow_nvme_s=0.005,
            window_s=6.0,
            samples_min=7,
            slow_percent=8.0,
            error_percent=9.5,
            stat_failures_max=10,
            recovery=0.25,
        )
        assert [settings.slow_after_s(kind) for kind in ("", "ssd", "nvme", "tape")] == [0.003, 0.004, 0.005, 0.003]

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            ("probe = 2", 'probe in .*: strconv.ParseBool: parsing "2": invalid syntax'),
            ("timeout = 2", 'timeout in .*: time: missing unit in duration "2"'),
            ('interval = "0s"', "interval in .*: must be longer than 0s"),
            ('window = "-1s"', "window in .*: must be longer than 0s"),
            ("min.samples = 0", "min.samples in .*: 0 is not a number from 1 to 1000"),
            ("max.stat.failures = 1.5", "max.stat.failures in .*: 1.5 is not a number from 1 to 1000"),
            ("slow.percent = 101", "slow.percent in .*: 101 is not above 0 and at most 100"),
            ("recovery.coef = nan", "recovery.coef in .*: nan is not above 0 and at most 1"),
            ("error.percent = [1]", "error.percent in .* is not a text"),
            ("=", "cannot read .*volume.toml: "),
        ],
    )
    def test_values_without_sense_are_refused(self, tmp_path: Path, value: str, reason: str) -> None:
        with pytest.raises(ConfigError, match=reason):
            read(tmp_path, f"[volume.disk.io]\n{value}\n")
