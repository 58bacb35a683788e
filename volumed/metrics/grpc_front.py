"""What the gRPC front counts (docs/spec/http.md 10)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from volumed.metrics import families
from volumed.metrics.families import Family
from volumed.metrics.page import MetricsPage
from volumed.metrics.recorder import Recorder
from volumed.wire import volume_server_pb2 as pb

__all__ = ["GrpcMetrics"]


class GrpcMetrics:
    """Any thread. ``mode`` is a `VolumeScrubMode`; both kinds of scrubs share the time and the broken volumes.

    Tell it of a scrub that has looked at everything it was asked for, whatever it found: one that ends with an error
    does not count.
    """

    def __init__(self, page: MetricsPage) -> None:
        self._recorder = Recorder(page, families.Owner.GRPC_FRONT)
        self._lock = threading.Lock()

    def volumes_scrubbed(self, mode: int, broken_volumes: int) -> None:
        """The end of a ScrubVolume."""
        with self._lock:
            self._scrubbed(mode, {families.SCRUB_VOLUME_FAILURES: broken_volumes})

    def shards_scrubbed(self, mode: int, broken_volumes: int, broken_shards: int) -> None:
        """The end of a ScrubEcVolume."""
        with self._lock:
            self._scrubbed(
                mode,
                {families.SCRUB_VOLUME_FAILURES: broken_volumes, families.SCRUB_SHARD_FAILURES: broken_shards},
            )

    @contextmanager
    def rebuild(self) -> Iterator[None]:
        """Around a VolumeEcShardsRebuild that found files of the volume, also when no shard is missing."""
        began_s, result = time.perf_counter(), "failure"
        try:
            yield
            result = "success"
        finally:
            with self._lock:
                self._recorder.count(families.EC_REBUILDS, result)
                seconds = self._recorder.histogram(families.EC_REBUILD_SECONDS, result)
                seconds.observe(time.perf_counter() - began_s)

    def needle_repaired(self) -> None:
        """A needle in shards could be read only without one of them, whose bytes are wrong."""
        with self._lock:
            self._recorder.count(families.EC_REPAIRED)

    def disk_failed(self) -> None:
        """A disk could not read a shard."""
        with self._lock:
            self._recorder.count(families.IO_ERRORS)

    def _scrubbed(self, mode: int, failures: dict[Family, int]) -> None:
        known = pb.VolumeScrubMode.DESCRIPTOR.values_by_number.get(mode)
        if known is None:
            # DEVIATE: a server without volumes scrubs in any mode; the reference makes a series of each number.
            return
        cells = self._recorder.cells
        cells[self._recorder.cell(families.SCRUB_TIME, known.name)] = int(time.time())
        for family, count in failures.items():
            cells[self._recorder.cell(family, known.name)] += count
