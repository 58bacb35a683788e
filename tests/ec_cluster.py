"""Clusters of five volume servers for the erasure coding commands of ``weed shell``, and objects that survive them."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import random
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume, weed_shell
from tests.grpc_kit import Node, allocate, batch_delete
from tests.processes import HOST, PORT_RANGE, PORTS_AT_ONCE, ServerError, wait_until
from tests.shell_kit import LIMIT_S, TRUST, Volume
from tests.web import Response, get, multipart, request, upload
from volumed.wire import master_pb2, master_pb2_grpc

__all__ = ["ALL_SHARDS", "MAKE_UPS", "EcCluster", "EcVolume", "Readers", "Wrong", "started_cluster"]

GRPC_PORT_ABOVE = 10_000
"""``ec.scrub`` takes the gRPC port of every server to be so much above the other one."""
ALL_SHARDS = frozenset(range(14))
MAKE_UPS: dict[str, list[type[VolumeServer]]] = {
    "reference": [WeedVolume] * 5,
    "ours": [Volumed] * 5,
    "mixed": [Volumed, WeedVolume, Volumed, WeedVolume, Volumed],
    "one reference": [Volumed, WeedVolume, Volumed, Volumed, Volumed],
}
_COOKIE = "637037d6"
_SIZES = (0, 1, 100, 5_000, 70_000, 300_000, 1_200_000, 3_000_000)


def _port_pairs() -> Iterator[int]:
    """Ports that this process has claimed with those above them (`tests.processes`)."""
    for start in PORT_RANGE[:GRPC_PORT_ABOVE:PORTS_AT_ONCE]:
        claims = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        try:
            for claim, first in zip(claims, (start, start + GRPC_PORT_ABOVE), strict=True):
                claim.bind(f"\0volumed tests {first}")
        except OSError:
            for claim in claims:
                claim.close()
            continue
        for claim in claims:
            claim.detach()
        yield from range(start, start + PORTS_AT_ONCE)


_pairs = _port_pairs()


def _free_pair() -> tuple[int, int]:
    for port in _pairs:
        try:
            for number in (port, port + GRPC_PORT_ABOVE):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((HOST, number))
        except OSError:
            continue
        return port, port + GRPC_PORT_ABOVE
    raise ServerError("no free pair of ports")


class EcVolume(Volume):
    """A volume whose objects are of all kinds: small and large, empty, named, compressed."""

    def add(self, server: VolumeServer, key: int, data: bytes, kind: int) -> None:
        """Through a server; ``kind`` changes from key to key."""
        path, headers = f"/{self.fid(key)}", {}
        if kind == 0:
            headers = {"Content-Encoding": "gzip"}
            answer = upload(server.address, self.fid(key), gzip.compress(data), headers=headers)
        elif kind == 1:
            body, headers = multipart(data, filename=f"object {key}.bin")
            answer = request("POST", server.address, path, body=body, headers=headers)
        else:
            answer = upload(server.address, self.fid(key), data)
        assert answer.status == 201, answer
        self.objects[self.fid(key)] = hashlib.sha256(data).digest()

    def is_right(self, fid: str, answer: Response) -> bool:
        """Whether a server has told what the object is, or that it is deleted."""
        expected = self.objects[fid]
        if expected is None:
            return answer.status == 404
        return answer.status == 200 and hashlib.sha256(answer.body).digest() == expected


def is_excused(server: VolumeServer, answer: Response) -> bool:
    """The reference does not find shards that have just moved: it believes for minutes what the master has once said.
    That it cannot read is no lie; to say that there is nothing, or something else, would be."""
    return answer.status == 500 and isinstance(server, WeedVolume)


class Wrong(NamedTuple):
    """An answer that is not right."""

    fid: str
    server: str
    status: int
    body: bytes


class Readers:
    """A thread that reads objects of a volume from all servers in turn, and notes what is not right.

    While a copy overwrites the `.ecx` of a reference server, it calls every needle deleted (erasure-coding.md 5.7), and
    other reference servers believe that. Where there are several, their 404s say nothing.
    """

    def __init__(self, volume: EcVolume, servers: Sequence[VolumeServer]) -> None:
        self._volume = volume
        self._servers = servers
        references = [server.address for server in servers if isinstance(server, WeedVolume)]
        self._misled = frozenset(references) if len(references) > 1 else frozenset()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.count = 0
        self.wrong: list[Wrong] = []

    def __enter__(self) -> Readers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _read(self) -> None:
        pairs = itertools.cycle(itertools.product(list(self._volume.objects), self._servers))
        for fid, server in pairs:
            if self._stopped.wait(0.005):
                return
            try:
                answer = get(server.address, f"/{fid}", timeout_s=LIMIT_S, headers={"Accept-Encoding": "identity"})
            except OSError as error:
                self.wrong.append(Wrong(fid, server.address, -1, repr(error).encode()))
                continue
            self.count += 1
            is_misled = answer.status == 404 and server.address in self._misled
            if not self._volume.is_right(fid, answer) and not is_excused(server, answer) and not is_misled:
                self.wrong.append(Wrong(fid, server.address, answer.status, answer.body[:200]))


class EcCluster:
    """A master and five servers."""

    def __init__(self, master: Master, nodes: Sequence[Node], stub: master_pb2_grpc.SeaweedStub) -> None:
        self.master = master
        self.nodes = list(nodes)
        self._stub = stub
        self._ids = itertools.count(1)

    @property
    def servers(self) -> list[VolumeServer]:
        """Of all nodes, in their order."""
        return [node.server for node in self.nodes]

    def node(self, address: str) -> Node:
        """The one with this address."""
        return next(node for node in self.nodes if node.server.address == address)

    def shell(self, *commands: str) -> str:
        """What commands print, run under the lock."""
        return weed_shell(self.master, "lock", *commands, "unlock")

    def fill(self, node: Node, *, objects: int = 16) -> EcVolume:
        """A normal volume on one server with objects of all kinds, some of them deleted."""
        volume = EcVolume(next(self._ids))
        assert node.run(allocate(volume.id, collection=volume.collection, replication="000")) == {}
        source = random.Random(volume.id)
        for key in range(1, objects + 1):
            volume.add(node.server, key, source.randbytes(_SIZES[key % len(_SIZES)]), key % 3)
        for key in (5, objects - 1):
            volume.delete(node.server, key)
        wait_until(lambda: self._knows_volume(volume.id), timeout_s=LIMIT_S, what="the volume at the master")
        return volume

    def _knows_volume(self, volume_id: int) -> bool:
        return get(self.master.address, f"/dir/lookup?volumeId={volume_id}").status == 200

    def shards(self, volume: EcVolume) -> dict[str, set[int]]:
        """As the master knows them, none of a volume of which it has not heard: address → ids."""
        try:
            answer = self._stub.LookupEcVolume(master_pb2.LookupEcVolumeRequest(volume_id=volume.id), timeout=LIMIT_S)
        except grpc.RpcError as error:
            if "not found" not in (error.details() or ""):
                raise
            return {}
        found: dict[str, set[int]] = {}
        for shard in answer.shard_id_locations:
            for location in shard.locations:
                found.setdefault(location.url, set()).add(shard.shard_id)
        return found

    def await_shards(self, volume: EcVolume, condition: Callable[[dict[str, set[int]]], bool], what: str) -> None:
        """Until the master knows them so."""
        wait_until(lambda: condition(self.shards(volume)), timeout_s=LIMIT_S, what=what)

    def differences(self, volume: EcVolume, *nodes: Node) -> list[Wrong]:
        """Every object from all servers, or some: what is not right."""
        found = []
        for node in nodes or self.nodes:
            for fid in volume.objects:
                answer = get(node.server.address, f"/{fid}", headers={"Accept-Encoding": "identity"})
                if not volume.is_right(fid, answer) and not is_excused(node.server, answer):
                    found.append(Wrong(fid, node.server.address, answer.status, answer.body[:200]))
        return found

    def check(self, volume: EcVolume, *nodes: Node) -> None:
        """Every object is right from all servers, or some."""
        wrong = self.differences(volume, *nodes)
        assert not wrong, wrong[:5]

    def delete(self, volume: EcVolume, key: int, node: Node) -> None:
        """Through a server."""
        (result,) = node.run(batch_delete(volume.fid(key)))["results"]
        assert result["status"] == 202, result
        volume.objects[volume.fid(key)] = None

    def lose(self, volume: EcVolume, *shard_ids: int) -> dict[int, bytes]:
        """Remove shards from wherever they are, with ``ec.shard.unmount``; what was in them."""
        lost = {}
        for shard_id in shard_ids:
            (path,) = self.files(volume, f".ec{shard_id:02}")
            lost[shard_id] = path.read_bytes()
        names = ",".join(map(str, shard_ids))
        self.shell(f"ec.shard.unmount --volumeId={volume.id} --shardId={names} --delete --apply")
        left = ALL_SHARDS.difference(shard_ids)
        self.await_shards(volume, lambda found: set().union(*found.values()) == left, f"the loss of {shard_ids}")
        return lost

    def encode(self, volume: EcVolume) -> str:
        """``ec.encode``; what it printed."""
        printed = self.shell(f"ec.encode -volumeId {volume.id} -collection {volume.collection} -force")
        self.await_all_shards(volume)
        return printed

    def await_all_shards(self, volume: EcVolume) -> None:
        """Until the master knows each of them, once."""
        self.await_shards(
            volume, lambda found: sorted(itertools.chain(*found.values())) == sorted(ALL_SHARDS), "all shards"
        )

    def files(self, volume: EcVolume, pattern: str) -> list[Path]:
        """Files of a volume on all servers."""
        name = f"{volume.collection}_{volume.id}{pattern}"
        return [path for server in self.servers for directory in server.dirs for path in directory.glob(name)]


@contextmanager
def started_cluster(
    home: Path, kinds: Sequence[type[VolumeServer]], *, flags: Sequence[str] = (), **options: Any
) -> Iterator[EcCluster]:
    """Of servers of these kinds."""
    with ExitStack() as stack:
        master = stack.enter_context(Master(home / "m"))
        nodes = []
        for number, kind in enumerate(kinds):
            server = kind(home / f"s{number}", master=master, flags=[*TRUST, *flags], **options)
            server.port, server.grpc_port = _free_pair()
            nodes.append(stack.enter_context(Node(stack.enter_context(server))))
        channel = stack.enter_context(grpc.insecure_channel(master.grpc_address))
        yield EcCluster(master, nodes, master_pb2_grpc.SeaweedStub(channel))
