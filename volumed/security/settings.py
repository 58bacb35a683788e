"""``security.toml``: where it is found, how it is read, what it sets (docs/spec/http.md 8.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from volumed.config.flags import CommandLine
from volumed.config.toml_file import find_toml, list_entries, read_toml
from volumed.security.guard import usable_entries

__all__ = [
    "GrpcIdentity",
    "HttpsClient",
    "HttpsServer",
    "SecuritySettings",
    "TlsLimits",
    "load_security",
    "read_security",
    "write_security",
]

_FILE = "security.toml"
_RUNTIME_FILE = "security.json"
_EXPIRES_AFTER_S = 10
_READ_EXPIRES_AFTER_S = 60


class HttpsServer(msgspec.Struct, frozen=True):
    """``[https.volume]``: files of the admin listener; empty = not set. With ``ca`` clients need a certificate."""

    cert: str = ""
    key: str = ""
    ca: str = ""


class HttpsClient(msgspec.Struct, frozen=True):
    """``[https.client]``: how this node talks to other servers over HTTP."""

    enabled: bool = False
    cert: str = ""
    key: str = ""
    ca: str = ""
    insecure_skip_verify: bool = False


class GrpcIdentity(msgspec.Struct, frozen=True):
    """``[grpc]`` and ``[grpc.volume]``: mutual TLS of gRPC."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    client_cert: str = ""
    client_key: str = ""
    allowed_common_names: tuple[str, ...] = ()
    allowed_wildcard_domain: str = ""


class TlsLimits(msgspec.Struct, frozen=True):
    """``[tls]``: ``TLS 1.2`` and the like, and IANA names; empty = the library's choice."""

    min_version: str = ""
    max_version: str = ""
    cipher_suites: tuple[str, ...] = ()


class SecuritySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that ``security.toml``, its environment variables and ``-whiteList`` say."""

    write_key: str = ""
    """Key of tokens for POST, PUT and DELETE; empty = no check."""
    write_expires_s: int = _EXPIRES_AFTER_S
    read_key: str = ""
    """Key of tokens for GET and HEAD; empty = no check."""
    read_expires_s: int = _READ_EXPIRES_AFTER_S
    shows_ui: bool = True
    """Whether ``/ui/index.html`` is a page (http.md 1.2): there is no write key, or ``access.ui`` is true."""
    white_list: tuple[str, ...] = ()
    """Entries as written, without blanks around them: addresses or CIDR ranges. Empty = everybody."""
    https_server: HttpsServer = HttpsServer()
    https_client: HttpsClient = HttpsClient()
    grpc: GrpcIdentity = GrpcIdentity()
    tls: TlsLimits = TlsLimits()

    def reloaded(self, newer: SecuritySettings) -> SecuritySettings:
        """What holds after a reload (http.md 8.3): white list and tokens of ``newer``, all else as at the start."""
        return msgspec.structs.replace(
            self,
            write_key=newer.write_key,
            write_expires_s=newer.write_expires_s,
            read_key=newer.read_key,
            read_expires_s=newer.read_expires_s,
            white_list=newer.white_list,
        )


def read_security(line: CommandLine, environ: Mapping[str, str]) -> SecuritySettings:
    """Read the file that the command line points to. Raises `ConfigError`; a missing file sets nothing."""
    path = _security_file(line)
    keys = read_toml(path, environ)
    write_key = keys.text("jwt.signing.key")
    return SecuritySettings(
        write_key=write_key,
        write_expires_s=keys.number("jwt.signing.expires_after_seconds", _EXPIRES_AFTER_S),
        read_key=keys.text("jwt.signing.read.key"),
        read_expires_s=keys.number("jwt.signing.read.expires_after_seconds", _READ_EXPIRES_AFTER_S),
        shows_ui=not write_key or keys.flag("access.ui"),
        white_list=usable_entries(list_entries(line.text("whiteList")) + keys.entries("guard.white_list")),
        https_server=HttpsServer(
            keys.text("https.volume.cert"), keys.text("https.volume.key"), keys.text("https.volume.ca")
        ),
        https_client=HttpsClient(
            keys.flag("https.client.enabled"),
            keys.text("https.client.cert"),
            keys.text("https.client.key"),
            keys.text("https.client.ca"),
            keys.flag("https.client.insecure_skip_verify"),
        ),
        grpc=GrpcIdentity(
            keys.text("grpc.ca"),
            keys.text("grpc.volume.cert"),
            keys.text("grpc.volume.key"),
            keys.text("grpc.volume.client_cert"),
            keys.text("grpc.volume.client_key"),
            keys.entries("grpc.volume.allowed_commonNames"),
            keys.text("grpc.allowed_wildcard_domain"),
        ),
        tls=TlsLimits(
            keys.text("tls.min_version"), keys.text("tls.max_version"), keys.entries("tls.cipher_suites")
        ),
    )


def write_security(settings: SecuritySettings, runtime_dir: str) -> None:
    """Put the settings where the node's processes find them; only the supervisor does. Readers see all or nothing."""
    path = Path(runtime_dir, _RUNTIME_FILE)
    draft = path.with_suffix(".new")
    draft.touch(mode=0o600)
    draft.write_bytes(msgspec.json.encode(settings))
    draft.replace(path)


def load_security(runtime_dir: str) -> SecuritySettings:
    """Read what `write_security` wrote."""
    return msgspec.json.decode(Path(runtime_dir, _RUNTIME_FILE).read_bytes(), type=SecuritySettings)


def _security_file(line: CommandLine) -> Path | None:
    named = line.text("securityFile")
    if named:
        return Path(named)
    return find_toml(_FILE, line.text("config_dir"))
