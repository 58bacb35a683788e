"""Volumes with their data in a remote tier (docs/spec/grpc.md 5.2): opening them, and changing sides.

The order on the disk is what makes a kill at any point harmless: the `.vif` decides where the data are, is replaced as
a whole, and names only what is complete. An object is complete before it is named, and named no more before it is
removed; the same holds for the `.dat`.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from dataclasses import replace

from volumed.errors import ClientError, DiskError
from volumed.formats.superblock import SUPERBLOCK_LENGTH, superblock_length
from volumed.formats.vif import RemoteFile
from volumed.remote.backends import Backend, Backends
from volumed.remote.errors import RemoteError, UnknownBackend
from volumed.remote.transfer import Progress, download, upload
from volumed.storage.fileio import DistantFile, File, FileIO, error_text
from volumed.storage.site import COPYING
from volumed.storage.volume import Volume

__all__ = [
    "backend_for_fetch",
    "backend_for_upload",
    "fetch_data",
    "forget_remote",
    "name_remote",
    "open_remote",
    "remote_data",
    "remove_quietly",
    "upload_data",
]

_log = logging.getLogger(__name__)

_EXTENSION = ".dat"


def open_remote(backends: Backends, entry: RemoteFile, dat_path: str) -> DistantFile:
    """The data that a `.vif` names, with the superblock at hand. Waits for the backend. Raises `UnknownBackend`,
    `RemoteError`."""
    backend = backends.find(entry.backend_type, entry.backend_id)
    if backend is None:
        raise UnknownBackend.on_load(entry.backend_name)
    head = backend.read(entry.key, 0, SUPERBLOCK_LENGTH)
    if len(head) < SUPERBLOCK_LENGTH:
        raise RemoteError(f"{backend.name} object {entry.key} has only {len(head)} bytes")
    extra_bytes = superblock_length(head) - SUPERBLOCK_LENGTH
    if extra_bytes:
        head += backend.read(entry.key, SUPERBLOCK_LENGTH, extra_bytes)
    return remote_data(backend, entry, dat_path, head)


def remote_data(backend: Backend, entry: RemoteFile, dat_path: str, head: bytes) -> DistantFile:
    """The data behind an entry, as a file; ``head`` are their first bytes."""

    def fetch(offset: int, length: int) -> bytes:
        return backend.read(entry.key, offset, length)

    return DistantFile(dat_path, entry.file_size, entry.modified_time * 10**9, fetch, head)


def backend_for_upload(backends: Backends, destination: str, volume: Volume) -> Backend:
    """Where an upload goes. Raises `UnknownBackend`, `ClientError` (there already)."""
    backend = backends.destination(destination)
    if backend is None:
        raise UnknownBackend.as_destination(destination, backends.names)
    if any((entry.backend_type, entry.backend_id) == (backend.type, backend.id) for entry in volume.info.files):
        raise ClientError(f"destination {destination} already exists")
    return backend


def backend_for_fetch(backends: Backends, volume: Volume) -> Backend:
    """Where the data are. Raises `ClientError` (on the disk), `UnknownBackend`."""
    if not volume.info.files or not volume.is_remote:
        raise ClientError(f"volume {volume.volume_id} is already on local disk")
    entry = volume.info.files[0]
    backend = backends.find(entry.backend_type, entry.backend_id)
    if backend is None:
        raise UnknownBackend.as_source(entry.backend_name, backends.names)
    return backend


def upload_data(
    backend: Backend, destination: str, files: FileIO, path: str, progress: Progress, concurrency: int
) -> RemoteFile:
    """Store a `.dat`, under a fresh key; the entry that names it. Waits. Raises `RemoteError`, which speaks of the
    ``destination``; no object is left."""
    key = str(uuid.uuid4())
    try:
        file = files.open(path, writable=False)
        upload(backend, key, files, file, progress, backend.upload_concurrency(concurrency))
        found = backend.client.size(backend.bucket, key)
        if found != progress.total:
            raise RemoteError(f"{found} of {progress.total} bytes arrived")
    except (RemoteError, OSError) as error:
        remove_quietly(backend, key)
        text = error_text(error) if isinstance(error, OSError) else error.text
        raise RemoteError(f"backend {destination} copy file {path}: {text}") from None
    return RemoteFile(
        backend_type=backend.type,
        backend_id=backend.id,
        key=key,
        file_size=progress.total,
        modified_time=int(time.time()),
        extension=_EXTENSION,
    )


def fetch_data(
    backend: Backend, files: FileIO, entry: RemoteFile, path: str, progress: Progress, concurrency: int
) -> File:
    """Bring the data of an entry to ``path``, durably; the open file. Waits. Raises `RemoteError`; then nothing is
    left. ``progress.total`` becomes known on the way."""
    temporary = path + COPYING
    try:
        progress.total = backend.client.size(backend.bucket, entry.key)
        if progress.total != entry.file_size:
            raise RemoteError(f"object {entry.key} has {progress.total} bytes, not {entry.file_size}")
        file = files.open(temporary, create=True)
        files.truncate(file, progress.total)
        download(backend, entry.key, files, file, progress, backend.download_concurrency(concurrency))
        files.set_mtime(file, entry.modified_time * 10**9)
        files.sync(file)
        files.rename(temporary, path)
        files.sync_directory(os.path.dirname(path))
        return files.open(path)
    except (RemoteError, OSError) as error:
        files.remove(temporary)
        text = error_text(error) if isinstance(error, OSError) else error.text
        raise RemoteError(f"backend {backend.name} copy file {path}: {text}") from None


def remove_quietly(backend: Backend, key: str) -> None:
    """Remove an object that nothing names; a failure is only logged. Waits."""
    try:
        backend.client.delete(backend.bucket, key)
    except RemoteError as error:
        _log.error("%s object %s may be left: %s", backend.name, key, error.text)


def name_remote(volume: Volume, entry: RemoteFile) -> None:
    """Say in the `.vif` that the data are there. Raises `DiskError`; then they are not."""
    try:
        volume.save_info(replace(volume.info, files=(*volume.info.files, entry)))
    except OSError as error:
        raise DiskError(f"volume {volume.volume_id} failed to save remote file info: {error_text(error)}") from error


def forget_remote(volume: Volume) -> None:
    """Say in the `.vif` that the data are on the disk. Raises `DiskError`; then they are not."""
    try:
        volume.save_info(replace(volume.info, files=volume.info.files[1:]))
    except OSError as error:
        raise DiskError(f"volume {volume.volume_id} failed to save remote file info: {error_text(error)}") from error
