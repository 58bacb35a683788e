"""``volume.toml``: how disks are probed (docs/spec/http.md 9.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from volumed.config.flags import CommandLine
from volumed.config.flagtypes import parse_bool, parse_duration_s
from volumed.config.node import ProbeSettings
from volumed.config.toml_file import find_toml, read_toml

__all__ = ["read_probe_settings"]

_FILE = "volume.toml"
_SECTION = "volume.disk.io."
_COUNT_MAX = 1000


def read_probe_settings(line: CommandLine, environ: Mapping[str, str]) -> ProbeSettings | None:
    """The settings; None when disks are not to be probed. Raises `ConfigError` for a value that makes no sense."""
    keys = read_toml(find_toml(_FILE, line.text("config_dir")), environ)
    usual = ProbeSettings()

    def seconds(key: str, default: float) -> float:
        return keys.parsed(_SECTION + key, default, _positive_duration)

    def percent(key: str, default: float) -> float:
        return keys.parsed(_SECTION + key, default, _between(0, 100))

    settings = ProbeSettings(
        timeout_s=seconds("timeout", usual.timeout_s),
        interval_s=seconds("interval", usual.interval_s),
        slow_hdd_s=seconds("slow.latency.hdd", usual.slow_hdd_s),
        slow_ssd_s=seconds("slow.latency.ssd", usual.slow_ssd_s),
        slow_nvme_s=seconds("slow.latency.nvme", usual.slow_nvme_s),
        window_s=seconds("window", usual.window_s),
        samples_min=keys.parsed(_SECTION + "min.samples", usual.samples_min, _count),
        slow_percent=percent("slow.percent", usual.slow_percent),
        error_percent=percent("error.percent", usual.error_percent),
        stat_failures_max=keys.parsed(_SECTION + "max.stat.failures", usual.stat_failures_max, _count),
        recovery=keys.parsed(_SECTION + "recovery.coef", usual.recovery, _between(0, 1)),
    )
    return settings if keys.parsed(_SECTION + "probe", False, parse_bool) else None


def _positive_duration(text: str) -> float:
    duration_s = parse_duration_s(text)
    if duration_s <= 0:
        raise ValueError("must be longer than 0s")
    return duration_s


def _count(text: str) -> int:
    count = int(text) if text.isascii() and text.isdigit() else 0
    if not 0 < count <= _COUNT_MAX:
        raise ValueError(f"{text} is not a number from 1 to {_COUNT_MAX}")
    return count


def _between(lowest: float, highest: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        number = float(text)
        if not lowest < number <= highest:
            raise ValueError(f"{text} is not above {lowest} and at most {highest}")
        return number

    return parse
