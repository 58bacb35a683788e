"""The backends for tiered volumes that the master has told of (docs/spec/grpc.md 5.1)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping

from volumed.bus.events import BackendSettings
from volumed.remote.errors import RemoteError
from volumed.remote.s3 import S3Client, S3Settings

__all__ = ["Backend", "Backends", "backend_name"]

_log = logging.getLogger(__name__)

_DEFAULT = "default"
_CONCURRENCY, _CONCURRENCY_MAX = 5, 16
_STORAGE_CLASS = "STANDARD_IA"
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


class Backend:
    """A bucket. Its client is made with the first request."""

    def __init__(self, settings: BackendSettings) -> None:
        properties = settings.properties
        self.type = settings.type
        self.id = settings.id
        self.bucket = properties.get("bucket", "")
        self.storage_class = properties.get("storage_class", "") or _STORAGE_CLASS
        self._upload_concurrency = _number(properties, "upload_concurrency")
        self._download_concurrency = _number(properties, "download_concurrency")
        self._settings = S3Settings(
            endpoint=properties.get("endpoint", ""),
            region=properties.get("region", ""),
            access_key=properties.get("aws_access_key_id", ""),
            secret_key=properties.get("aws_secret_access_key", ""),
            path_style=properties.get("force_path_style", "") not in _FALSE,
        )
        self._client: S3Client | None = None
        self._making = threading.Lock()

    @property
    def name(self) -> str:
        """As volumes know it."""
        return backend_name(self.type, self.id)

    @property
    def client(self) -> S3Client:
        """Raises `RemoteError` when there are no credentials."""
        with self._making:
            if self._client is None:
                self._client = S3Client(self._settings)
            return self._client

    def upload_concurrency(self, wanted: int) -> int:
        """Parts at a time; ``wanted`` ≤ 0 = as configured."""
        return min(wanted if wanted > 0 else self._upload_concurrency, _CONCURRENCY_MAX)

    def download_concurrency(self, wanted: int) -> int:
        """The same for the other direction."""
        return min(wanted if wanted > 0 else self._download_concurrency, _CONCURRENCY_MAX)

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Bytes of an object. Raises `RemoteError` with the reference's text."""
        try:
            return self.client.get(self.bucket, key, offset, length)
        except RemoteError as error:
            raise RemoteError.during(f"bucket {self.bucket} GetObject {key}", error) from None


class Backends:
    """All backends by name. Filled on one thread, read on any."""

    def __init__(self) -> None:
        self._by_name: dict[str, Backend] = {}

    @property
    def names(self) -> list[str]:
        """Everything that can be named as a destination."""
        return list(self._by_name)

    def register(self, told: Iterable[BackendSettings]) -> None:
        """Take over what is new; a name that is known already keeps its meaning."""
        for settings in told:
            name = backend_name(settings.type, settings.id)
            if settings.type != "s3":
                _log.warning("storage backend %s: unknown type", name)
            elif name not in self._by_name:
                self._by_name[name] = backend = Backend(settings)
                if settings.id == _DEFAULT:
                    self._by_name[settings.type] = backend
                _log.info("storage backend %s: bucket %s", name, backend.bucket)

    def find(self, kind: str, backend_id: str) -> Backend | None:
        """By type and id."""
        return self._by_name.get(backend_name(kind, backend_id))

    def destination(self, name: str) -> Backend | None:
        """By a name as an operator types it."""
        return self._by_name.get(name)


def backend_name(kind: str, backend_id: str) -> str:
    """``s3.default``."""
    return f"{kind}.{backend_id}"


def _number(properties: Mapping[str, str], name: str) -> int:
    text = properties.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and int(text) else _CONCURRENCY
