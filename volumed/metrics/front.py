"""What an HTTP front counts. Both lanes and all handlers count here and nowhere else."""

from __future__ import annotations

import enum
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from volumed.errors import Corruption
from volumed.metrics import families
from volumed.metrics.page import MetricsPage
from volumed.metrics.recorder import Histogram, Recorder

__all__ = ["WRITE_TO_LOCAL_DISK", "WRITE_TO_REPLICAS", "FrontMetrics", "HandlerEvent"]

WRITE_TO_LOCAL_DISK = "writeToLocalDisk"
WRITE_TO_REPLICAS = "writeToReplicas"

_SUPPORTED = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
_STANDARD = _SUPPORTED | {"PATCH", "TRACE", "CONNECT"}
_INVALID = "INVALID"


class HandlerEvent(enum.StrEnum):
    """Values of the label of ``handler_total``."""

    UPLOAD_LIMIT = "uploadLimitCondition"
    DOWNLOAD_LIMIT = "downloadLimitCondition"
    READ_PROXY = "readProxyRequest"
    READ_PROXY_FAILED = "failedReadProxyRequest"
    READ_PROXY_NOWHERE = "emptyReadProxyLocaction"
    READ_REDIRECT = "readRedirectRequest"
    READ_DELETED = "readDeletedNeedle"
    NOT_FOUND = "errorGetNotFound"
    INTERNAL = "errorGetInternal"
    CRC = "errorCRC"
    SIZE = "errorSizeMismatch"
    BOUNDS = "errorIndexOutOfRange"
    LOCAL_WRITE_FAILED = "errorWriteToLocalDisk"
    REPLICATION_FAILED = "errorWriteToReplicas"


_CORRUPTIONS = {
    Corruption.CRC: HandlerEvent.CRC,
    Corruption.SIZE: HandlerEvent.SIZE,
    Corruption.BOUNDS: HandlerEvent.BOUNDS,
}


class FrontMetrics:
    """Times are those of `time.perf_counter`, in seconds."""

    def __init__(self, page: MetricsPage) -> None:
        self._recorder = Recorder(page, families.Owner.FRONT)
        self._cells = self._recorder.cells
        self._answers: dict[tuple[str, int], int] = {}
        self._durations: dict[str, Histogram] = {}
        self._in_flight: dict[str, int] = {}
        self._targets = self._recorder.histogram(families.REPLICATION_TARGETS)

    # Requests

    def answered(self, method: str, status: int, began_s: float, *, public: bool) -> None:
        """A request of the store handlers got its answer."""
        # PERF: once per request.
        kind = method if method in _SUPPORTED else _unusual(method, public)
        cell = self._answers.get((kind, status))
        if cell is None:
            cell = self._recorder.cell(families.REQUESTS, kind, str(status))
            self._answers[kind, status] = cell
            if not public:
                self._progress_of(method)
        self._cells[cell] += 1
        histogram = self._durations.get(kind) or self._seconds_of(kind)
        histogram.observe(perf_counter() - began_s)

    def request_began(self, method: str) -> None:
        """A request at the admin port is in flight; `request_over` follows."""
        self._cells[self._progress_of(method)] += 1

    def request_over(self, method: str) -> None:
        self._cells[self._progress_of(method)] -= 1

    def upload_began(self, method: str) -> None:
        """An upload went straight to a disk of this node: `request_began` and `step_began`. `upload_over` follows."""
        # PERF: once per small upload, like `upload_over`.
        known, cells = self._in_flight, self._cells
        cells[known.get(method) or self._progress_of(method)] += 1
        cells[known.get(WRITE_TO_LOCAL_DISK) or self._progress_of(WRITE_TO_LOCAL_DISK)] += 1

    def upload_over(self, method: str, began_s: float) -> None:
        """The disk has answered: `step_over` and `request_over`."""
        known, cells = self._in_flight, self._cells
        cells[known.get(method) or self._progress_of(method)] -= 1
        cells[known.get(WRITE_TO_LOCAL_DISK) or self._progress_of(WRITE_TO_LOCAL_DISK)] -= 1
        histogram = self._durations.get(WRITE_TO_LOCAL_DISK) or self._seconds_of(WRITE_TO_LOCAL_DISK)
        histogram.observe(perf_counter() - began_s)

    # Steps of a write

    def step_began(self, step: str) -> float:
        """``step`` is `WRITE_TO_LOCAL_DISK` or `WRITE_TO_REPLICAS`; returns the time for `step_over`."""
        self._cells[self._progress_of(step)] += 1
        return perf_counter()

    def step_over(self, step: str, began_s: float) -> None:
        self._cells[self._progress_of(step)] -= 1
        self._seconds_of(step).observe(perf_counter() - began_s)

    @contextmanager
    def local_write(self) -> Iterator[None]:
        """Around a write to a disk of this node."""
        began_s = self.step_began(WRITE_TO_LOCAL_DISK)
        try:
            yield
        except Exception:
            self.happened(HandlerEvent.LOCAL_WRITE_FAILED)
            raise
        finally:
            self.step_over(WRITE_TO_LOCAL_DISK, began_s)

    @contextmanager
    def replication(self, operation: str, targets: int) -> Iterator[None]:
        """Around passing a ``write`` or ``delete`` on to so many other copies, also none."""
        self.replicates_to(targets)
        if not targets:
            yield
            return
        writes = operation == "write"
        began_s = self.step_began(WRITE_TO_REPLICAS) if writes else perf_counter()
        result = "success"
        try:
            yield
        except BaseException as error:
            result = "failure"
            self._recorder.count(families.REPLICATION_FAILURES, operation, _reason(error))
            if writes:
                self.happened(HandlerEvent.REPLICATION_FAILED)
            raise
        finally:
            self._recorder.count(families.REPLICATIONS, operation, result)
            self._recorder.histogram(families.REPLICATION_SECONDS, operation).observe(perf_counter() - began_s)
            if writes:
                self.step_over(WRITE_TO_REPLICAS, began_s)

    def replicates_to(self, targets: int) -> None:
        """A write or delete that was done here has so many other copies."""
        self._targets.observe(targets)

    # Single events

    def happened(self, event: HandlerEvent) -> None:
        """Something worth counting happened to a request."""
        self._recorder.count(families.HANDLER_EVENTS, event.value)

    def read_failed(self, event: HandlerEvent) -> None:
        """A read ends in `HandlerEvent.NOT_FOUND` or `HandlerEvent.INTERNAL`."""
        self.happened(event)
        self._recorder.count(families.READ_FAILURES)

    def invalid_needle(self) -> None:
        """A read asked for an id that was never stored, or whose volume is not here."""
        self._recorder.count(families.INVALID_NEEDLES)

    def corrupt_needle(self, kind: Corruption) -> None:
        """A stored record could not be trusted."""
        event = _CORRUPTIONS.get(kind)
        if event is not None:
            self.happened(event)

    def needle_repaired(self) -> None:
        """A needle in shards could be read only without one of them, whose bytes are wrong."""
        self._recorder.count(families.EC_REPAIRED)

    def disk_failed(self) -> None:
        """A disk could not read a shard: workers count what they read, fronts what fronts do."""
        self._recorder.count(families.IO_ERRORS)

    def write_failed(self) -> None:
        """A write or delete was answered with an error."""
        self._recorder.count(families.WRITE_FAILURES)

    def upload_failed(self, status: int) -> None:
        """An upload to another server failed; ``status`` 0: without an answer."""
        self._recorder.count(families.UPLOAD_ERRORS, str(status))

    def _progress_of(self, kind: str) -> int:
        cell = self._in_flight.get(kind)
        if cell is None:
            # DEVIATE: the reference makes a series of whatever word a client sends as a method.
            known = kind in _STANDARD or kind in (WRITE_TO_LOCAL_DISK, WRITE_TO_REPLICAS)
            cell = self._recorder.cell(families.IN_FLIGHT, kind if known else _INVALID)
            if known:
                self._in_flight[kind] = cell
        return cell

    def _seconds_of(self, kind: str) -> Histogram:
        histogram = self._durations.get(kind)
        if histogram is None:
            histogram = self._durations[kind] = self._recorder.histogram(families.SECONDS, kind)
        return histogram


def _unusual(method: str, public: bool) -> str:
    """The public port answers any method, and counts it under its name."""
    return method if public and method in _STANDARD else _INVALID


def _reason(error: BaseException) -> str:
    """Why a copy could not be written, as far as the reference tells apart."""
    text = str(error)
    if isinstance(error, CancelledError) or "cancel" in text:
        return "context_cancelled"
    if "timeout" in text or "deadline exceeded" in text:
        return "timeout"
    return "connection_refused" if "connection refused" in text else "server_error"
