"""Whole files to and from an object store, several parts at a time (docs/spec/grpc.md 5.3, 5.4)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing, suppress
from typing import TypeVar

from volumed.remote.backends import Backend
from volumed.remote.errors import RemoteError
from volumed.storage.fileio import File, FileIO

__all__ = ["Progress", "download", "part_length", "upload"]

T = TypeVar("T")

_PART_BYTES = 64 << 20
_PARTS_MAX = 1000
_BLOCK_BYTES = 1 << 20
_ATTEMPTS = 3
_PAUSE_S = 1.0


class Progress:
    """How far a transfer is; any thread may look, or stop it."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def add(self, length: int) -> None:
        """So many bytes more are through. Raises `RemoteError` when the transfer is to stop."""
        with self._lock:
            self.done += length
        self.check()

    def stop(self) -> None:
        """End the transfer, as a failed one."""
        self._stopping.set()

    def check(self) -> None:
        """Raises `RemoteError` when the transfer is to stop."""
        if self._stopping.is_set():
            raise RemoteError("the transfer was stopped")

    def pause(self, seconds: float) -> None:
        """Wait, but not when the transfer is to stop."""
        self._stopping.wait(seconds)
        self.check()


def part_length(size: int) -> int:
    """Bytes of each part but the last."""
    length = _PART_BYTES
    while length * _PARTS_MAX < size:
        length *= 4
    return length


def upload(
    backend: Backend, key: str, files: FileIO, file: File, progress: Progress, concurrency: int
) -> None:
    """Store the first ``progress.total`` bytes of a file. Raises `RemoteError`, `OSError`; then there is no object."""
    client, bucket, length = backend.client, backend.bucket, part_length(progress.total)
    if progress.total <= length:
        section = _Section(files, file, 0, progress.total, progress)
        _patiently(progress, lambda: client.put(bucket, key, section.rewound(), backend.storage_class))
        progress.add(progress.total)
        return
    upload_id = client.start_parts(bucket, key, backend.storage_class)

    def send(number: int) -> str:
        at = number * length
        section = _Section(files, file, at, min(length, progress.total - at), progress)
        tag = _patiently(progress, lambda: client.put_part(bucket, key, upload_id, number + 1, section.rewound()))
        progress.add(len(section))
        return tag

    try:
        tags = _all(send, -(-progress.total // length), concurrency, progress)
        client.finish_parts(bucket, key, upload_id, tags)
    except BaseException:
        with suppress(RemoteError):
            client.drop_parts(bucket, key, upload_id)
        raise


def download(
    backend: Backend, key: str, files: FileIO, file: File, progress: Progress, concurrency: int
) -> None:
    """Write ``progress.total`` bytes of an object into a file. Raises `RemoteError`, `OSError`."""
    length = part_length(progress.total)

    def fetch(number: int) -> None:
        at, end = number * length, min((number + 1) * length, progress.total)

        def rest() -> None:
            # What an earlier attempt has written need not come again.
            nonlocal at
            with closing(backend.client.blocks(backend.bucket, key, at, end - at)) as blocks:
                for block in blocks:
                    files.write_at(file, at, [block])
                    at += len(block)
                    progress.add(len(block))
            if at < end:
                raise RemoteError.unreachable("the object ends too early")

        _patiently(progress, rest)

    if progress.total:
        _all(fetch, -(-progress.total // length), concurrency, progress)


def _all(work: Callable[[int], T], count: int, concurrency: int, progress: Progress) -> list[T]:
    """The results for 0 … count − 1; the first failure stops the others."""
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    with ThreadPoolExecutor(concurrency, thread_name_prefix="part") as pool:
        futures = [pool.submit(work, number) for number in range(count)]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        failed = next((future for future in done if future.exception() is not None), None)
        if failed is not None:
            progress.stop()
            pool.shutdown(cancel_futures=True)
            failed.result()
        return [future.result() for future in futures]


def _patiently(progress: Progress, work: Callable[[], T]) -> T:
    """Try again what may pass."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return work()
        except RemoteError as error:
            if not error.may_pass:
                raise
        progress.pause(attempt * _PAUSE_S)
    return work()


class _Section:
    """A part of a file, to be sent."""

    def __init__(self, files: FileIO, file: File, start: int, length: int, progress: Progress) -> None:
        self._files = files
        self._file = file
        self._start = start
        self._length = length
        self._progress = progress
        self._position = 0

    def __len__(self) -> int:
        return self._length

    def rewound(self) -> _Section:
        """At its start again."""
        self._position = 0
        return self

    def read(self, length: int = -1, /) -> bytes:
        self._progress.check()
        rest = self._length - self._position
        wanted = min(rest if length < 0 else length, rest, _BLOCK_BYTES)
        if not wanted:
            return b""
        data = self._files.read_at(self._file, self._start + self._position, wanted)
        if not data:
            raise OSError(f"{self._file.path} became shorter")
        self._position += len(data)
        return data

    def seek(self, position: int, /) -> int:
        self._position = position
        return position

    def tell(self) -> int:
        return self._position
