"""A SeaweedFS cluster of real processes for tests and benchmarks: master, volume servers, filer, S3 gateway.

Each class is a context manager that starts the process, waits until it serves and is known to its master, and
leaves nothing behind::

    with Master(tmp_path / "m") as master, Volumed(tmp_path / "v", master=master) as node:
        fid, url = assign(master.address)
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.processes import HOST, Server, ServerError, free_port
from tests.web import get, get_json

__all__ = [
    "S3", "WEED", "Filer", "Master", "VolumeServer", "Volumed", "WeedVolume", "fid_on", "weed_shell",
    "weed_shell_process",
]

BIN = Path(sys.executable).parent
WEED = BIN / "weed"
VOLUMED = BIN / "volumed"
SHELL_TIMEOUT_S = 120.0


class WeedServer(Server):
    """A ``weed`` subcommand that listens on an HTTP and a gRPC port."""

    subcommand = ""

    def __init__(self, home: Path, *, flags: Sequence[str] = ()) -> None:
        """``flags`` are appended to the command line, so they override the ones given here."""
        super().__init__(home)
        # Short, since the path of a Unix socket has at most 107 bytes and test directories are long.
        self.runtime_dir = Path(tempfile.mkdtemp(prefix="vt-"))
        self.port = free_port()
        self.grpc_port = free_port()
        self.flags = list(flags)

    @property
    def address(self) -> str:
        """``host:port`` of the HTTP listener."""
        return f"{HOST}:{self.port}"

    @property
    def grpc_address(self) -> str:
        """``host:port`` of the gRPC listener."""
        return f"{HOST}:{self.grpc_port}"

    @property
    def peer_address(self) -> str:
        """The address as ``weed`` flags take it: ``host:port.grpcPort``."""
        return f"{HOST}:{self.port}.{self.grpc_port}"

    def command(self) -> list[str]:
        """Program, addresses, own flags, and the flags of the test."""
        listen = [f"-ip.bind={HOST}", f"-port={self.port}", f"-port.grpc={self.grpc_port}"]
        return [*self.program(), *listen, *self.own_flags(), *self.flags]

    def program(self) -> list[str]:
        """The program and its subcommand."""
        return [str(WEED), "-logtostderr=true", self.subcommand]

    def own_flags(self) -> list[str]:
        """Flags of this subcommand."""
        raise NotImplementedError

    def close(self) -> None:
        """Also remove the runtime directory."""
        super().close()
        shutil.rmtree(self.runtime_dir, ignore_errors=True)


class Master(WeedServer):
    """``weed master``, alone and its own leader."""

    name = "weed master"
    subcommand = "master"

    def __init__(self, home: Path, *, volume_size_limit_mb: int = 64, flags: Sequence[str] = ()) -> None:
        """``volume_size_limit_mb``: size at which volumes count as full."""
        super().__init__(home, flags=flags)
        self.volume_size_limit_mb = volume_size_limit_mb

    def own_flags(self) -> list[str]:
        """No waiting for others to elect a leader with, and no telemetry."""
        meta = self.home / "meta"
        meta.mkdir(exist_ok=True)
        return [
            f"-ip={HOST}", f"-mdir={meta}", f"-volumeSizeLimitMB={self.volume_size_limit_mb}", "-telemetry=false",
            "-peers=none",
        ]  # fmt: skip

    def ready(self) -> bool:
        """Whether this master leads."""
        return bool(get_json(self.address, "/cluster/status").get("IsLeader"))

    def node_addresses(self) -> list[str]:
        """``host:port`` of every volume server that the master knows."""
        topology = get_json(self.address, "/dir/status")["Topology"]
        return [
            node["Url"]
            for center in topology["DataCenters"] or ()
            for rack in center["Racks"] or ()
            for node in rack["DataNodes"] or ()
        ]


class VolumeServer(WeedServer):
    """What ``weed volume`` and ``volumed`` have in common: flags, data directories, a master."""

    subcommand = "volume"

    def __init__(
        self,
        home: Path,
        *,
        master: Master | None = None,
        dirs: Sequence[Path] | None = None,
        volumes_max: int = 16,
        flags: Sequence[str] = (),
    ) -> None:
        """``dirs`` defaults to ``home/data``; directories are created. Started again, it has the same ports."""
        super().__init__(home, flags=flags)
        self.master = master
        self.has_own_volumes = False
        self.dirs = list(dirs or [home / "data"])
        self.volumes_max = volumes_max
        for directory in self.dirs:
            directory.mkdir(parents=True, exist_ok=True)

    def own_flags(self) -> list[str]:
        """Directories, master, and a stop without waiting time."""
        flags = [
            f"-ip={HOST}", f"-dir={','.join(map(str, self.dirs))}", f"-max={self.volumes_max}", "-preStopSeconds=0",
        ]  # fmt: skip
        return [*flags, f"-master={self.master.peer_address}"] if self.master else flags

    def ready(self) -> bool:
        """Whether it is healthy and, if it has a master, known there."""
        if get(self.address, "/healthz", timeout_s=1).status != 200:
            return False
        return self.master is None or self.address in self.master.node_addresses()


class WeedVolume(VolumeServer):
    """``weed volume``: the reference. Needs a master."""

    name = "weed volume"


class Volumed(VolumeServer):
    """``volumed``; without a master it runs standalone. Needle maps are kept in ``home/map``."""

    name = "volumed"

    def program(self) -> list[str]:
        """``volumed`` in the mode that fits."""
        return [str(VOLUMED), "volume" if self.master else "standalone"]

    def own_flags(self) -> list[str]:
        """The flags of ``weed volume``, and the place of the needle maps."""
        return [*super().own_flags(), f"-mapDir={self.home / 'map'}"]

    def environment(self) -> dict[str, str]:
        """Private runtime and state directories, as a service manager gives them."""
        return super().environment() | {
            "RUNTIME_DIRECTORY": str(self.runtime_dir),
            "XDG_RUNTIME_DIR": str(self.runtime_dir),
            "STATE_DIRECTORY": str(self.home / "state"),
        }


class Filer(WeedServer):
    """``weed filer`` with its embedded store."""

    name = "weed filer"
    subcommand = "filer"

    def __init__(self, home: Path, *, master: Master, flags: Sequence[str] = ()) -> None:
        """A filer of the cluster of ``master``."""
        super().__init__(home, flags=flags)
        self.master = master

    def own_flags(self) -> list[str]:
        """Store and local socket in private directories."""
        return [
            f"-ip={HOST}", f"-master={self.master.peer_address}", f"-defaultStoreDir={self.home}",
            f"-localSocket={self.runtime_dir / 'filer.sock'}",
        ]  # fmt: skip

    def ready(self) -> bool:
        """Whether its root directory can be listed."""
        return get(self.address, "/", headers={"Accept": "application/json"}).status == 200


class S3(WeedServer):
    """``weed s3``: the S3 gateway of a filer, without credentials."""

    name = "weed s3"
    subcommand = "s3"

    def __init__(self, home: Path, *, filer: Filer, flags: Sequence[str] = ()) -> None:
        """A gateway that talks to ``filer``."""
        super().__init__(home, flags=flags)
        self.filer = filer

    def own_flags(self) -> list[str]:
        """S3 alone: no catalog services beside it."""
        return [
            f"-filer={self.filer.peer_address}", "-port.iceberg=0", "-port.lance=0", "-iam=false",
            f"-localSocket={self.runtime_dir / 's3.sock'}",
        ]  # fmt: skip

    def ready(self) -> bool:
        """Whether it lists buckets."""
        return get(self.address, "/").status == 200


def fid_on(master: Master, server: VolumeServer) -> str:
    """An unused file id in a volume that only this server has."""
    where = f"collection=only-{server.port}"
    if not server.has_own_volumes:
        get_json(master.address, f"/vol/grow?{where}&count=2&dataNode={server.address}")
        server.has_own_volumes = True
    fid: str = get_json(master.address, f"/dir/assign?{where}")["fid"]
    return fid


def weed_shell(master: Master, *commands: str, filer: Filer | None = None) -> str:
    """Run ``weed shell`` commands and return what it printed; it is added to the log of the master. The caller gives
    ``lock`` and ``unlock`` too."""
    arguments = [str(WEED), "shell", f"-master={master.peer_address}"]
    if filer:
        arguments.append(f"-filer={filer.peer_address}")
    result = subprocess.run(
        arguments, input="\n".join(commands) + "\n", cwd=master.home, env=master.environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SHELL_TIMEOUT_S, check=False,
    )  # fmt: skip
    with master.log_path.open("a") as log:
        log.write(f"weed shell, {'; '.join(commands)}:\n{result.stdout}\n")
    if result.returncode:
        raise ServerError(f"weed shell ended with {result.returncode}:\n{result.stdout}")
    return result.stdout


def weed_shell_process(master: Master) -> subprocess.Popen[str]:
    """A ``weed shell`` that takes commands on its standard input and prints to the log of the master. The caller ends
    it; it keeps its lock for ten seconds when it is killed."""
    with master.log_path.open("ab") as log:
        return subprocess.Popen(
            [str(WEED), "shell", f"-master={master.peer_address}"], cwd=master.home, env=master.environment(),
            text=True, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
