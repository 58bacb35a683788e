"""``security.toml``: where it is found, what wins, what stops the start (docs/spec/http.md 8.1, 8.3)."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from volumed.config.build import build_node_config
from volumed.config.disks import ConfigError
from volumed.config.flags import parse_command_line
from volumed.security.settings import (
    GrpcIdentity,
    HttpsClient,
    HttpsServer,
    SecuritySettings,
    TlsLimits,
    load_security,
    read_security,
    write_security,
)

EVERYTHING = """
[jwt.signing]
key = "w"
expires_after_seconds = 11
[jwt.signing.read]
key = "r"
expires_after_seconds = 61
[access]
ui = true
[guard]
white_list = " 10.0.0.1 ,,10.1.0.0/16"
[https.volume]
cert = "vc"
key = "vk"
ca = "va"
[https.client]
enabled = true
cert = "cc"
key = "ck"
ca = "ca"
insecure_skip_verify = true
[grpc]
ca = "ga"
allowed_wildcard_domain = ".d"
[grpc.volume]
cert = "gc"
key = "gk"
client_cert = "gcc"
client_key = "gck"
allowed_commonNames = "a,b"
[tls]
min_version = "TLS 1.2"
max_version = "TLS 1.3"
cipher_suites = "X,Y"
"""
ALL_SET = SecuritySettings(
    write_key="w",
    write_expires_s=11,
    read_key="r",
    read_expires_s=61,
    shows_ui=True,
    white_list=("10.0.0.1", "10.1.0.0/16"),
    https_server=HttpsServer("vc", "vk", "va"),
    https_client=HttpsClient(True, "cc", "ck", "ca", True),
    grpc=GrpcIdentity("ga", "gc", "gk", "gcc", "gck", ("a", "b"), ".d"),
    tls=TlsLimits("TLS 1.2", "TLS 1.3", ("X", "Y")),
)


def read(folder: Path, *flags: str, content: str | None = None, **environ: str) -> SecuritySettings:
    if content is not None:
        (folder / "security.toml").write_text(content)
    return read_security(parse_command_line(["-config_dir", str(folder), "volume", *flags]), environ)


def test_without_a_file_nothing_is_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(tmp_path) == SecuritySettings()


def test_every_key_of_the_file(tmp_path):
    assert read(tmp_path, content=EVERYTHING) == ALL_SET


def test_every_key_from_the_environment(tmp_path):
    variables = {
        "WEED_JWT_SIGNING_KEY": "w",
        "WEED_JWT_SIGNING_EXPIRES_AFTER_SECONDS": "11",
        "WEED_JWT_SIGNING_READ_KEY": "r",
        "WEED_JWT_SIGNING_READ_EXPIRES_AFTER_SECONDS": "61",
        "WEED_ACCESS_UI": "true",
        "WEED_GUARD_WHITE_LIST": "10.0.0.1,10.1.0.0/16",
        "WEED_HTTPS_VOLUME_CERT": "vc",
        "WEED_HTTPS_VOLUME_KEY": "vk",
        "WEED_HTTPS_VOLUME_CA": "va",
        "WEED_HTTPS_CLIENT_ENABLED": "1",
        "WEED_HTTPS_CLIENT_CERT": "cc",
        "WEED_HTTPS_CLIENT_KEY": "ck",
        "WEED_HTTPS_CLIENT_CA": "ca",
        "WEED_HTTPS_CLIENT_INSECURE_SKIP_VERIFY": "T",
        "WEED_GRPC_CA": "ga",
        "WEED_GRPC_ALLOWED_WILDCARD_DOMAIN": ".d",
        "WEED_GRPC_VOLUME_CERT": "gc",
        "WEED_GRPC_VOLUME_KEY": "gk",
        "WEED_GRPC_VOLUME_CLIENT_CERT": "gcc",
        "WEED_GRPC_VOLUME_CLIENT_KEY": "gck",
        "WEED_GRPC_VOLUME_ALLOWED_COMMONNAMES": "a,b",
        "WEED_TLS_MIN_VERSION": "TLS 1.2",
        "WEED_TLS_MAX_VERSION": "TLS 1.3",
        "WEED_TLS_CIPHER_SUITES": "X,Y",
    }
    assert read(tmp_path, content="", **variables) == ALL_SET


def test_a_variable_wins_unless_it_is_empty(tmp_path):
    content = '[jwt.signing]\nkey="file"\n[jwt.signing.read]\nkey="file"'
    found = read(tmp_path, content=content, WEED_JWT_SIGNING_KEY="variable", WEED_JWT_SIGNING_READ_KEY="")
    assert (found.write_key, found.read_key) == ("variable", "file")


def test_variables_without_the_prefix_mean_nothing(tmp_path):
    assert read(tmp_path, content="", JWT_SIGNING_KEY="x", WHITELIST="::1", GUARD_WHITE_LIST="::1") == (
        SecuritySettings()
    )


def test_flag_and_file_list_white_addresses_together(tmp_path):
    found = read(tmp_path, "-whiteList= ::1 , 10.0.0.9", content=EVERYTHING)
    assert found.white_list == ("::1", "10.0.0.9", "10.0.0.1", "10.1.0.0/16")


def test_the_example_sets_nothing_and_knows_every_key(tmp_path):
    example = Path(__file__).parents[2] / "conf/security.toml"
    assert read(tmp_path, f"-securityFile={example}") == SecuritySettings()
    lines = [line.removeprefix("#") for line in example.read_text().splitlines()]
    settings = [line for line in lines if line.startswith("[") or (" = " in line and line[0].isalpha())]
    named = read_keys(settings)
    assert named == read_keys(EVERYTHING.splitlines())


def read_keys(lines: list[str]) -> set[str]:
    """Dotted names of all keys in simple TOML."""
    keys, table = set(), ""
    for line in filter(None, lines):
        if line.startswith("["):
            table = line.strip("[]")
        else:
            keys.add(f"{table}.{line.partition(' = ')[0]}")
    return keys


@pytest.mark.parametrize(
    "content",
    ['[JWT.Signing]\nKEY="w"', '"jwt.signing.key"="w"', '"jwt.signing"={key="w"}', 'jwt.signing.key="w"'],
    ids=["letter case", "quoted key", "quoted table", "dotted key"],
)
def test_spellings_of_a_key(content, tmp_path):
    assert read(tmp_path, content=content).write_key == "w"


def test_numbers_and_booleans_are_texts_too(tmp_path):
    found = read(tmp_path, content='[jwt.signing]\nkey=123\nexpires_after_seconds="7"\n[access]\nui="1"')
    assert (found.write_key, found.write_expires_s, found.shows_ui) == ("123", 7, True)


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("", True),
        ('jwt.signing.key="k"', False),
        ('jwt.signing.key="k"\naccess.ui=true', True),
        ('jwt.signing.key="k"\naccess.ui="perhaps"', False),
        ('jwt.signing.read.key="k"', True),
    ],
    ids=["open", "key", "key and access", "no boolean", "read key"],
)
def test_when_the_ui_is_shown(content, shown, tmp_path):
    assert read(tmp_path, content=content).shows_ui is shown


def test_the_first_folder_with_a_file_wins(tmp_path, monkeypatch):
    folders = [tmp_path / name for name in ("config", "work", "home/.seaweedfs")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "security.toml").write_text(f'jwt.signing.key="{folder.name}"')
    monkeypatch.chdir(folders[1])
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder in folders:
        assert read(folders[0]).write_key == folder.name
        (folder / "security.toml").unlink()
    assert read(folders[0]).write_key == ""


def test_a_named_file_is_the_only_one(tmp_path):
    named = tmp_path / "mine.toml"
    named.write_text('jwt.signing.read.key="mine"')
    found = read(tmp_path, f"-securityFile={named}", content=EVERYTHING)
    assert found == SecuritySettings(read_key="mine")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no toml", "cannot read .*security.toml: "),
        ('[guard]\nwhite_list=["::1"]', "guard.white_list in .*security.toml is not a text"),
        ("[jwt.signing]\nexpires_after_seconds='soon'", "expires_after_seconds in .* is not a number"),
    ],
    ids=["syntax", "list", "number"],
)
def test_a_file_that_cannot_be_understood_stops_the_start(content, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, content=content)


def test_files_that_cannot_be_opened_stop_the_start(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*gone\.toml"):
        read(tmp_path, f"-securityFile={tmp_path / 'gone.toml'}")
    (tmp_path / "security.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot read"):
        read(tmp_path)


@pytest.mark.parametrize(
    "key",
    [
        "grpc.ca",
        "grpc.volume.cert",
        "grpc.volume.key",
        "grpc.volume.allowed_commonNames",
        "grpc.allowed_wildcard_domain",
    ],
)
def test_what_is_not_implemented_stops_the_start(key, tmp_path):
    (tmp_path / "security.toml").write_text(f'{key}="x"')
    line = parse_command_line(["-config_dir", str(tmp_path), "volume", "-ip=127.0.0.1"])
    with pytest.raises(ConfigError, match=key):
        build_node_config(line, str(tmp_path), {}, read_security(line, {}))


def test_the_ui_is_decided_with_the_configuration(tmp_path):
    line = parse_command_line(["volume", "-ip=127.0.0.1"])
    for shown in (True, False):
        assert build_node_config(line, str(tmp_path), {}, SecuritySettings(shows_ui=shown)).shows_ui is shown


def test_a_reload_changes_tokens_and_white_list_only():
    assert SecuritySettings().reloaded(ALL_SET) == SecuritySettings(
        write_key="w", write_expires_s=11, read_key="r", read_expires_s=61, white_list=ALL_SET.white_list
    )
    assert ALL_SET.reloaded(SecuritySettings()) == msgspec.structs.replace(
        ALL_SET, write_key="", write_expires_s=10, read_key="", read_expires_s=60, white_list=()
    )


def test_the_runtime_file_is_private_and_replaced(tmp_path):
    for settings in (SecuritySettings(), ALL_SET):
        write_security(settings, str(tmp_path))
        assert load_security(str(tmp_path)) == settings
    [file] = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
