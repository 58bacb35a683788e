"""An object store for tests of tiered volumes: the S3 gateway of a second cluster, and masters that know it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster import S3, Filer, Master, WeedVolume
from tests.processes import wait_until
from tests.web import get, request

__all__ = ["BUCKET", "ObjectStore", "tiered_master"]

BUCKET = "tier"


class ObjectStore:
    """A whole cluster with an S3 gateway in front, and one bucket. A context manager."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        enter = self._stack.enter_context
        master = enter(Master(self._home / "store-master"))
        enter(WeedVolume(self._home / "store-volume", master=master))
        filer = enter(Filer(self._home / "store-filer", master=master))
        self.gateway = enter(S3(self._home / "store-s3", filer=filer))
        wait_until(self._make_bucket, timeout_s=30, what="a bucket")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _make_bucket(self) -> bool:
        return request("PUT", self.gateway.address, f"/{BUCKET}").status == 200

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://{self.gateway.address}"

    def keys(self) -> set[str]:
        """Names of all objects."""
        listing = get(self.gateway.address, f"/{BUCKET}?list-type=2").body.decode()
        return {part.partition("</Key>")[0] for part in listing.split("<Key>")[1:]}


def tiered_master(home: Path, endpoint: str, *, dead: str = "") -> Master:
    """A master, not started yet, that tells of the backends ``s3.default`` and ``s3.cold``, and of ``s3.dead``, if
    there is an endpoint for it."""
    master = Master(home)
    section = (
        '[storage.backend.s3.{}]\nenabled = true\naws_access_key_id = "any"\naws_secret_access_key = "secret"\n'
        'region = "us-east-1"\nbucket = "{}"\nendpoint = "{}"\n'
    )
    sections = [section.format(name, BUCKET, endpoint) for name in ("default", "cold")]
    if dead:
        sections.append(section.format("dead", BUCKET, dead))
    (home / "master.toml").write_text("".join(sections))
    return master
