"""The command line: syntax, every flag, every error text (docs/spec/http.md 9)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from volumed.config.build import build_node_config
from volumed.config.disks import ConfigError
from volumed.config.flags import FlagError, parse_command_line, usage
from volumed.config.flagtable import FLAGS, GLOBAL, NODE
from volumed.config.flagtypes import FLAG_TYPES, parse_duration_s, parse_int
from volumed.config.node import FreeSpaceLimit, NodeConfig
from volumed.config.sizes import parse_free_space_limit, parse_human_bytes
from volumed.security.settings import SecuritySettings, read_security

SPEC = Path(__file__).parents[2] / "docs/spec/http.md"
SAMPLES = {
    "string": ("x", "x"),
    "bool": ("false", False),
    "int": ("0x10", 16),
    "int64": ("-3", -3),
    "uint": ("7", 7),
    "level": ("3", 3),
    "severity": ("warning", 1),
    "duration": ("1h30m", 5400.0),
}


def build(tmp_path: Path, *arguments: str, environ: dict[str, str] | None = None) -> NodeConfig:
    line = parse_command_line(["-config_dir", str(tmp_path), "volume", "-ip=127.0.0.1", *arguments])
    environ = {"STATE_DIRECTORY": "/var/lib/v", **(environ or {})}
    return build_node_config(line, str(tmp_path), environ, read_security(line, environ))


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
@pytest.mark.parametrize("form", ["-{}={}", "--{}={}", "-{} {}", "--{} {}"])
def test_every_flag_in_every_form(flag, form, tmp_path):
    text, value = SAMPLES[flag.kind]
    if flag.name == "options":
        options = tmp_path / "options"
        options.write_text("")
        text = value = str(options)
    if flag.kind == "bool" and " " in form:
        arguments, value = [form.split()[0].format(flag.name)], True
    else:
        arguments = form.format(flag.name, text).split(" ")
    if flag.scope == NODE:
        arguments = ["volume", *arguments]
    line = parse_command_line(arguments)
    assert line.values[flag.name] == value
    assert line.given == {flag.name}


def test_table_is_sound():
    names = [flag.name for flag in FLAGS]
    assert len(set(names)) == len(names)
    assert all(flag.kind in FLAG_TYPES for flag in FLAGS)
    assert all(f"-{name}" in usage() for name in names)


def test_table_holds_every_flag_of_the_specification():
    section = SPEC.read_text().split("### 9.2 Flags")[1].split("### 9.3")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}
    globals_line = next(line for line in section.splitlines() if line.startswith("Global flags"))
    named_global = set(re.findall(r"`([a-z_]+)`", globals_line.split("**[project]**")[0])) - {"volume"}
    assert named - {flag.name for flag in FLAGS} == set()
    assert named_global - {"options"} == {flag.name for flag in FLAGS if flag.scope == GLOBAL}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["volume", "-nope"], "flag provided but not defined: -nope"),
        (["volume", "-v=1"], "flag provided but not defined: -v"),
        (["volume", "-port"], "flag needs an argument: -port"),
        (["volume", "---x"], "bad flag syntax: ---x"),
        (["volume", "-=x"], "bad flag syntax: -=x"),
        (["volume", "-port=abc"],
         'invalid value "abc" for flag -port: strconv.ParseInt: parsing "abc": invalid syntax'),
        (["volume", "-port=99999999999999999999"],
         'invalid value "99999999999999999999" for flag -port: '
         'strconv.ParseInt: parsing "99999999999999999999": value out of range'),
        (["volume", "-debug=maybe"],
         'invalid boolean value "maybe" for -debug: strconv.ParseBool: parsing "maybe": invalid syntax'),
        (["volume", "-inflightUploadDataTimeout=5"],
         'invalid value "5" for flag -inflightUploadDataTimeout: time: missing unit in duration "5"'),
        (["-v=x", "volume"], 'invalid value "x" for flag -v: strconv.Atoi: parsing "x": invalid syntax'),
        (["-log_max_size_mb=-1", "volume"],
         'invalid value "-1" for flag -log_max_size_mb: strconv.ParseUint: parsing "-1": invalid syntax'),
        (["nosuch"], 'volumed: unknown subcommand "nosuch"'),
        (["-h"], ""),
        (["volume", "--help"], ""),
        (["volume", "-options=/nonexistent"], "open /nonexistent: no such file or directory"),
    ],
)  # fmt: skip
def test_errors(arguments, text):
    with pytest.raises(FlagError) as caught:
        parse_command_line(arguments)
    assert str(caught.value) == text


@pytest.mark.parametrize("end", ["--", "-", "word"])
def test_flags_after_the_first_word_are_ignored(end):
    line = parse_command_line(["volume", "-port=1", end, "-port=2", "-nope"])
    assert line.values["port"] == 1


def test_later_flag_wins_and_bool_takes_no_separate_word():
    line = parse_command_line(["volume", "-port=1", "-port", "2", "-debug", "false", "-port=3"])
    assert (line.values["port"], line.values["debug"]) == (2, True)


def test_no_subcommand_mixes_both_scopes():
    line = parse_command_line(["--config_dir=/x", "--port", "7", "-v", "2", "--dir", "/d"])
    assert (line.values["config_dir"], line.values["port"], line.values["v"]) == ("/x", 7, 2)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0b11", 3), ("0o17", 15), ("017", 15), ("1_000", 1000), ("-0x10", -16), ("+5", 5), ("0", 0)],
)
def test_integer_notations(text, value):
    assert parse_int(text) == value


@pytest.mark.parametrize("text", ["08", "", "0x", " 1", "1 ", "1.5", "--1", "9223372036854775808", "_1", "٣"])
def test_integers_refused(text):
    with pytest.raises(ValueError, match="ParseInt"):
        parse_int(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("300ms", 0.3), ("1m0s", 60), ("1.5h", 5400), (".5s", 0.5), ("-1s", -1), ("+5m", 300), ("0", 0),
     ("1us", 1e-6), ("1µs", 1e-6)],
)  # fmt: skip
def test_durations(text, value):
    assert parse_duration_s(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1x", 'time: unknown unit "x" in duration "1x"'),
        ("3s4", 'time: missing unit in duration "3s4"'),
        ("", 'time: invalid duration ""'),
        ("abc", 'time: invalid duration "abc"'),
        ("9999999999h", 'time: invalid duration "9999999999h"'),
    ],
)
def test_durations_refused(text, reason):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_duration_s(text)
    assert str(caught.value) == reason


def test_options_file_fills_what_the_command_line_left_open(tmp_path):
    options = tmp_path / "options"
    options.write_text("# comment\nport=1\n-rack r1\nmax: 5\ndebug\nunknown=3\nid a b\n")
    line = parse_command_line(["volume", "-port=9", f"-options={options}"])
    values = line.values
    assert (values["port"], values["rack"], values["max"], values["debug"]) == (9, "r1", "5", True)
    assert values["id"] == "a b"


def test_options_file_splits_at_the_first_separator(tmp_path):
    options = tmp_path / "options"
    options.write_text("port = 5\n")
    with pytest.raises(FlagError) as caught:
        parse_command_line(["volume", f"-options={options}"])
    assert str(caught.value) == (
        'invalid value "= 5" for configuration variable port: strconv.ParseInt: parsing "= 5": invalid syntax'
    )


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("1", FreeSpaceLimit(percent=1.0)),
        ("1e1", FreeSpaceLimit(percent=10.0)),
        ("100", FreeSpaceLimit(percent=100.0)),
        ("10GiB", FreeSpaceLimit(bytes=10 << 30)),
        ("10 gib", FreeSpaceLimit(bytes=10 << 30)),
        ("5G", FreeSpaceLimit(bytes=5 * 10**9)),
        ("1.5Gi", FreeSpaceLimit(bytes=3 << 29)),
        ("5k", FreeSpaceLimit(bytes=5000)),
        ("101B", FreeSpaceLimit(bytes=101)),
    ],
)
def test_free_space_limits(text, limit):
    value = parse_free_space_limit(text)
    assert (value.percent if not value.bytes else 0, value.bytes) == (
        limit.percent if not limit.bytes else 0, limit.bytes)  # fmt: skip


@pytest.mark.parametrize("text", ["abc", "-1", "101", "100.5", "100B", "2x", "inf", "1e3B", "", "1kk", "9e99B"])
def test_free_space_limits_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011
        parse_free_space_limit(text)


def test_sizes_have_a_limit():
    with pytest.raises(ValueError, match="too large"):
        parse_human_bytes("99999EiB")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-dir=/a,/b", "-max=1,2,3"], "2 directories by -dir, but only 3 max is set by -max"),
        (["-dir=/a", "-max=x"], "The max specified in -max not a valid number x"),
        (["-dir=/a", "-max=0x1"], "The max specified in -max not a valid number 0x1"),
        (["-dir=/a", "-minFreeSpace=abc"], "The value specified in -minFreeSpace not a valid value abc"),
        (["-dir=/a,/b", "-minFreeSpace=1,2,3"],
         "2 directories by -dir, but only 3 minFreeSpacePercent is set by -minFreeSpacePercent"),
        (["-dir=/a,/b", "-disk=a,b,c"], "2 directories by -dir, but only 3 disk types is set by -disk"),
        (["-dir=/a,/a"], "a directory is listed twice in -dir: /a,/a"),
        (["-port=70000"], "listen tcp: address 70000: invalid port"),
        (["-port=60000"], "listen tcp: address 70000: invalid port"),
        (["-compat=4.40"], "-compat 4.40 is unknown; known are 4.48 and 4.44"),
        (["-master=,"], "no master address in -master"),
    ],
)  # fmt: skip
def test_fatal_configurations(arguments, text, tmp_path):
    with pytest.raises(ConfigError) as caught:
        build(tmp_path, *arguments)
    assert str(caught.value) == text


def test_unprefixed_variables_are_no_flags(tmp_path, monkeypatch):
    for flag in FLAGS:
        monkeypatch.setenv(flag.name.upper().replace(".", "_"), "1")
        monkeypatch.setenv(flag.name, "1")
    environ = {name: value for name, value in os.environ.items() if name != "HOME"}
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_command_line([]).given == set()
    assert build(tmp_path, environ=environ) == build(tmp_path)


def test_defaults_of_the_node(tmp_path):
    config = build(tmp_path)
    assert (config.port, config.public_port, config.grpc_port) == (8080, 8080, 18080)
    assert (config.bind_ip, config.public_url, config.node_id) == ("127.0.0.1", "127.0.0.1:8080", "127.0.0.1:8080")
    assert config.masters == ("localhost:9333",)
    assert config.state_dir == "/var/lib/v"
    assert config.http_fronts >= 2
    assert [disk.volumes_max for disk in config.disks] == [8]


@pytest.mark.parametrize(("mib", "block_kib"), [(-1, 128), (0, 128), (1, 128), (4, 512), (32, 4096), (33, 4096)])
def test_a_read_buffer_is_read_in_eighths_within_bounds(mib: int, block_kib: int, tmp_path: Path) -> None:
    assert build(tmp_path, f"-readBufferSizeMB={mib}").read_block_bytes == block_kib << 10


def test_limits_of_bytes_in_flight(tmp_path: Path) -> None:
    assert (build(tmp_path).upload_limit_bytes, build(tmp_path).download_limit_bytes) == (0, 0)
    flags = ["-concurrentUploadLimitMB=3", "-concurrentDownloadLimitMB=-2"]
    flags += ["-inflightUploadDataTimeout=1m30s", "-inflightDownloadDataTimeout=250ms"]
    config = build(tmp_path, *flags)
    assert (config.upload_limit_bytes, config.upload_wait_s) == (3 << 20, 90.0)
    assert (config.download_limit_bytes, config.download_wait_s) == (0, 0.25)


def test_one_value_counts_for_all_directories(tmp_path):
    config = build(tmp_path, "-dir=/a,~/b", "-max=3", "-disk=SSD", "-tags=Fast:x:fast, y", "-dir.idx=/i")
    assert [disk.directory for disk in config.disks] == ["/a", os.path.expanduser("~/b")]
    assert [disk.disk_type for disk in config.disks] == ["ssd", "ssd"]
    assert [disk.tags for disk in config.disks] == [("fast", "x"), ("y",)]
    assert {disk.idx_directory for disk in config.disks} == {"/i"}
    assert config.map_dir == "/i"


def test_lists_per_directory(tmp_path):
    config = build(tmp_path, "-dir=/a,/b", "-max=3,0", "-disk=hdd,ssd", "-minFreeSpace=5,10GiB", "-tags=z")
    assert [disk.volumes_max for disk in config.disks] == [3, 0]
    assert [disk.disk_type for disk in config.disks] == ["", "ssd"]
    assert config.disks[1].free_space_limit.bytes == 10 << 30
    assert [disk.tags for disk in config.disks] == [("z",), ("z",)]


def test_standalone_serves_this_host_only_unless_told(tmp_path):
    line = parse_command_line(["standalone", f"-mapDir={tmp_path}"])
    config = build_node_config(line, str(tmp_path), {}, SecuritySettings())
    assert (config.ip, config.masters, config.standalone) == ("127.0.0.1", (), True)
    assert config.map_dir == str(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "ip", "metrics_port", "debug_port"),
    [
        ([], "127.0.0.1", 0, 0),
        (["-metricsPort=9325"], "127.0.0.1", 9325, 0),
        (["-metricsPort=-1", "-ip.bind=0.0.0.0", "-debug"], "0.0.0.0", 0, 6060),
        (["-metricsIp=::1", "-ip.bind=0.0.0.0", "-debug.port=7070"], "::1", 0, 0),
    ],
    ids=["off", "metrics", "debug", "address"],
)
def test_listeners_of_metrics_and_debugging(arguments, ip, metrics_port, debug_port, tmp_path):
    config = build(tmp_path, *arguments)
    assert (config.metrics_ip, config.metrics_port, config.debug_port) == (ip, metrics_port, debug_port)
