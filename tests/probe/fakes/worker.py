"""A worker without a disk: speaks the bus like ``workers`` and keeps its volumes in memory.

Its directory tells it what to do: missing, or with a file ``broken``, it reports that it cannot open the disk; with a
file ``slow`` it opens for ever. Everything else the tests do with signals.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import msgspec
import zmq

from volumed.bus import calls, events, frames
from volumed.bus.router import CallRouter, Reply
from volumed.config.node import load_node_config
from volumed.errors import VolumedError
from volumed.formats.report import VolumeReport
from volumed.processes import die_with_parent

_HEARD_MS = 5000


class FakeWorker:
    def __init__(self) -> None:
        self.config = load_node_config(sys.argv[1])
        self.disk = self.config.disks[int(sys.argv[2])]
        self.epoch = int(sys.argv[3])
        context = zmq.Context.instance()
        self.events = context.socket(zmq.DEALER)
        self.events.linger = 1000
        self.events.connect(self.config.supervisor_endpoint())
        self.calls = context.socket(zmq.ROUTER)
        self.calls.bind(self.config.worker_endpoint(self.disk.disk_id, self.epoch))
        self.router = CallRouter(
            calls.WorkerRequest, self.handle, lambda peer, frame: self.calls.send_multipart([peer, frame])
        )

    def send(self, event: msgspec.Struct) -> None:
        self.events.send(bytes((frames.EVENT,)) + msgspec.msgpack.encode(event))

    def run(self) -> int:
        directory = Path(self.disk.directory)
        if not directory.is_dir() or (directory / "broken").exists():
            self.send(events.DiskFailed(self.disk.disk_id, self.epoch, f"cannot open {directory}"))
            self.events.poll(_HEARD_MS)
            return 1
        self.send(
            events.DiskReport(self.disk.disk_id, self.epoch, True, [], [], 1000, 900, False, self.disk.volumes_max, 0)
        )
        while (directory / "slow").exists():
            time.sleep(0.01)
        self.send(
            events.DiskReady(
                self.disk.disk_id, self.epoch, "/map", f"uuid-{self.disk.disk_id}-{os.path.abspath(directory)}"
            )
        )
        poller = zmq.Poller()
        poller.register(self.events, zmq.POLLIN)
        poller.register(self.calls, zmq.POLLIN)
        decoder = msgspec.msgpack.Decoder(events.SupervisorEvent)
        while True:
            for source, _ in poller.poll():
                if source is self.calls:
                    peer, frame = self.calls.recv_multipart()
                    self.router.receive(peer, memoryview(frame))
                    continue
                event = decoder.decode(self.events.recv()[1:])
                if isinstance(event, events.Ping):
                    self.send(events.Pong(self.disk.disk_id, self.epoch, event.sequence))

    def handle(self, request: msgspec.Struct, reply: Reply) -> None:
        if isinstance(request, calls.AllocateVolume):
            self.changed(mounted=[self.statistics(request)])
            reply.result()
        elif isinstance(request, calls.DeleteVolume):
            gone = self.statistics(calls.AllocateVolume(request.volume_id, "", 0, 0, 3))
            self.changed(gone=[gone])
            reply.result()
        elif isinstance(request, calls.RescanDisk):
            (Path(self.disk.directory) / "rescanned").touch()
            reply.result()
        else:
            raise VolumedError("fake")

    def changed(self, mounted: list = (), gone: list = ()) -> None:
        self.send(events.VolumesChanged(self.disk.disk_id, self.epoch, list(mounted), list(gone)))

    def statistics(self, request: calls.AllocateVolume) -> events.VolumeStatistics:
        report = VolumeReport(
            id=request.volume_id, size=8, collection=request.collection, ttl=request.ttl,
            replica_placement=request.replica_placement, version=request.version,
            modified_at_second=1_700_000_000, disk_type=self.disk.disk_type, disk_id=self.disk.disk_id,
        )  # fmt: skip
        return events.VolumeStatistics(report, content_bytes=0)


def stop(*_: object) -> None:
    os._exit(0)


if __name__ == "__main__":
    die_with_parent()
    signal.signal(signal.SIGTERM, stop)
    raise SystemExit(FakeWorker().run())
